package testserver

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// listener accepts connections for net/http that can fail on purpose.
type listener struct {
	net.Listener
	server *Server
}

// Accept counts and wraps the next connection that is not to be reset.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.server.counts.connections.Add(1)
		if !l.server.resets.Load() {
			return &conn{Conn: c, server: l.server}, nil
		}
		l.server.counts.acceptResets.Add(1)
		reset(c)
	}
}

// closePort closes a listener and its port at once. A child process has copies of all sockets until its exec, so without a
// shutdown the port would stay open that long.
func closePort(l net.Listener) error {
	var stopped error
	if tcp, ok := l.(*net.TCPListener); ok {
		raw, err := tcp.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { stopped = unix.Shutdown(int(fd), unix.SHUT_RD) })
		}
		stopped = errors.Join(stopped, err)
	}
	// It may have been closed already by the goroutine that accepts.
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		stopped = errors.Join(stopped, err)
	}
	return stopped
}

// splitBytes is how much of each write is split into small segments.
const splitBytes = 64

// conn splits the beginning of each write into segments of the size of Server.SetSplit.
type conn struct {
	net.Conn
	server *Server
}

func (c *conn) Write(b []byte) (int, error) {
	size := int(c.server.split.Load())
	done := 0
	for size > 0 && done+size < min(len(b), splitBytes) {
		n, err := c.Conn.Write(b[done : done+size])
		done += n
		if err != nil {
			return done, err
		}
	}
	n, err := c.Conn.Write(b[done:])
	return done + n, err
}

// reset closes a TCP connection with a RST.
func reset(c net.Conn) {
	if wrapped, ok := c.(*conn); ok {
		c = wrapped.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it fails only if the other side has closed the connection already
	}
	_ = c.Close()
}
