package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// Client is a client of an agent's API.
type Client struct {
	socket   string
	timeout  time.Duration // CallTimeout, except in tests
	http     *http.Client
	listener atomic.Int32 // process that listens on the socket; 0: not known
}

// NewClient returns a client of the agent that listens on a socket. It connects at its first use. Its methods return
// ErrNoAnswer when the agent does not answer within CallTimeout.
func NewClient(socket string) *Client {
	c := &Client{socket: socket, timeout: CallTimeout}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			c.note(conn)
		}
		return conn, err
	}
	c.http = &http.Client{Transport: &http.Transport{DialContext: dial}}
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns the state of the agent. A target is POLICY, BACKEND, POLICY/BACKEND or empty.
func (c *Client) Status(ctx context.Context, target string) (Status, error) {
	var s Status
	err := c.get(ctx, "ask for the status", "/v1/status", url.Values{"target": {target}}, &s)
	return s, err
}

// Ready returns whether the agent is ready.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	var r Readiness
	err := c.get(ctx, "ask whether the agent is ready", "/v1/ready", nil, &r)
	return r, err
}

// Policies returns the policies in force as JSON, in the format of a policy file.
func (c *Client) Policies(ctx context.Context, target string) (json.RawMessage, error) {
	var raw json.RawMessage
	err := c.get(ctx, "ask for the policies", "/v1/policies", url.Values{"target": {target}}, &raw)
	return raw, err
}

// Override applies an override to circuits. After ErrNoAnswer the agent may still apply it.
func (c *Client) Override(ctx context.Context, o Override) (Overridden, error) {
	var done Overridden
	body, err := json.Marshal(o)
	if err != nil {
		return done, err
	}
	err = c.call(ctx, "order "+o.Action, http.MethodPost, "/v1/override", nil, body, &done)
	if errors.Is(err, ErrNoAnswer) {
		err = fmt.Errorf("%w; it may still carry out the order, cbagent events says whether it did", err)
	}
	return done, err
}

// Events calls f for up to last records of the target, oldest first, and with follow for each new one until the context
// ends or f returns an error, which it returns. It calls missed with the number of records for which the client was too
// slow.
func (c *Client) Events(ctx context.Context, target string, last int, follow bool, f func(view.Record) error, missed func(uint64)) error {
	q := url.Values{"target": {target}, "last": {strconv.Itoa(last)}, "follow": {strconv.FormatBool(follow)}}
	return c.lines(ctx, "ask for the events", "/v1/events", q, follow, missed, func(line []byte) error {
		var r view.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read the agent's events: %w", err)
		}
		return f(r)
	})
}

// Trace calls f with each line of the target's trace until the context ends or f returns an error, which it returns.
func (c *Client) Trace(ctx context.Context, target string, f func(line []byte) error, missed func(uint64)) error {
	return c.lines(ctx, "ask for a trace", "/v1/trace", url.Values{"target": {target}}, true, missed, f)
}

var missedPrefix = []byte(`{"missed":`)

// lines calls f with each line of an answer. The deadline of a call that does not follow limits only the agent's time: the
// answer is read to its end first, because f may block on its output.
func (c *Client) lines(ctx context.Context, what, path string, q url.Values, follow bool, missed func(uint64), f func([]byte) error) error {
	ctx, limit := withDeadline(ctx, c.timeout)
	defer limit.end()
	resp, err := c.do(ctx, what, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	from := io.Reader(resp.Body)
	if !follow {
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			return c.cut(ctx, what, err)
		}
		from = bytes.NewReader(all)
	}
	limit.lift()
	r := bufio.NewScanner(from)
	r.Buffer(make([]byte, 1<<16), 1<<20)
	for r.Scan() {
		var m Missed
		if bytes.HasPrefix(r.Bytes(), missedPrefix) && json.Unmarshal(r.Bytes(), &m) == nil {
			missed(m.Missed)
			continue
		}
		if err := f(r.Bytes()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return c.cut(ctx, what, err)
	}
	return nil
}

// cut returns the reason why an answer ended early; nil when the user ended it.
func (c *Client) cut(ctx context.Context, what string, err error) error {
	switch {
	case context.Cause(ctx) == errLate:
		return c.noAnswer(what)
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the agent has ended")
	}
	return fmt.Errorf("read from the agent: %w", err)
}

func (c *Client) get(ctx context.Context, what, path string, q url.Values, into any) error {
	return c.call(ctx, what, http.MethodGet, path, q, nil, into)
}

// call makes a request and reads its answer, within the client's timeout.
func (c *Client) call(ctx context.Context, what, method, path string, q url.Values, body []byte, into any) error {
	ctx, limit := withDeadline(ctx, c.timeout)
	defer limit.end()
	resp, err := c.do(ctx, what, method, path, q, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		if context.Cause(ctx) == errLate {
			return c.noAnswer(what)
		}
		return fmt.Errorf("%s: read the answer of the agent at %s: %w", what, c.socket, err)
	}
	return nil
}

// do makes a request and returns the answer, or the error that the answer contains.
func (c *Client) do(ctx context.Context, what, method, path string, q url.Values, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://cbagent"+path+"?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, what, err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&e); err != nil || e.Message == "" {
		return nil, fmt.Errorf("the agent answered %s", resp.Status)
	}
	text := describe(e.Message, e.Nearest)
	if resp.StatusCode == http.StatusNotFound {
		return nil, &textError{text, ErrUnknown}
	}
	return nil, errors.New(text)
}
