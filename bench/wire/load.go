package wire

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Load is a closed loop: each client begins the next request when the one before has ended.
type Load struct {
	Target   netip.AddrPort
	Clients  int           // at once; each on a thread of its own
	For      time.Duration // then it ends; 1 ms..10 min
	Requests int           // or after so many, if that comes first; 0 = no such end
	KeepOpen bool          // keep connections as long as the server lets us; else a new one for each request
	Connect  bool          // only connect: no request is sent
	GRPC     bool          // requests are unary calls of gRPC in clear text
	Patience time.Duration // how long to wait for an answer; default 2 s
}

// Result is what became of a load.
type Result struct {
	Requests  int
	ByStatus  map[int]int    // answers; of calls by their grpc-status
	Errors    map[string]int // what ended without an answer; "ECONNREFUSED" of a RST to a SYN
	Elapsed   time.Duration
	P50       time.Duration // of the requests' latencies, connecting included
	P90       time.Duration
	P99       time.Duration
	P999      time.Duration
	Mean      time.Duration
	Connected int           // connections that were opened
	CPU       time.Duration // of this process
}

// Rate returns requests per second.
func (r Result) Rate() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Failed returns how many requests ended without an answer.
func (r Result) Failed() int {
	n := 0
	for _, of := range r.Errors {
		n += of
	}
	return n
}

// Run sends the load from the network namespace of this process.
func (l Load) Run() (Result, error) {
	if l.Clients < 1 || l.For < time.Millisecond || l.For > 10*time.Minute || !l.Target.Addr().Is4() {
		return Result{}, fmt.Errorf("load: needs clients, an IPv4 target and 1 ms to 10 min of time, got %+v", l)
	}
	if l.Patience == 0 {
		l.Patience = 2 * time.Second
	}
	// A blocked thread holds no processor for long, but must find one when it wakes up.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(l.Clients + 2))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))

	clients := make([]client, l.Clients)
	var begun atomic.Int64
	var done sync.WaitGroup
	cpu := ownCPU()
	began := time.Now()
	for i := range clients {
		clients[i] = client{load: l, fd: -1, status: map[int]int{}, errs: map[string]int{}, begun: &begun, until: began.Add(l.For)}
		done.Go(clients[i].work)
	}
	done.Wait()
	r := Result{ByStatus: map[int]int{}, Errors: map[string]int{}, Elapsed: time.Since(began), CPU: ownCPU() - cpu}
	var all []uint32
	var errs []error
	for _, c := range clients {
		errs = append(errs, c.broken)
		all = append(all, c.latencies...)
		r.Connected += c.connected
		for status, n := range c.status {
			r.ByStatus[status] += n
		}
		for what, n := range c.errs {
			r.Errors[what] += n
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	r.Requests = len(all)
	if r.Requests == 0 {
		return r, fmt.Errorf("load: not one request of %s ended in %s", l.Target, l.For)
	}
	slices.Sort(all)
	at := func(p float64) time.Duration {
		return time.Duration(all[min(int(math.Ceil(float64(len(all))*p)), len(all))-1])
	}
	r.P50, r.P90, r.P99, r.P999 = at(0.5), at(0.9), at(0.99), at(0.999)
	var sum int64
	for _, ns := range all {
		sum += int64(ns)
	}
	r.Mean = time.Duration(sum / int64(len(all)))
	return r, nil
}

func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
