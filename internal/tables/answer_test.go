package tables

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/answer"
)

func fold(sum uint32) uint32 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

// sumOf is the folded sum of four bytes at an offset, as struct answer in bpf/types.h describes it.
func sumOf(field []byte, at int) uint32 {
	sum := fold(uint32(binary.NativeEndian.Uint16(field)) + uint32(binary.NativeEndian.Uint16(field[2:])))
	if at%2 == 1 {
		sum = sum>>8 | sum&0xff<<8
	}
	return sum
}

// The sums of an HTTP/2 answer become those of the sent bytes by what struct answer says that the programs add.
func TestSumsOfHTTP2Answers(t *testing.T) {
	odd, even := 0, 0
	for length := range 40 {
		for _, id := range []uint32{1, 3, 0x1234567, 1<<31 - 1} {
			spec := answer.Spec{Status: 503, Body: "body" + strings.Repeat("x", length%7), Headers: []answer.Header{{Name: "X", Value: strings.Repeat("y", length)}}}
			for _, r := range []answer.Rendered{answer.RenderHTTP2(spec, "open", true), answer.RenderGRPC(spec, "open")} {
				if r.HeadLen%2 == 0 {
					even++
				} else {
					odd++
				}
				b := bytes.Clone(r.Bytes)
				wire := binary.BigEndian.AppendUint32(nil, id)
				sum, head := onesSum(b), onesSum(b[:r.HeadLen])
				copy(b[5:], wire)
				sum, head = sum+sumOf(wire, 5), head+sumOf(wire, 5)
				if r.Frames == 2 {
					copy(b[r.HeadLen+5:], wire)
					sum += sumOf(wire, r.HeadLen+5)
				}
				if want := onesSum(b); fold(sum) != want {
					t.Fatalf("stream %d, %d bytes of head: sum %#x, want %#x", id, r.HeadLen, fold(sum), want)
				}
				if r.Frames == 2 {
					b[4] |= 1
					head += uint32(binary.NativeEndian.Uint16([]byte{1, 0}))
				}
				if want := onesSum(b[:r.HeadLen]); fold(head) != want {
					t.Fatalf("stream %d, %d bytes of head: sum of the head %#x, want %#x", id, r.HeadLen, fold(head), want)
				}
			}
		}
	}
	if odd == 0 || even == 0 {
		t.Errorf("%d heads of odd length, %d of even length", odd, even)
	}
}
