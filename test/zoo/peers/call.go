package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// call is one call as its client saw it.
type call struct {
	At      int64  `json:"at"` // its begin, in nanoseconds of Unix time
	Took    int64  `json:"us"` // in microseconds
	Do      string `json:"do"`
	Status  int    `json:"status,omitempty"`  // of HTTP, unless the client is a gRPC client
	Code    int    `json:"code"`              // of gRPC; -1 for other clients
	Message string `json:"message,omitempty"` // of gRPC
	Reason  string `json:"reason,omitempty"`  // the header X-Cbagent-Reason
	Size    int    `json:"size"`              // of the response, without its head
	Count   int    `json:"count,omitempty"`   // of the messages of a stream
	Body    string `json:"body,omitempty"`    // the first bytes of the response
	Error   string `json:"error,omitempty"`   // of a call without a status
}

// maxBody is how many bytes of a response a call shows.
const maxBody = 200

// show takes the body of a response.
func (c *call) show(body []byte) {
	c.Size += len(body)
	c.Body = string(body[:min(len(body), maxBody)])
}

// printer prints calls.
type printer struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newPrinter() *printer { return &printer{out: json.NewEncoder(os.Stdout)} }

func (p *printer) print(v any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.out.Encode(v); err != nil { // nobody reads on
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// work makes the calls: one makes a single one, within the order's deadline.
func work(ctx context.Context, o options, one func(context.Context, order) call) error {
	var ends <-chan struct{}
	if o.calls == 0 {
		ends = inputEnds()
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	out := newPrinter()
	for range o.atOnce {
		workers.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if o.calls > 0 && n >= o.calls {
					return
				}
				do := o.do[n%len(o.do)]
				at := time.Now()
				c := limited(ctx, do, one)
				c.At, c.Took, c.Do = at.UnixNano(), time.Since(at).Microseconds(), do.path
				out.print(c)
				select {
				case <-ends:
					return
				case <-time.After(o.pause):
				}
			}
		})
	}
	workers.Wait()
	return nil
}

// limited makes a call that the client ends early if its order says so.
func limited(ctx context.Context, do order, one func(context.Context, order) call) call {
	if d := do.duration("deadline"); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if d := do.duration("cancel"); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer time.AfterFunc(d, cancel).Stop()
	}
	return one(ctx, do)
}

// request sends one HTTP request.
func request(ctx context.Context, client *http.Client, o options, do order) call {
	c := call{Code: -1}
	var body io.Reader
	if o.body > 0 {
		body = io.LimitReader(letters{}, int64(o.body))
	}
	r, err := http.NewRequestWithContext(ctx, o.method, "http://"+o.address+"/"+do.path, body)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	r.ContentLength = int64(o.body)
	response, err := client.Do(r)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	defer func() { _ = response.Body.Close() }()
	c.Reason = response.Header.Get("X-Cbagent-Reason")
	got, err := io.ReadAll(response.Body)
	c.show(got)
	if err != nil {
		c.Error = err.Error()
		return c
	}
	c.Status = response.StatusCode
	return c
}

// letters is an endless body.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}
