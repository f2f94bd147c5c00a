package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Server answers each request with the same 200 and a body of 100 bytes.
type Server struct {
	fd int
}

// answer is what each request gets.
var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" +
	string(bytes.Repeat([]byte("0123456789"), 10)))

// patience of a server with a silent caller: longer than any run of the bench.
const patience = 10 * time.Minute

// Listen opens an IPv4 port in the network namespace of the calling thread.
func Listen(at netip.AddrPort) (*Server, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, address(at))
	}
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return &Server{fd: fd}, nil
}

// Serve serves up to callers connections at once, until Close.
func (s *Server) Serve(callers int) error {
	failed := make(chan error, callers)
	for range callers {
		go func() {
			runtime.LockOSThread()
			failed <- s.work()
		}()
	}
	return <-failed
}

// Close ends the listening, and Serve.
func (s *Server) Close() error {
	// Shutdown wakes up the threads that wait in accept; a plain close would not.
	err := unix.Shutdown(s.fd, unix.SHUT_RD)
	if e := unix.Close(s.fd); err == nil {
		err = e
	}
	return os.NewSyscallError("close the server", err)
}

// work serves one connection after the other.
func (s *Server) work() error {
	buffer := make([]byte, 16<<10)
	for {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return os.NewSyscallError("accept", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // saves time, is no condition
		serve(fd, buffer)
		_ = unix.Close(fd)
	}
}

// serve answers the requests of one connection until it ends.
func serve(fd int, buffer []byte) {
	have := 0
	for {
		n, err := unix.Read(fd, buffer[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		have += n
		for {
			end := bytes.Index(buffer[:have], headEnd)
			if end < 0 {
				break
			}
			last := bytes.Contains(buffer[:end], connectionClose)
			have = copy(buffer, buffer[end+len(headEnd):have])
			if !write(fd, answer) || last {
				return
			}
		}
		if have == len(buffer) {
			return // a head that long is nobody's of ours
		}
	}
}

var (
	headEnd         = []byte("\r\n\r\n")
	connectionClose = []byte("onnection: close") // of the bench's own callers and peers, however they write the C
)

// write writes all of b.
func write(fd int, b []byte) bool {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}
