// Package rtnetlink reads the kernel's notifications about links, routes and neighbours.
package rtnetlink

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// batches is how many batches may wait for their reader before the socket's buffer fills.
const batches = 16

// Batch is what one read of the socket returned.
type Batch struct {
	Messages []syscall.NetlinkMessage
	Err      error // notifications were lost: list what the subscriber keeps a copy of
}

// Subscription receives the notifications of some multicast groups in one network namespace.
type Subscription struct {
	socket  *nl.NetlinkSocket
	batches chan Batch
	closed  atomic.Bool
}

// Subscribe subscribes to multicast groups (unix.RTNLGRP_...) of a namespace; netns.None() is that of the calling thread.
// buffer is how many bytes of notifications may wait in the kernel. Nothing is read before Receive is called.
func Subscribe(ns netns.NsHandle, buffer int, groups ...uint) (*Subscription, error) {
	socket, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribe to netlink notifications: %w", err)
	}
	s := &Subscription{socket: socket, batches: make(chan Batch, batches)}
	if socket.SetReceiveBufferSize(buffer, true) != nil {
		// Without CAP_NET_ADMIN the limit of the system applies; what is lost then is reported as an error of a batch.
		if err := s.SetReceiveBuffer(buffer); err != nil {
			socket.Close()
			return nil, err
		}
	}
	return s, nil
}

// SetReceiveBuffer changes how many bytes of notifications may wait in the kernel, within the limit of the system.
func (s *Subscription) SetReceiveBuffer(bytes int) error {
	if err := s.socket.SetReceiveBufferSize(bytes, false); err != nil {
		return fmt.Errorf("set the receive buffer of netlink notifications: %w", err)
	}
	return nil
}

// Batches returns the channel of the notifications. It is closed when Receive returns.
func (s *Subscription) Batches() <-chan Batch { return s.batches }

// Close closes the socket, which ends Receive.
func (s *Subscription) Close() {
	s.closed.Store(true) // the error of a read from a closed socket is none that errors.Is knows
	s.socket.Close()
}

// Receive reads the socket until it is closed or ctx is done.
func (s *Subscription) Receive(ctx context.Context) {
	defer close(s.batches)
	for {
		messages, from, err := s.socket.Receive()
		switch {
		case s.closed.Load() || ctx.Err() != nil:
			return
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case err == nil && from.Pid != nl.PidKernel:
			continue // from another process
		}
		select {
		case s.batches <- Batch{messages, err}:
		case <-ctx.Done():
			return
		}
	}
}

// OpenHandle opens a socket for requests in a namespace; netns.None() is that of the calling thread.
func OpenHandle(ns netns.NsHandle) (*netlink.Handle, error) {
	var handle *netlink.Handle
	var err error
	if ns.IsOpen() {
		handle, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	} else {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return handle, nil
}
