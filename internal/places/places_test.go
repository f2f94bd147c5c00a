package places

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cbagent/cbagent/internal/tables"
)

const second = int64(time.Second)

var errFake = errors.New("the kernel rejects it")

// kernel is the tables in memory.
type kernel struct {
	connections map[int]uint64
	released    []int
	forgotten   []int
	exempt      []int
	answers     map[int]string
	err         error
}

func (k *kernel) Release(circuit int)            { k.released = append(k.released, circuit) }
func (k *kernel) Connections(circuit int) uint64 { return k.connections[circuit] }

func (k *kernel) ForgetStatuses(circuits map[int]bool) error {
	for id := range circuits {
		k.forgotten = append(k.forgotten, id)
	}
	slices.Sort(k.forgotten)
	return k.err
}

func (k *kernel) SetExemptSources(policy int, sources []netip.Prefix) error {
	if sources != nil {
		return fmt.Errorf("policy %d: %v are exempted", policy, sources)
	}
	k.exempt = append(k.exempt, policy)
	return k.err
}

func (k *kernel) PutAnswer(index int, a tables.Answer) error {
	if k.err != nil {
		return k.err
	}
	k.answers[index] = string(a.Bytes)
	return nil
}

func newKernel() *kernel { return &kernel{connections: map[int]uint64{}, answers: map[int]string{}} }

func wantTaken(t *testing.T, what string, c *Circuits, now int64, want int) {
	t.Helper()
	if id, ok := c.Take(now); ok != (want >= 0) || ok && id != want {
		t.Errorf("%s: took %d, %v; want %d", what, id, ok, want)
	}
}

// A circuit's place is not used again as long as a connection refers to it, nor while a program may read it.
func TestCircuitWithConnectionsIsNotReused(t *testing.T) {
	k := newKernel()
	c := NewCircuits(k, 2)
	wantTaken(t, "first", c, 0, 0)
	wantTaken(t, "second", c, 0, 1)
	k.connections[0] = 1
	c.Release(0, 0)
	c.Release(1, 0)
	if !slices.Equal(k.released, []int{0, 1}) {
		t.Errorf("%v are released", k.released)
	}
	reuse := func(now int64, want bool) {
		t.Helper()
		if freed, err := c.Reuse(now); freed != want || err != nil {
			t.Errorf("at %d: freed %v, %v; want %v", now, freed, err, want)
		}
	}
	reuse(second-1, false)
	wantTaken(t, "while a program may read it", c, second-1, -1)
	reuse(second, true)
	wantTaken(t, "without connections", c, second, 1)
	wantTaken(t, "with a connection", c, second, -1)
	reuse(3600*second, false)
	wantTaken(t, "with a connection, an hour later", c, 3600*second, -1)
	k.connections[0] = 0
	reuse(3600*second+1, true)
	wantTaken(t, "when its last connection has gone", c, 3600*second+1, 0)
	reuse(3601*second, false)
	if !slices.Equal(k.forgotten, []int{0, 1}) {
		t.Errorf("counts of %v are removed, want of both, once", k.forgotten)
	}
}

// A place is free also when the counts of its former circuit could not be removed.
func TestReuseReportsErrors(t *testing.T) {
	k := newKernel()
	k.err = errFake
	c := NewCircuits(k, 1)
	wantTaken(t, "first", c, 0, 0)
	c.Release(0, 0)
	if freed, err := c.Reuse(second); !freed || !errors.Is(err, errFake) {
		t.Errorf("freed %v, %v; want true, %v", freed, err, errFake)
	}
	wantTaken(t, "again", c, second, 0)
}

// Of a former agent's circuits those in use are kept until they are released; those with connections but no backend are
// released at once.
func TestAdoptCircuits(t *testing.T) {
	k := newKernel()
	k.connections[1], k.connections[3] = 5, 2
	c := NewCircuits(k, 5)
	if c.Size() != 5 {
		t.Errorf("the size is %d", c.Size())
	}
	if n := c.Adopt(map[int]bool{0: true, 1: true}, 0); n != 1 || !slices.Equal(k.released, []int{3}) {
		t.Errorf("%d unclaimed, released %v; want 3 only", n, k.released)
	}
	wantTaken(t, "never used", c, 0, 2)
	wantTaken(t, "never used", c, 0, 4)
	wantTaken(t, "all others are kept", c, 3600*second, -1)
	k.connections[3] = 0
	if freed, _ := c.Reuse(second); !freed {
		t.Error("the unclaimed place is not freed without connections")
	}
	wantTaken(t, "unclaimed", c, second, 3)
}

// A policy's place rests before it is used again, and takes no exempt clients along.
func TestPolicies(t *testing.T) {
	k := newKernel()
	p := NewPolicies(k, 2)
	p.Adopt(map[int]bool{1: true}, 0)
	take := func(now int64, want int) {
		t.Helper()
		id, err := p.Take(now)
		if (want < 0) != errors.Is(err, ErrNoPolicy) || err == nil && id != want {
			t.Errorf("at %d: took %d, %v; want %d", now, id, err, want)
		}
	}
	take(0, 0)
	take(60*second-1, -1)
	take(60*second, 1)
	p.Retire(1, 100*second)
	if err := p.Reuse(101*second - 1); err != nil {
		t.Error(err)
	}
	take(101*second-1, -1)
	k.err = errFake
	if err := p.Reuse(101 * second); !errors.Is(err, errFake) {
		t.Errorf("got %v, want %v", err, errFake)
	}
	take(101*second, 1)
	if !slices.Equal(k.exempt, []int{1}) {
		t.Errorf("exempt clients of %v are removed", k.exempt)
	}
}

// Equal answers share a place, which stays as long as the last of them and a minute more.
func TestAnswers(t *testing.T) {
	k := newKernel()
	a := NewAnswers(k, 2)
	put := func(text string, now int64, want int) *Answer {
		t.Helper()
		got, err := a.Put(tables.Answer{Bytes: []byte(text)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != want || k.answers[want] != text {
			t.Errorf("%s: at place %d; want %d, which holds %q", text, got.Index, want, k.answers[want])
		}
		return got
	}
	one := put("one", 0, 0)
	if again := put("one", 0, 0); again != one {
		t.Error("the same answer is kept twice")
	}
	two := put("two", 0, 1)
	if _, err := a.Put(tables.Answer{Bytes: []byte("three")}, 0); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a full table: %v", err)
	}
	a.Release(one, 0)
	a.Release(two, 0)
	if _, err := a.Put(tables.Answer{Bytes: []byte("three")}, 60*second-1); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("an answer that may be sent again is replaced: %v", err)
	}
	put("one", 60*second-1, 0)
	k.err = errFake
	if _, err := a.Put(tables.Answer{Bytes: []byte("three")}, 60*second); !errors.Is(err, errFake) {
		t.Errorf("got %v, want %v", err, errFake)
	}
	k.err = nil
	put("three", 60*second, 1)
}

// The places of a former agent's answers are kept for a minute.
func TestAdoptAnswers(t *testing.T) {
	a := NewAnswers(newKernel(), 1)
	a.Adopt(map[int]bool{0: true}, 0)
	if _, err := a.Put(tables.Answer{}, 60*second-1); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("it is replaced: %v", err)
	}
	if _, err := a.Put(tables.Answer{}, 60*second); err != nil {
		t.Error(err)
	}
}
