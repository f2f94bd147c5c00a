package answer

import (
	"slices"
	"strconv"
)

// block is a header block of HPACK (RFC 7541) that needs no state at either end: its fields do not enter the dynamic table, and
// its strings are not Huffman coded.
type block []byte

// firstName is the index of the first name of staticNames: those before are pseudo-header fields.
const firstName = 15

// staticNames are the names of HPACK's static table from firstName on.
var staticNames = []string{
	"accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept", "access-control-allow-origin", "age", "allow",
	"authorization", "cache-control", "content-disposition", "content-encoding", "content-language", "content-length",
	"content-location", "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
	"if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
	"proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after", "server", "set-cookie",
	"strict-transport-security", "transfer-encoding", "user-agent", "vary", "via", "www-authenticate",
}

// statusIndex is the index of :status with one of the values that the static table has.
var statusIndex = map[int]byte{200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}

func (b *block) status(status int) {
	if i, ok := statusIndex[status]; ok {
		*b = append(*b, 0x80|i)
		return
	}
	b.integer(4, 8)
	b.text(strconv.Itoa(status))
}

// field appends a literal field without indexing. The name is in lower case.
func (b *block) field(name, value string) {
	b.name(name)
	b.text(value)
}

func (b *block) name(name string) {
	if i := slices.Index(staticNames, name); i >= 0 {
		b.integer(4, firstName+i)
		return
	}
	b.integer(4, 0)
	b.text(name)
}

func (b *block) text(s string) {
	b.integer(7, len(s))
	*b = append(*b, s...)
}

// integer appends n with a prefix of so many bits (RFC 7541, 5.1). The bits before the prefix are 0: a literal without indexing,
// or a string without Huffman code.
func (b *block) integer(bits, n int) {
	most := 1<<bits - 1
	if n < most {
		*b = append(*b, byte(n))
		return
	}
	*b = append(*b, byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		*b = append(*b, byte(0x80|n&0x7f))
	}
	*b = append(*b, byte(n))
}
