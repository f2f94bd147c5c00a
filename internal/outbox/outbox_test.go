package outbox

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

const patience = 10 * time.Second

// receiver notes what it gets. It may be slow, or fail.
type receiver struct {
	open chan struct{} // a delivery waits until it is closed
	err  error
	got  []string // to be read when the outbox is closed
}

func (r *receiver) deliver(n int) error {
	<-r.open
	if r.err != nil {
		return r.err
	}
	r.got = append(r.got, fmt.Sprint(n))
	return nil
}

func (r *receiver) report(dropped uint64) { r.got = append(r.got, fmt.Sprint("dropped ", dropped)) }

func TestSlowReceiver(t *testing.T) {
	r := receiver{open: make(chan struct{})}
	o := New(3, r.deliver, r.report)
	o.Put(0)
	deadline := time.Now().Add(patience)
	for o.Waiting() > 0 { // until the goroutine has it
		if time.Now().After(deadline) {
			t.Fatal("the first item is not delivered")
		}
		time.Sleep(time.Millisecond)
	}
	for n := 1; n <= 10; n++ {
		o.Put(n)
	}
	if got := fmt.Sprint(o.Waiting(), o.Dropped()); got != "3 7" {
		t.Errorf("%s items wait and are dropped, want 3 7", got)
	}
	if o.Close(time.Millisecond) {
		t.Error("closed in time, though nothing was delivered")
	}
	close(r.open)
	if !o.Close(patience) {
		t.Fatal("not closed, though the receiver goes on")
	}
	if want := []string{"0", "1", "2", "3", "dropped 7"}; !slices.Equal(r.got, want) {
		t.Errorf("delivered %q, want %q", r.got, want)
	}
	o.Put(11)
	if got := o.Dropped(); got != 8 {
		t.Errorf("%d dropped, want 8: one came after the end", got)
	}
}

// Close loses nothing that was put before it.
func TestCloseDeliversAll(t *testing.T) {
	r := receiver{open: make(chan struct{})}
	close(r.open)
	o := New(100, r.deliver, r.report)
	var want []string
	for n := range 100 {
		o.Put(n)
		want = append(want, fmt.Sprint(n))
	}
	if !o.Close(patience) {
		t.Fatal("not closed in time")
	}
	if !slices.Equal(r.got, want) {
		t.Errorf("delivered %q, want 0 to 99", r.got)
	}
}

// While deliveries fail there is no report.
func TestFailingReceiver(t *testing.T) {
	r := receiver{open: make(chan struct{}), err: errors.New("broken pipe")}
	close(r.open)
	o := New(10, r.deliver, r.report)
	for n := range 5 {
		o.Put(n)
	}
	if !o.Close(patience) {
		t.Fatal("not closed in time")
	}
	if got := o.Dropped(); got != 5 || len(r.got) > 0 {
		t.Errorf("%d dropped, want 5; reported %q, want nothing", got, r.got)
	}
}
