// Package connlimit limits how many connections an HTTP server has at once. A connection that waits for a request costs its
// client nothing and the server some kilobytes: without a limit any client that reaches a port can use up the memory.
package connlimit

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener accepts a limited number of connections for an http.Server whose ConnState is the method of that name. For a new
// one above the limit, it closes the connection that has waited longest for a request. If all are busy the new one gets an
// answer and is closed. Its methods may be called from any goroutine.
type Listener struct {
	net.Listener
	most     int
	answer   []byte
	lingerer chan struct{} // a place for each rejected connection that is waited for

	mu     sync.Mutex
	open   map[net.Conn]waiting
	counts Counts
}

// waiting says since when a connection has no request; the zero time: it has one.
type waiting struct{ since time.Time }

// Counts are the connections of a Listener.
type Counts struct {
	Open     int    // now
	Evicted  uint64 // closed while they waited for a request, to make room
	Rejected uint64 // answered and closed at once, since all others were busy
}

// New limits a listener to so many connections, 1 or more. A client above the limit gets the answer, a complete HTTP
// response that closes the connection.
func New(l net.Listener, most int, answer string) *Listener {
	return &Listener{Listener: l, most: most, answer: []byte(answer), lingerer: make(chan struct{}, most), open: map[net.Conn]waiting{}}
}

// Accept returns the next connection for which there is room.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.take(c) {
			return c, nil
		}
		l.reject(c)
	}
}

// take makes room for a connection if that is possible.
func (l *Listener) take(c net.Conn) bool {
	l.mu.Lock()
	var evicted net.Conn
	room := len(l.open) < l.most
	if !room {
		if evicted = l.longestWaiting(); evicted != nil {
			delete(l.open, evicted)
			l.counts.Evicted++
			room = true
		}
	}
	if room {
		l.open[c] = waiting{time.Now()}
	} else {
		l.counts.Rejected++
	}
	l.mu.Unlock()
	if evicted != nil {
		_ = evicted.Close() // the server's read of it fails, which ends it there
	}
	return room
}

// longestWaiting returns nil when all are busy. The lock is held.
func (l *Listener) longestWaiting() net.Conn {
	var longest net.Conn
	var since time.Time
	for c, w := range l.open {
		if !w.since.IsZero() && (longest == nil || w.since.Before(since)) {
			longest, since = c, w.since
		}
	}
	return longest
}

// ConnState follows the states of a connection. It is for http.Server.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[c]; !ok {
		return // evicted
	}
	switch state {
	case http.StateIdle:
		l.open[c] = waiting{time.Now()}
	case http.StateActive:
		l.open[c] = waiting{}
	case http.StateClosed, http.StateHijacked:
		delete(l.open, c)
	}
}

// Counts returns the numbers of now.
func (l *Listener) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := l.counts
	counts.Open = len(l.open)
	return counts
}

// linger is how long a rejected client may take to send its request and to read its answer.
const linger = time.Second

// reject answers a connection and closes it. It answers after the client has sent data, because clients take an earlier
// answer for an error. It closes after the client has closed, because a close with unread data resets the connection, and
// the client loses the answer. A limited number of goroutines wait for that; above it, reject answers at once.
func (l *Listener) reject(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(linger))
	select {
	case l.lingerer <- struct{}{}:
	default:
		_, _ = c.Write(l.answer) // never waits: the socket's buffer is empty
		_ = c.Close()
		return
	}
	go func() {
		defer func() { <-l.lingerer }()
		defer func() { _ = c.Close() }()
		var first [1]byte
		if _, err := c.Read(first[:]); err != nil {
			return
		}
		_, err := c.Write(l.answer)
		if half, ok := c.(interface{ CloseWrite() error }); err == nil && ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
}
