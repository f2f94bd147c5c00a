package wire

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// client is one thread of a load.
type client struct {
	load  Load
	begun *atomic.Int64 // requests of all clients
	until time.Time

	fd        int     // -1: not connected
	caller    *caller // of gRPC; nil: nothing was sent on the connection
	buffer    []byte
	latencies []uint32 // ns, at most 4 s
	status    map[int]int
	errs      map[string]int
	connected int
	broken    error // an error that is not the server's
}

func (c *client) work() {
	runtime.LockOSThread()
	defer c.hangUp()
	c.buffer = make([]byte, 64<<10)
	c.latencies = make([]uint32, 0, 1<<20)
	request := []byte("GET / HTTP/1.1\r\nHost: " + c.load.Target.String() + "\r\nUser-Agent: cbagent-bench\r\n")
	if !c.load.KeepOpen {
		request = append(request, "Connection: close\r\n"...)
	}
	request = append(request, "\r\n"...)
	for now := time.Now(); now.Before(c.until); {
		if c.load.Requests > 0 && c.begun.Add(1) > int64(c.load.Requests) {
			return
		}
		status, err := c.do(request)
		end := time.Now()
		c.latencies = append(c.latencies, uint32(min(int64(end.Sub(now)), math.MaxUint32)))
		now = end
		if err != nil {
			c.errs[unixName(err)]++
			c.hangUp()
		} else {
			c.status[status]++
		}
		if !c.load.KeepOpen {
			c.hangUp()
			now = time.Now() // closing is nobody's latency
		}
		if c.broken != nil {
			return
		}
	}
}

// do sends one request and reads its whole answer.
func (c *client) do(request []byte) (status int, err error) {
	if c.fd < 0 {
		if c.fd, c.broken = socket(c.load.Patience); c.broken != nil {
			return 0, c.broken
		}
		if err := connect(c.fd, c.load.Target); err != nil {
			return 0, err
		}
		c.connected++
	}
	if c.load.Connect {
		return 0, nil
	}
	if c.load.GRPC {
		return c.call()
	}
	if _, err := unix.Write(c.fd, request); err != nil {
		return 0, err
	}
	have := 0
	for {
		n, err := unix.Read(c.fd, c.buffer[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, unix.ENODATA // closed before the whole answer
		}
		have += n
		end := bytes.Index(c.buffer[:have], headEnd)
		if end < 0 {
			continue
		}
		status, length, last, err := parseHead(c.buffer[:end])
		if err != nil {
			c.broken = err
			return 0, err
		}
		if have < end+len(headEnd)+length {
			continue
		}
		if last {
			c.hangUp()
		}
		return status, nil
	}
}

func (c *client) hangUp() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
		c.caller = nil
	}
}

var (
	contentLength = []byte("\r\ncontent-length:")
	closing       = []byte("\r\nconnection: close")
)

// parseHead reads a head without its empty line. It changes the head to lower case.
func parseHead(head []byte) (status, length int, last bool, err error) {
	for i, b := range head {
		if 'A' <= b && b <= 'Z' {
			head[i] = b + 'a' - 'A'
		}
	}
	if len(head) < 12 {
		return 0, 0, false, fmt.Errorf("an answer begins with %q", head)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, 0, false, fmt.Errorf("an answer begins with %q", head[:12])
	}
	at := bytes.Index(head, contentLength)
	if at < 0 {
		return 0, 0, false, fmt.Errorf("an answer has no Content-Length: %q", head)
	}
	text := head[at+len(contentLength):]
	if end := bytes.IndexByte(text, '\r'); end >= 0 {
		text = text[:end]
	}
	if length, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
		return 0, 0, false, fmt.Errorf("an answer's Content-Length: %w", err)
	}
	return status, length, bytes.Contains(head, closing), nil
}

// unixName returns the name of an error number.
func unixName(err error) string {
	if errno, ok := err.(unix.Errno); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	return err.Error()
}
