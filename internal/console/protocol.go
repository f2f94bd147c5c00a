package console

import (
	"fmt"
	"strings"

	"github.com/cbagent/cbagent/internal/control"
	"github.com/cbagent/cbagent/internal/tables"
)

// protocols say in words what a connection begins with, and what to do where no request follows.
var protocols = [tables.Openings]struct{ name, remedy string }{
	tables.OpeningTLS:       {"TLS", "TLS is not decrypted: protocol: tcp judges connection attempts alone"},
	tables.OpeningMalformed: {"malformed HTTP/2", "the client sends no valid frames after the preface of HTTP/2; protocol: tcp judges connection attempts alone"},
	tables.OpeningPROXY:     {"a PROXY header", "the header is skipped, and no request follows it; where that is TLS, protocol: tcp judges connection attempts alone"},
	tables.OpeningOther:     {"something else", "does the backend speak HTTP? If not, protocol: tcp judges connection attempts alone"},
}

// RemedyOf says what to do about an http policy whose connections begin so and carry no request.
func RemedyOf(o tables.Opening) string { return protocols[o].remedy }

// Unread is a circuit of an http policy to which connections were made, and no request was seen on any.
type Unread struct {
	Begin string         // "7 connections begin with TLS, 1 with something else"
	Most  tables.Opening // what most of them begin with
}

// NewUnread returns false where requests were seen, or no connection that begins with something else.
func NewUnread(c *control.Circuit) (Unread, bool) {
	if c.Admitted > 0 || len(c.OtherProtocols) == 0 {
		return Unread{}, false
	}
	var u Unread
	var parts []string
	most := uint64(0)
	for i, p := range protocols {
		n := c.OtherProtocols[tables.Opening(i).String()]
		if n == 0 {
			continue
		}
		if n > most {
			u.Most, most = tables.Opening(i), n
		}
		if parts == nil {
			parts = append(parts, plural(n, "connection begins", "connections begin")+" with "+p.name)
		} else {
			parts = append(parts, fmt.Sprintf("%d with %s", n, p.name))
		}
	}
	u.Begin = strings.Join(parts, ", ")
	return u, true
}

// unreadOf says of a policy that no request was seen on connections to some of its backends; empty if there is none such.
func unreadOf(p *control.Policy) string {
	var first *control.Circuit
	var u Unread
	others := uint64(0)
	for i := range p.Circuits {
		is, ok := NewUnread(&p.Circuits[i])
		switch {
		case !ok:
		case first == nil:
			first, u = &p.Circuits[i], is
		default:
			others++
		}
	}
	if first == nil {
		return ""
	}
	where := first.Backend
	if where == "*" {
		where = "its backends"
	}
	if others > 0 {
		where += " and " + plural(others, "other", "others")
	}
	return fmt.Sprintf("policy %s sees no request to %s: %s; see cbagent doctor", p.Name, where, u.Begin)
}
