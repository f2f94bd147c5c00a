package breaker

import "net/netip"

// minClientsKept is the number of distinct clients up to which they are counted exactly, whatever the policy.
const minClientsKept = 16

// clients are the clients whose requests failed, the latest failure first, each once. It keeps as many as the largest
// number in a policy's trippers, which is enough to decide whether there are that many.
type clients []client

type client struct {
	addr netip.Addr
	at   int64 // time window: number of the bucket; count window: ordinal of the outcome
}

// add moves addr to the front.
func (l *clients) add(addr netip.Addr, at int64, keep int) {
	if !addr.IsValid() {
		return
	}
	i := 0
	for i < len(*l) && (*l)[i].addr != addr {
		i++
	}
	switch {
	case i < len(*l):
	case len(*l) < keep:
		*l = append(*l, client{})
	default:
		i--
	}
	copy((*l)[1:i+1], (*l)[:i])
	(*l)[0] = client{addr: addr, at: at}
}

// since counts those that failed after at.
func (l clients) since(at int64) int {
	for i := range l {
		if l[i].at <= at {
			return i
		}
	}
	return len(l)
}
