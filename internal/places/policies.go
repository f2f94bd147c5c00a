package places

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrNoPolicy is the error of a table of policies without a free place.
var ErrNoPolicy = errors.New("the table of policies is full: raise --max-policies")

// PolicyKernel is the part of the datapath that Policies uses.
type PolicyKernel interface {
	SetExemptSources(policy int, sources []netip.Prefix) error
}

// Policies are the places of compiled policies. The agent's lock protects them.
type Policies struct {
	kernel  PolicyKernel
	size    int
	free    slots
	retired []slot // policies that programs may still read
}

// NewPolicies returns the places of a table of that size, all free.
func NewPolicies(k PolicyKernel, size int) *Policies { return &Policies{kernel: k, size: size} }

// Adopt reserves the places that a former agent used for a minute: its policies may be in force until then.
func (p *Policies) Adopt(used map[int]bool, now int64) { p.free.reserve(used, now+int64(adopted)) }

// Take returns a free place, or ErrNoPolicy.
func (p *Policies) Take(now int64) (int, error) {
	id, ok := p.free.take(now, p.size)
	if !ok {
		return 0, ErrNoPolicy
	}
	return id, nil
}

// Retire releases the place of a policy that no circuit refers to any more.
func (p *Policies) Retire(id int, now int64) { p.retired = append(p.retired, slot{id, now + rest}) }

// Reuse frees retired places that no program reads any more. An error says that exempt clients of a former policy may be
// left there; the places are free nevertheless.
func (p *Policies) Reuse(now int64) error {
	var errs []error
	n := 0
	for ; n < len(p.retired) && p.retired[n].from <= now; n++ {
		id := p.retired[n].id
		if err := p.kernel.SetExemptSources(id, nil); err != nil {
			errs = append(errs, fmt.Errorf("policy %d: %w", id, err))
		}
		p.free.give(id, now)
	}
	p.retired = p.retired[n:]
	return errors.Join(errs...)
}
