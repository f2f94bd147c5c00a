package discovery

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// bookInterval is the shortest time between two lists of all Services.
const bookInterval = 30 * time.Second

// addressBook holds the Services' own addresses as of the last time that a policy's addresses changed. It does not watch
// the Services: it is used only for an error message.
type addressBook struct {
	client  kubernetes.Interface
	logger  *slog.Logger
	changed func() // called when the book has changed
	wake    chan struct{}

	mu    sync.Mutex
	known ServiceAddresses
}

func newAddressBook(logger *slog.Logger, client kubernetes.Interface, changed func()) *addressBook {
	return &addressBook{client: client, logger: logger, changed: changed, wake: make(chan struct{}, 1)}
}

// refresh schedules a read of the Services. It may be called on a nil book.
func (b *addressBook) refresh() {
	if b == nil {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *addressBook) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		known, err := ListServiceAddresses(ctx, b.client)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			b.logger.Debug("cannot list the addresses of Services, trying again", "error", err)
			b.refresh()
		default:
			b.mu.Lock()
			changed := !maps.Equal(known, b.known)
			b.known = known
			b.mu.Unlock()
			if changed {
				b.changed()
			}
		}
		timer := time.NewTimer(bookInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// check returns an error for the addresses of Services among the backends. It may be called on a nil book.
func (b *addressBook) check(all []Backend) []error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	known := b.known // replaced as a whole, never changed
	b.mu.Unlock()
	var errs []error
	for _, one := range all {
		if one.Kind == KindHost || one.Kind == KindAddress {
			if err := known.Check(one.Addr); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}
