package testserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Listen opens a listener, usually that of a network namespace.
type Listen func(netip.AddrPort) (net.Listener, error)

// Server is a server of HTTP/1.1 and of HTTP/2 in clear text, on one or more addresses. Its methods may be called concurrently.
type Server struct {
	listen Listen
	addrs  []netip.AddrPort
	http   *http.Server

	decide  atomic.Pointer[Decide]
	split   atomic.Int64
	resets  atomic.Bool
	counts  counters
	closing chan struct{}

	mu        sync.Mutex
	listeners []net.Listener // empty while refusing
	serving   sync.WaitGroup
	closed    bool
}

// New starts a server that answers 200. The caller closes it.
func New(listen Listen, addrs ...netip.AddrPort) (*Server, error) {
	s := &Server{listen: listen, addrs: addrs, closing: make(chan struct{})}
	s.Set(Behaviour{})
	s.http = &http.Server{Handler: http.HandlerFunc(s.handle), Protocols: new(http.Protocols)}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	if err := s.Accept(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Set makes the server behave in one way from the next request on.
func (s *Server) Set(b Behaviour) { s.SetDecide(Always(b)) }

// SetDecide makes the server use d from the next request on.
func (s *Server) SetDecide(d Decide) { s.decide.Store(&d) }

// SetSplit makes the server send the first 64 bytes of everything that it writes in segments of n bytes; 0 ends that.
func (s *Server) SetSplit(n int) { s.split.Store(int64(n)) }

// SetResetOnAccept makes the server reset each new connection as soon as it is accepted.
func (s *Server) SetResetOnAccept(on bool) { s.resets.Store(on) }

// Counts returns the counts so far.
func (s *Server) Counts() Counts { return s.counts.read() }

// Refuse closes the ports: new connections are refused, open ones stay.
func (s *Server) Refuse() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, l := range s.listeners {
		errs = append(errs, closePort(l))
	}
	s.listeners = nil
	s.serving.Wait()
	return errors.Join(errs...)
}

// Accept opens the ports again after Refuse. If they are open it does nothing.
func (s *Server) Accept() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return http.ErrServerClosed
	}
	if len(s.listeners) > 0 {
		return nil
	}
	for _, addr := range s.addrs {
		l, err := s.listen(addr)
		if err != nil {
			return fmt.Errorf("test server: %w", err)
		}
		s.listeners = append(s.listeners, l)
		s.serving.Go(func() {
			// Ends with the listener, which Refuse and Close close.
			_ = s.http.Serve(&listener{Listener: l, server: s})
		})
	}
	return nil
}

// Close ends all connections and closes the ports. A second call does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	err := s.Refuse()
	return errors.Join(err, s.http.Close())
}

// handle serves one request with the decided behaviour.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	n := s.counts.requests.Add(1) - 1
	b := (*s.decide.Load())(r, n)
	if !b.Early {
		read, err := io.Copy(io.Discard, r.Body)
		s.counts.bodyBytes.Add(uint64(read))
		if err != nil {
			s.counts.abandoned.Add(1)
			panic(http.ErrAbortHandler)
		}
	}
	if b.Delay > 0 && !s.wait(r, b.Delay) {
		s.counts.abandoned.Add(1)
		panic(http.ErrAbortHandler)
	}
	if b.Ending == EndAnswer {
		s.answer(w, b)
		return
	}
	s.end(w, r, b.Ending)
}

// wait returns false if the client goes away, or the server is closed, before d has passed.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

func (s *Server) answer(w http.ResponseWriter, b Behaviour) {
	for _, status := range b.Interim {
		w.WriteHeader(status)
	}
	status := b.Status
	if status == 0 {
		status = http.StatusOK
	}
	if b.Close {
		w.Header().Set("Connection", "close")
	}
	if !b.Chunked && status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(b.Body)))
	}
	s.counts.byStatus[status].Add(1)
	w.WriteHeader(status)
	if b.Chunked {
		_ = http.NewResponseController(w).Flush() // the client may be gone, and is counted all the same
	}
	_, _ = w.Write(b.Body)
}

// end ends the request in another way than with an answer.
func (s *Server) end(w http.ResponseWriter, r *http.Request, e Ending) {
	if e == EndHang {
		s.counts.hung.Add(1)
		select {
		case <-r.Context().Done():
		case <-s.closing:
		}
		panic(http.ErrAbortHandler)
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err) // HTTP/1.1 over TCP can always be taken over
	}
	switch e {
	case EndReset:
		s.counts.resets.Add(1)
		reset(conn)
	case EndResetMidHead:
		s.counts.midHeadResets.Add(1)
		_, _ = io.WriteString(conn, "HTTP/1.1 2")
		reset(conn)
	case EndClose:
		s.counts.closes.Add(1)
		_ = conn.Close()
	}
}
