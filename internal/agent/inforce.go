package agent

import (
	"log/slog"
	"time"

	"github.com/cbagent/cbagent/internal/attach"
	"github.com/cbagent/cbagent/internal/breaker"
	"github.com/cbagent/cbagent/internal/discovery"
	"github.com/cbagent/cbagent/internal/ledger"
	"github.com/cbagent/cbagent/internal/places"
	"github.com/cbagent/cbagent/internal/policy"
	"github.com/cbagent/cbagent/internal/records"
	"github.com/cbagent/cbagent/internal/statedir"
	"github.com/cbagent/cbagent/internal/tables"
)

// inForce holds the policies in force, their backends and the circuits of these: the content of the kernel's tables.
// Agent.mu protects it.
type inForce struct {
	cfg       *Config
	log       *slog.Logger
	dp        datapath
	clock     func() int64 // the kernel's monotonic time in ns
	addresses *attach.Addresses
	records   *records.Records
	saver     *statedir.Saver

	set       *policy.Set // nil before there is one
	loaded    time.Time   // when it was put in force
	policies  map[string]*policyState
	standing  map[string]breaker.Override // of whole policies, for backends that come later
	inherited inheritance

	book      *ledger.Book
	circuits  []*circuitState         // by index in the kernel; nil: free
	assigners [2]discovery.Assigner   // by direction
	unplaced  map[tables.Backend]bool // backends for which there was no circuit
	crowded   bool                    // that was logged

	circuitPlaces *places.Circuits
	policyPlaces  *places.Policies
	answers       *places.Answers
}

// newInForce returns what is in force without policies. It has no saver and no records yet.
func newInForce(cfg *Config, dp datapath, clock func() int64) inForce {
	return inForce{
		cfg: cfg, log: cfg.Logger, dp: dp, clock: clock, addresses: attach.NewAddresses(cfg.Logger, cfg.NodeName),
		policies: map[string]*policyState{}, standing: map[string]breaker.Override{},
		book: ledger.NewBook(dp, clock()), unplaced: map[tables.Backend]bool{},
		circuitPlaces: places.NewCircuits(dp, cfg.circuitTable()),
		policyPlaces:  places.NewPolicies(dp, cfg.policyTable()),
		answers:       places.NewAnswers(dp, cfg.answerTable()),
	}
}

// circuitCount returns how many circuits there are.
func (f *inForce) circuitCount() int {
	n := 0
	for _, p := range f.policies {
		n += len(p.circuits)
	}
	return n
}

// reported reports whether discovery has reported the backends of each policy.
func (f *inForce) reported() bool {
	for _, p := range f.policies {
		if !p.reported {
			return false
		}
	}
	return true
}
