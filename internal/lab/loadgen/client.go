package loadgen

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Dial connects; that of a network namespace, or net.Dialer's.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Request is what a client sends. The zero value is GET /.
type Request struct {
	Method string // default GET
	Path   string // default /
	Body   []byte
	Close  bool // ask the server to close the connection
}

// Client is one client with at most one connection, which it keeps as long as the server lets it. A Client serves one
// goroutine.
type Client struct {
	Dial    Dial
	Target  netip.AddrPort
	Timeout time.Duration // of connecting, and of each request; default 10 s

	conn   *conn
	reader *bufio.Reader
	used   bool
}

// Do sends one request and waits for its whole answer. It connects when there is no connection, and repeats nothing.
// Cancelling ctx ends it at once, with class failed.
func (c *Client) Do(ctx context.Context, req Request) Result {
	r := Result{Began: time.Now(), Reused: c.used}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	if c.conn == nil {
		dialCtx, cancel := context.WithTimeout(ctx, timeout)
		opened, err := c.Dial(dialCtx, "tcp", c.Target.String())
		cancel()
		r.Connect = time.Since(r.Began)
		if err != nil {
			r.Err, r.Class = err, classify(err, true)
			return r
		}
		c.conn = &conn{Conn: opened}
		c.reader = bufio.NewReader(c.conn)
	}
	c.used = true
	current := c.conn
	began := time.Now()
	keep, err := false, current.SetDeadline(began.Add(timeout))
	stop := context.AfterFunc(ctx, func() { _ = current.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err == nil {
		keep, err = c.exchange(req, &r)
	}
	r.Latency = time.Since(began)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		r.Status, r.Err, r.Class = 0, err, classify(err, false)
	}
	if !keep {
		c.Close()
	}
	return r
}

// exchange writes the request and reads the final answer, past interim ones. keep says that the connection may carry
// another request. A client whose write fails still reads: the answer may lie there already.
func (c *Client) exchange(req Request, r *Result) (keep bool, err error) {
	message := req.message(c.Target)
	_, writeErr := c.conn.Write(message)
	for {
		resp, err := http.ReadResponse(c.reader, &http.Request{Method: req.method()})
		if err != nil {
			return false, cmp.Or(writeErr, c.conn.readErr, err)
		}
		r.Body, err = io.ReadAll(resp.Body)
		if err != nil {
			return false, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			r.Status, r.Header = resp.StatusCode, resp.Header
			return writeErr == nil && !resp.Close && !req.Close && resp.StatusCode >= 200, nil
		}
	}
}

// conn stores the error that ended reading: for a truncated head, http.ReadResponse reports only that it is malformed.
type conn struct {
	net.Conn
	readErr error
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.readErr = err
	}
	return n, err
}

// Close closes the connection; the next request opens another.
func (c *Client) Close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.conn, c.reader, c.used = nil, nil, false
}

func (r Request) method() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// message returns the request as bytes: head and body go in one write.
func (r Request) message(target netip.AddrPort) []byte {
	path := r.Path
	if path == "" {
		path = "/"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: cbagent-loadgen\r\n", r.method(), path, target)
	if len(r.Body) > 0 || r.method() == http.MethodPost || r.method() == http.MethodPut {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	if r.Close {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes()
}
