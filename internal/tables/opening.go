package tables

import "github.com/cbagent/cbagent/internal/bpf"

// Opening is what a connection of an http policy begins with that is no request, or a connection whose frames of HTTP/2 are not
// readable: an index of Totals.Openings.
type Opening int

// Openings. After a PROXY protocol header a request may follow, which is observed.
const (
	OpeningTLS       = Opening(bpf.COpeningOPENING_TLS)
	OpeningMalformed = Opening(bpf.COpeningOPENING_MALFORMED_HTTP2)
	OpeningPROXY     = Opening(bpf.COpeningOPENING_PROXY)
	OpeningOther     = Opening(bpf.COpeningOPENING_OTHER)
	Openings         = int(bpf.COpeningOPENING_MAX) // length
)

// String returns the name used in metrics and the status.
func (o Opening) String() string { return openingNames[o] }

var openingNames = [Openings]string{"tls", "malformed-http2", "proxy", "other"}
