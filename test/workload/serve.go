package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// server answers every request with the status it was told last, 200 at first,
// and counts them. /healthz is always 200 and is not counted.
type server struct {
	name string

	mu       sync.Mutex
	status   int
	requests map[int]int // by status
	probes   int         // requests to /healthz
}

// counts is what the control address tells.
type counts struct {
	Name     string      `json:"name"`
	Status   int         `json:"status"`
	Requests map[int]int `json:"requests"`
	Probes   int         `json:"probes"`
}

func (s *server) answer(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	status := http.StatusOK
	if r.URL.Path == "/healthz" {
		s.probes++
	} else {
		status = s.status
		s.requests[status]++
	}
	s.mu.Unlock()
	// A body that was sent is read, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("X-Backend", s.name)
	w.WriteHeader(status)
	fmt.Fprintln(w, s.name)
}

func (s *server) counts(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(counts{s.name, s.status, s.requests, s.probes})
}

func (s *server) setStatus(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "status: 200 to 599", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.status = code
	s.mu.Unlock()
	s.counts(w, r)
}

func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	address := flags.String("listen", ":8080", "where to answer")
	controlAddress := flags.String("control", ":9090", "where to be told and asked")
	name := flags.String("name", "backend", "named in each answer")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s := &server{name: *name, status: http.StatusOK, requests: map[int]int{}}
	answers, orders := http.NewServeMux(), http.NewServeMux()
	answers.HandleFunc("/", s.answer)
	orders.HandleFunc("GET /counts", s.counts)
	orders.HandleFunc("POST /status/{code}", s.setStatus)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	for address, handler := range map[string]http.Handler{*address: answers, *controlAddress: orders} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		h := &http.Server{Handler: handler}
		running.Go(func() {
			if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serve %s: %w", address, err))
			}
		})
		defer h.Close()
	}
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// control tells a server the status to answer with, if one is given, and prints
// what it has counted.
func control(ctx context.Context, args []string, out io.Writer) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("control: an address, and perhaps a status")
	}
	method, path := http.MethodGet, "/counts"
	if len(args) == 2 {
		method, path = http.MethodPost, "/status/"+args[1]
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+args[0]+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("control %s: %s", args[0], response.Status)
	}
	_, err = io.Copy(out, response.Body)
	return err
}
