// Package ring measures the least that news from the kernel and an answer to it can cost: a program writes the time
// into a ring buffer, a sleeping reader wakes up, looks at the clock, and writes into a map. It does so as a process of
// its own at a hook of its own, so that it meets what an agent meets there: traffic that keeps the cores busy.
package ring

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"
)

// Options of a measurement.
type Options struct {
	Interface string // in the network namespace of the process
	Longer    int    // packets that enter there and have more bytes than that are told
	Samples   int
}

// Samples are times in microseconds, in the order in which they were taken.
type Samples struct {
	Wake  []float64 // from the program's clock to the reader's
	Write []float64 // of a map write
}

// Both returns the sums.
func (s Samples) Both() []float64 {
	both := make([]float64, len(s.Wake))
	for i := range both {
		both[i] = s.Wake[i] + s.Write[i]
	}
	return both
}

// Ready is what Main prints when the program is attached.
const Ready = "ready"

// patience with traffic that does not come.
const patience = 2 * time.Minute

// Main takes samples with the options that are the argument, as JSON.
func Main(_ context.Context, argument string) (Samples, error) {
	var o Options
	if err := json.Unmarshal([]byte(argument), &o); err != nil {
		return Samples{}, fmt.Errorf("ring: %w", err)
	}
	i, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return Samples{}, fmt.Errorf("ring: find %s: %w", o.Interface, err)
	}
	f, err := openFloor(i.Index, o.Longer)
	if err != nil {
		return Samples{}, err
	}
	if err := json.NewEncoder(os.Stdout).Encode(Ready); err != nil {
		return Samples{}, fmt.Errorf("ring: %w", err)
	}
	got, err := f.sample(o.Samples)
	if e := f.close(); err == nil {
		err = e
	}
	return got, err
}
