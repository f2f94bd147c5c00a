package loader

import (
	"bytes"

	"golang.org/x/net/http2/hpack"
)

// number appends an integer (RFC 7541, 5.1), with the given bits in its first byte. If it does not fit the first byte, it is
// longer by some bytes than it need be.
func number(to []byte, first byte, prefix int, n uint64, longer int) []byte {
	most := uint64(1)<<prefix - 1
	if n < most {
		return append(to, first|byte(n))
	}
	to = append(to, first|byte(most))
	n -= most
	for ; n >= 0x80; n >>= 7 {
		to = append(to, 0x80|byte(n))
	}
	if longer == 0 {
		return append(to, byte(n))
	}
	to = append(to, 0x80|byte(n))
	for ; longer > 1; longer-- {
		to = append(to, 0x80)
	}
	return append(to, 0)
}

// raw and huff are the two forms of a string.
func raw(s string) []byte { return append(number(nil, 0, 7, uint64(len(s)), 0), s...) }

func huff(s string) []byte {
	return hpack.AppendHuffmanString(number(nil, 0x80, 7, hpack.HuffmanEncodeLength(s), 0), s)
}

// The forms of a field: an entry of the tables, and the three kinds of literals with the index of a name, 0 for a name that
// follows.
func indexed(i uint64) []byte  { return number(nil, 0x80, 7, i, 0) }
func inserted(i uint64) []byte { return number(nil, 0x40, 6, i, 0) }
func literal(i uint64) []byte  { return number(nil, 0, 4, i, 0) }
func never(i uint64) []byte    { return number(nil, 0x10, 4, i, 0) }
func resize(n uint64) []byte   { return number(nil, 0x20, 5, n, 0) }

func block(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
