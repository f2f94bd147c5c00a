package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

// tally is what a client was answered.
type tally struct {
	Requests int `json:"requests"`
	// ByStatus counts answers by status, the kernel's own among them.
	ByStatus map[int]int `json:"by_status"`
	// ByBackend counts the answers of status 200 by who gave them.
	ByBackend map[string]int `json:"by_backend"`
	// ByKernel counts the kernel's own answers by their reason.
	ByKernel map[string]int `json:"by_kernel"`
	// Errors counts what got no answer: refused, reset, timeout or other.
	Errors map[string]int `json:"errors"`
	// Last is the text of the last error.
	Last string `json:"last,omitempty"`
}

func call(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("call", flag.ContinueOnError)
	count := flags.Int("count", 1, "requests")
	lasting := flags.Duration("for", 0, "go on for this long, whatever count says")
	pause := flags.Duration("pause", 0, "between two requests")
	timeout := flags.Duration("timeout", 2*time.Second, "of each request")
	keepAlive := flags.Bool("keep-alive", false, "use connections again")
	path := flags.String("path", "/", "of each request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("call: one ADDRESS:PORT")
	}
	client := &http.Client{
		Timeout:   *timeout,
		Transport: &http.Transport{DisableKeepAlives: !*keepAlive},
	}
	t := tally{ByStatus: map[int]int{}, ByBackend: map[string]int{}, ByKernel: map[string]int{}, Errors: map[string]int{}}
	until := time.Now().Add(*lasting)
	for ctx.Err() == nil {
		if *lasting > 0 && !time.Now().Before(until) || *lasting == 0 && t.Requests == *count {
			break
		}
		t.request(ctx, client, "http://"+flags.Arg(0)+*path)
		select {
		case <-ctx.Done():
		case <-time.After(*pause):
		}
	}
	return json.NewEncoder(out).Encode(t)
}

func (t *tally) request(ctx context.Context, client *http.Client, url string) {
	t.Requests++
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.failed(err)
		return
	}
	response, err := client.Do(request)
	if err != nil {
		t.failed(err)
		return
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.failed(err)
		return
	}
	t.ByStatus[response.StatusCode]++
	if reason := response.Header.Get("X-Cbagent-Reason"); reason != "" {
		t.ByKernel[reason]++
	}
	if response.StatusCode == http.StatusOK {
		t.ByBackend[response.Header.Get("X-Backend")]++
	}
}

func (t *tally) failed(err error) {
	kind := "other"
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		kind = "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		kind = "reset"
	case errors.As(err, &timeout) && timeout.Timeout():
		kind = "timeout"
	}
	t.Errors[kind]++
	t.Last = err.Error()
}
