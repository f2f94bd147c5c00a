package loader

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// compare walks a block at once and byte by byte, on a connection of its own, and compares the results with what the decoder
// says, if it accepts the block.
func (w *walker) compare(t *testing.T, block []byte) {
	t.Helper()
	every := make([]int, len(block))
	for i := range every {
		every[i] = i
	}
	w.addBlock(0, forgetFirst, block)
	w.addBlock(0, forgetFirst, block, every...)
	got := w.walk(block)
	if len(got) != 2 || got[0] != got[1] {
		t.Fatalf("% x: %v", block, got)
	}
	checkAny(t, block, got[0])
}

// checkAny compares what the walk says of any bytes with what the decoder says. The walk may take an integer for broken that the
// decoder takes, because it is too long.
func checkAny(t *testing.T, block []byte, got hpackBlock) {
	t.Helper()
	fields, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
	var index hpack.InvalidIndexError
	switch want := blockOf(fields); {
	case err == nil && got != want && got != broken:
		t.Fatalf("% x is %v: %v, expected %v", block, fields, got, want)
	case err == nil:
	case got == broken:
	case errors.As(err, &index) && index == 0 || strings.Contains(err.Error(), "truncated"):
		t.Fatalf("% x: %v, but %v", block, got, err)
	}
}

// randomBytes makes the first block of a connection.
func randomBytes(rnd *rand.Rand, static []hpack.HeaderField, words *vocabulary) []byte {
	e := &variedEncoder{rnd: rnd, static: static, max: 4096}
	var b []byte
	for _, f := range words.block(rnd, true) {
		b = e.field(b, f)
	}
	return b
}

// garble makes bytes that are hardly a block.
func garble(rnd *rand.Rand, encoded []byte) []byte {
	b := slices.Clone(encoded)
	switch rnd.IntN(5) {
	case 0:
		b = b[:rnd.IntN(len(b)+1)]
	case 1:
		b = slices.Insert(b, rnd.IntN(len(b)+1), byte(rnd.Uint32()))
	case 2, 3:
		for range 1 + rnd.IntN(3) {
			if len(b) > 0 {
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
		}
	default:
		b = make([]byte, rnd.IntN(60))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
	}
	return b
}

func TestHPACKGarbage(t *testing.T) {
	w, rnd, static := newWalker(t), seeded(t), staticFields(t)
	accepted, rejected, walked := 0, 0, 0
	var words *vocabulary
	for total := randomBlocks(t) / 4; walked < total; {
		var blocks [][]byte
		for len(w.input) < int(hpackInputSizeINPUT_MAX)-1<<17 && walked+len(blocks) < total {
			if len(blocks)%50 == 0 {
				words = newVocabulary(rnd, 4)
			}
			b := garble(rnd, randomBytes(rnd, static, words))
			w.addBlock(0, forgetFirst, b)
			blocks = append(blocks, b)
		}
		for i, got := range w.walk(nil) {
			checkAny(t, blocks[i], got)
			if got.Broken == 0 {
				accepted++
			} else {
				rejected++
			}
		}
		walked += len(blocks)
	}
	t.Logf("%d blocks: %d walked to their end, %d broken", walked, accepted, rejected)
	if accepted < rejected/20 || rejected < accepted/20 {
		t.Error("the blocks test too little of the walk")
	}
}

func FuzzHPACK(f *testing.F) {
	w, rnd, static := newWalker(f), rand.New(rand.NewPCG(1, 2)), staticFields(f)
	for range 100 {
		f.Add(randomBytes(rnd, static, newVocabulary(rnd, 2)))
	}
	f.Cleanup(func() { w.t = f })
	f.Fuzz(func(t *testing.T, block []byte) {
		w.t = t
		if len(block) < 1<<15 {
			w.compare(t, block)
		}
	})
}
