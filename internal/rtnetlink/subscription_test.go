package rtnetlink

import (
	"context"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Receive ends, and closes the channel, when the socket is closed and when the context is done.
func TestReceiveEnds(t *testing.T) {
	for name, end := range map[string]func(s *Subscription, cancel func()){
		"closed":   func(s *Subscription, _ func()) { s.Close() },
		"canceled": func(s *Subscription, cancel func()) { cancel(); s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Subscribe(netns.None(), 1<<16, unix.RTNLGRP_LINK)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.Receive(ctx)
			}()
			end(s, cancel)
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("Receive has not returned")
			}
			for range s.Batches() { // until it is closed
			}
		})
	}
}

func TestOpenHandle(t *testing.T) {
	handle, err := OpenHandle(netns.None())
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	if links, err := handle.LinkList(); err != nil || len(links) == 0 {
		t.Errorf("%d links, %v; want at least lo", len(links), err)
	}
}
