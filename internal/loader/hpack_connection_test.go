package loader

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// randomConnection is one direction of a connection, from its encoder to the reference decoder.
type randomConnection struct {
	rnd   *rand.Rand
	words *vocabulary
	dec   *hpack.Decoder
	known bool   // the walk saw all, and had never more than 16 insertions to remember: it knows each value
	flags uint16 // of the next block
	left  int    // blocks

	varied *variedEncoder // or:
	buf    bytes.Buffer
	enc    *hpack.Encoder
	pairs  map[hpack.HeaderField]bool // values that enc may insert, of fields that the walk looks for
}

func newRandomConnection(rnd *rand.Rand, static []hpack.HeaderField) *randomConnection {
	c := &randomConnection{
		rnd: rnd, words: newVocabulary(rnd, pick(rnd, []int{2, 4, 30})), dec: hpack.NewDecoder(4096, nil), known: true, flags: forgetFirst,
		left: 1 + rnd.IntN(200),
	}
	if rnd.IntN(2) == 0 {
		c.varied = &variedEncoder{rnd: rnd, static: static, max: 4096}
	} else {
		c.enc, c.pairs = hpack.NewEncoder(&c.buf), map[hpack.HeaderField]bool{}
	}
	return c
}

// remembered returns a bound of the entries of fields that the walk looks for.
func (c *randomConnection) remembered() int {
	if c.varied != nil {
		return c.varied.remembered()
	}
	return len(c.pairs)
}

func (c *randomConnection) encode(t *testing.T, fields []hpack.HeaderField) []byte {
	size := uint32(c.rnd.IntN(4097))
	if c.rnd.IntN(2) == 0 {
		size /= 16
	}
	resized := c.rnd.IntN(30) == 0 && len(fields) > 0 // without fields x/net's encoder says so later, and with two sizes its decoder fails
	if c.varied != nil {
		var b []byte
		if resized {
			if c.rnd.IntN(2) == 0 { // the decoder accepts a second one only of an empty table
				b = c.varied.resize(b, 0)
			}
			b = c.varied.resize(b, size)
		}
		for _, f := range fields {
			b = c.varied.field(b, f)
			c.known = c.known && c.remembered() <= 16
		}
		return b
	}
	c.buf.Reset()
	if resized {
		c.enc.SetMaxDynamicTableSize(size)
	}
	for _, f := range fields {
		if err := c.enc.WriteField(f); err != nil {
			t.Fatal(err)
		}
		if isLookedFor(f.Name) && !f.Sensitive {
			c.pairs[f] = true
			c.known = c.known && c.remembered() <= 16
		}
	}
	return slices.Clone(c.buf.Bytes())
}

// randomBlock is a block in parts, and what is in it.
type randomBlock struct {
	connection int
	known      bool
	want       hpackBlock
	fields     []hpack.HeaderField
	parts      [][]byte
	flags      uint16
}

// next makes the next block.
func (c *randomConnection) next(t *testing.T) randomBlock {
	// A field that occurs twice is unknown, but not to a walk that knows only one of its values: the block has at most 8.
	fields := c.words.block(c.rnd, c.known && c.remembered() <= 8)
	encoded := c.encode(t, fields)
	decoded, err := c.dec.DecodeFull(encoded)
	if err != nil || len(decoded) != len(fields) {
		t.Fatalf("%v as % x: decoded as %v, %v", fields, encoded, decoded, err)
	}
	for i, f := range decoded {
		if f.Name != fields[i].Name || f.Value != fields[i].Value {
			t.Fatalf("%v as % x: decoded as %v", fields, encoded, decoded)
		}
	}
	b := randomBlock{known: c.known, want: blockOf(decoded), fields: decoded, flags: c.flags}
	from := 0
	for c.rnd.IntN(2) == 0 {
		cut := from + c.rnd.IntN(len(encoded)-from+1)
		b.parts, from = append(b.parts, encoded[from:cut]), cut
	}
	b.parts = append(b.parts, encoded[from:])
	c.flags = 0
	c.left--
	return b
}

// skip makes blocks that the walk does not see.
func (c *randomConnection) skip(t *testing.T) {
	for range 1 + c.rnd.IntN(40) {
		c.next(t)
	}
	c.flags, c.known = forgetFirst, false
}

// addParts adds blocks of different connections, whose parts alternate. It returns them in the order in which they end.
func (w *walker) addParts(rnd *rand.Rand, blocks []randomBlock) []randomBlock {
	var ended []randomBlock
	next := make([]int, len(blocks))
	for len(ended) < len(blocks) {
		i := rnd.IntN(len(blocks))
		b, part := &blocks[i], next[i]
		if part == len(b.parts) {
			continue
		}
		flags := uint16(0)
		if part == 0 {
			flags = b.flags | blockBegins
		}
		if part == len(b.parts)-1 {
			flags |= blockEnds
			ended = append(ended, *b)
		}
		w.add(b.connection, flags, b.parts[part])
		next[i]++
	}
	return ended
}

// randomConnections are those that the walk sees at the same time.
type randomConnections struct {
	static []hpack.HeaderField
	all    [256]*randomConnection
}

func newRandomConnections(t *testing.T) *randomConnections {
	return &randomConnections{static: staticFields(t)}
}

// next makes blocks of up to three connections. A connection that has ended is replaced by a new one; the walk misses the
// beginning of some, and a part of others.
func (c *randomConnections) next(t *testing.T, rnd *rand.Rand) []randomBlock {
	var blocks []randomBlock
	first := rnd.IntN(len(c.all))
	for i := range 1 + rnd.IntN(3) {
		i = (first + i) % len(c.all)
		if c.all[i] == nil || c.all[i].left <= 0 {
			c.all[i] = newRandomConnection(rnd, c.static)
			if rnd.IntN(4) == 0 {
				c.all[i].skip(t)
			}
		} else if rnd.IntN(500) == 0 {
			c.all[i].skip(t)
		}
		b := c.all[i].next(t)
		b.connection = i
		blocks = append(blocks, b)
	}
	return blocks
}
