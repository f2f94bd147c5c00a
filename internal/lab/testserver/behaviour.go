package testserver

import (
	"net/http"
	"time"
)

// Behaviour is what the server does with one request. The zero value reads the request's body and answers 200 with
// an empty body.
type Behaviour struct {
	Status  int           // of the final answer; 0 = 200
	Delay   time.Duration // before the first byte of the answer, or before the ending
	Interim []int         // 1xx statuses (not 101) sent before the answer, after Delay
	Body    []byte        // of the answer
	Chunked bool          // send the body chunked instead of with Content-Length
	Early   bool          // answer without reading the request's body
	Close   bool          // close the connection after the answer
	Ending  Ending        // other than with an answer
}

// Ending is the end of a request.
type Ending uint8

// Endings. All but EndAnswer leave the client without a full status line.
const (
	EndAnswer       Ending = iota
	EndHang                // nothing is sent until the client goes away or the server is closed
	EndReset               // RST before the answer
	EndResetMidHead        // RST after the first bytes of the status line
	EndClose               // FIN before the answer
)

// Decide chooses the behaviour for a request. n counts the server's requests from 0. It is called concurrently.
type Decide func(r *http.Request, n uint64) Behaviour

// Always behaves the same way each time.
func Always(b Behaviour) Decide {
	return func(*http.Request, uint64) Behaviour { return b }
}

// Part is a behaviour and how many requests in a row get it.
type Part struct {
	Behaviour
	Times uint64
}

// Cycle goes through the parts in order, over and over, by the number of the request. The sum of Times is at least 1.
func Cycle(parts ...Part) Decide {
	var sum uint64
	for _, p := range parts {
		sum += p.Times
	}
	return func(_ *http.Request, n uint64) Behaviour {
		at := n % sum
		for _, p := range parts {
			if at < p.Times {
				return p.Behaviour
			}
			at -= p.Times
		}
		panic("unreachable: at is less than the sum of Times")
	}
}

// FakeTraffic returns n bytes that look like HTTP requests and responses, for use as a body: a parser that takes a body for
// a head counts wrongly.
func FakeTraffic(n int) []byte {
	const text = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n" +
		"GET /fake HTTP/1.1\r\nHost: fake\r\n\r\nHTTP/1.1 200 OK\r\n\r\nPOST /fake HTTP/1.1\r\n\r\n"
	body := make([]byte, n)
	for at := 0; at < n; at += copy(body[at:], text) {
	}
	return body
}
