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
	"time"

	"github.com/cbagent/cbagent/internal/view"
)

// Client speaks to an agent.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the agent that listens on a socket. It connects when it is first used.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what the agent is doing. A target is POLICY, BACKEND, POLICY/BACKEND or empty.
func (c *Client) Status(ctx context.Context, target string) (Status, error) {
	var s Status
	err := c.get(ctx, "/v1/status", url.Values{"target": {target}}, &s)
	return s, err
}

// Ready asks whether the agent is ready.
func (c *Client) Ready(ctx context.Context) (Readiness, error) {
	var r Readiness
	err := c.get(ctx, "/v1/ready", nil, &r)
	return r, err
}

// Policies returns the policies in force as JSON, in the format of a policy file.
func (c *Client) Policies(ctx context.Context, target string) (json.RawMessage, error) {
	var raw json.RawMessage
	err := c.get(ctx, "/v1/policies", url.Values{"target": {target}}, &raw)
	return raw, err
}

// Override has the agent lay hands on circuits.
func (c *Client) Override(ctx context.Context, o Override) ([]Change, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/override", nil, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var done Overridden
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	return done.Changes, nil
}

// Events calls f for up to last records of the target, oldest first, and with follow for each new one until the context
// ends or f returns an error, which it returns. missed is called when the caller was too slow for some.
func (c *Client) Events(ctx context.Context, target string, last int, follow bool, f func(view.Record) error, missed func(uint64)) error {
	q := url.Values{"target": {target}, "last": {strconv.Itoa(last)}, "follow": {strconv.FormatBool(follow)}}
	return c.lines(ctx, "/v1/events", q, missed, func(line []byte) error {
		var r view.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("read the agent's events: %w", err)
		}
		return f(r)
	})
}

// Trace calls f with each line of the target's trace until the context ends or f returns an error, which it returns.
func (c *Client) Trace(ctx context.Context, target string, f func(line []byte) error, missed func(uint64)) error {
	return c.lines(ctx, "/v1/trace", url.Values{"target": {target}}, missed, f)
}

var missedPrefix = []byte(`{"missed":`)

func (c *Client) lines(ctx context.Context, path string, q url.Values, missed func(uint64), f func([]byte) error) error {
	resp, err := c.do(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	r := bufio.NewScanner(resp.Body)
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
	switch err := r.Err(); {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the agent has ended")
	case err != nil:
		return fmt.Errorf("read from the agent: %w", err)
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	resp, err := c.do(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

// do returns an answer that is no error.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://cbagent"+path+"?"+q.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
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
