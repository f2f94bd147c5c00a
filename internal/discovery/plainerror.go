package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// plainError removes from a network error what differs from one try to the next, such as the local port and the query of a
// URL: the same failure has the same text, and is reported once.
func plainError(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("%s %s %s: %w", op.Op, op.Net, op.Addr, op.Err)
	}
	return err
}
