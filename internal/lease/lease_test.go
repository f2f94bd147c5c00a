package lease

import (
	"testing"
	"time"
)

// kernel notes until when the lease runs.
type kernel struct {
	until   int64
	renewed int
	expired uint64
}

func (k *kernel) RenewLease(until int64) { k.until, k.renewed = until, k.renewed+1 }
func (k *kernel) LeaseExpired() uint64   { return k.expired }

// An event loop that turns ten times a second never comes nearer to the end of its lease than three quarters of the length,
// less a turn, and renews it no more often than needed.
func TestRenew(t *testing.T) {
	const turn = int64(100 * time.Millisecond)
	for length, every := range map[time.Duration]int64{
		10 * time.Second: int64(time.Second), time.Minute: int64(time.Second), 4 * time.Second: int64(time.Second),
		2 * time.Second: int64(500 * time.Millisecond),
	} {
		k := &kernel{}
		l := New(k, length, 0)
		turns := int64(0)
		for now := int64(5); now < int64(time.Minute); now += turn {
			turns++
			l.Renew(now)
			if left := k.until - now; left <= int64(length)-every {
				t.Fatalf("%s: %s are left at %s", length, time.Duration(left), time.Duration(now))
			}
		}
		if want := int((turns*turn + every - 1) / every); k.renewed != want {
			t.Errorf("%s: renewed %d times in a minute, want %d", length, k.renewed, want)
		}
	}
}

// What is counted is reported once, also across a restart of the agent, and from 0 when the maps are new.
func TestAdmitted(t *testing.T) {
	const second = int64(time.Second)
	k := &kernel{expired: 7}
	l := New(k, time.Second, 5)
	for _, s := range []struct {
		name            string
		now             int64
		expired         uint64
		admitted, total uint64
	}{
		{"since the agent before", 1, 7, 2, 7},
		{"too early", second, 9, 0, 7},
		{"a second later", second + 1, 9, 2, 9},
		{"none", 2*second + 1, 9, 0, 9},
		{"new maps", 3*second + 1, 3, 3, 3},
	} {
		k.expired = s.expired
		if n, total := l.Admitted(s.now); n != s.admitted || total != s.total {
			t.Errorf("%s: %d of %d, want %d of %d", s.name, n, total, s.admitted, s.total)
		}
	}
}
