package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Server answers each request with the same 200 and a body of 100 bytes, or each gRPC call with the same message, from one thread.
type Server struct {
	listener int
	poll     int
	end      int // a pipe's other end, whose closing ends Serve
	wake     int
	buffer   []byte
	out      []byte
	partial  map[int][]byte  // heads that have not arrived whole
	callees  map[int]*callee // connections of gRPC; nil: it serves HTTP/1.1
}

// answer is what each request gets.
var answer = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" +
	string(bytes.Repeat([]byte("0123456789"), 10)))

// Listen opens an IPv4 port in the network namespace of the calling thread.
func Listen(at netip.AddrPort) (*Server, error) {
	s := &Server{listener: -1, poll: -1, end: -1, wake: -1, buffer: make([]byte, frameHeader+maxPayload), partial: map[int][]byte{}}
	if err := s.open(at); err != nil {
		s.closeAll()
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	return s, nil
}

// ListenGRPC opens a port for gRPC calls in clear text, as Listen does for requests.
func ListenGRPC(at netip.AddrPort) (*Server, error) {
	s, err := Listen(at)
	if err == nil {
		s.callees = map[int]*callee{}
	}
	return s, err
}

func (s *Server) open(at netip.AddrPort) (err error) {
	if s.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(s.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(s.listener, address(at)); err != nil {
		return err
	}
	if err := unix.Listen(s.listener, 4096); err != nil {
		return err
	}
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		return err
	}
	s.end, s.wake = pipe[0], pipe[1]
	if err := s.watch(s.end); err != nil {
		return err
	}
	return s.watch(s.listener)
}

func (s *Server) watch(fd int) error {
	return unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// Serve serves until Close.
func (s *Server) Serve() error {
	defer s.closeAll()
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(s.poll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("wait for clients", err)
		}
		for _, e := range events[:n] {
			switch fd := int(e.Fd); fd {
			case s.end:
				return nil
			case s.listener:
				if err := s.accept(); err != nil {
					return err
				}
			default:
				if !s.serve(fd) {
					delete(s.partial, fd)
					delete(s.callees, fd)
					_ = unix.Close(fd)
				}
			}
		}
	}
}

// Close ends Serve. A server that does not serve keeps its port.
func (s *Server) Close() error { return os.NewSyscallError("close the server", unix.Close(s.wake)) }

func (s *Server) closeAll() {
	for _, fd := range []int{s.listener, s.poll, s.end} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// accept takes all connections that are waiting.
func (s *Server) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return os.NewSyscallError("accept", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // saves time, is no condition
		if err := s.watch(fd); err != nil {
			return os.NewSyscallError("watch a connection", err)
		}
	}
}

// serve answers what has arrived on a connection; false when the connection is to be closed.
func (s *Server) serve(fd int) bool {
	if s.callees != nil {
		return s.serveCalls(fd)
	}
	have := copy(s.buffer, s.partial[fd])
	n, err := unix.Read(fd, s.buffer[have:])
	if err == unix.EINTR || err == unix.EAGAIN {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	rest := s.buffer[:have+n]
	for {
		end := bytes.Index(rest, headEnd)
		if end < 0 {
			break
		}
		last := bytes.Contains(rest[:end], connectionClose)
		rest = rest[end+len(headEnd):]
		if n, err := unix.Write(fd, answer); err != nil || n < len(answer) || last {
			return false
		}
	}
	switch {
	case len(rest) == len(s.buffer):
		return false // a head that long is nobody's of ours
	case len(rest) > 0:
		s.partial[fd] = append([]byte(nil), rest...)
	case have > 0:
		delete(s.partial, fd)
	}
	return true
}

var (
	headEnd         = []byte("\r\n\r\n")
	connectionClose = []byte("onnection: close") // of the bench's own clients and peers, however they write the C
)
