package loader

import (
	"os"
	"strconv"
	"testing"
)

// randomBlocks is the number of random header blocks: CBAGENT_BLOCKS, or enough to see what is wrong.
func randomBlocks(t *testing.T) int {
	t.Helper()
	s := os.Getenv("CBAGENT_BLOCKS")
	if s == "" {
		return 100_000
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("CBAGENT_BLOCKS: %v", err)
	}
	return n
}

// tally counts values of blocks: whether the walk has to know them, and whether it does.
type tally struct{ known, resolved, unresolved int }

// check compares a block with what the walk says of it.
func (n *tally) check(t *testing.T, b *randomBlock, got hpackBlock) {
	t.Helper()
	if got.Broken != 0 || b.known && got != b.want {
		t.Fatalf("%v: % x: %v, expected %v", b.fields, b.parts, got, b.want)
	}
	for _, v := range [][2]uint16{
		{got.Status, b.want.Status}, {got.GrpcStatus, b.want.GrpcStatus}, {got.ContentType, b.want.ContentType}, {got.Method, b.want.Method},
	} {
		switch {
		case b.known:
			n.known++
		case v[0] == v[1]:
			n.resolved++
		case v[0] == unknown:
			n.unresolved++
		default:
			t.Fatalf("%v: % x: %v, expected %v or unknown", b.fields, b.parts, got, b.want)
		}
	}
}

// The walk finds in random blocks what x/net's decoder finds. It knows all values if it saw the connection from its beginning
// and there were never more than 16 insertions to remember; otherwise some are unknown, and none is wrong.
func TestHPACKRandomBlocks(t *testing.T) {
	const shards = 2
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			walkRandomBlocks(t, randomBlocks(t)/shards)
		})
	}
}

func walkRandomBlocks(t *testing.T, blocks int) {
	w, rnd, c := newWalker(t), seeded(t), newRandomConnections(t)
	var n tally
	walked := 0
	for walked < blocks {
		var expected []randomBlock
		for len(w.input) < int(hpackInputSizeINPUT_MAX)-1<<17 && walked+len(expected) < blocks {
			expected = append(expected, w.addParts(rnd, c.next(t, rnd))...)
		}
		got := w.walk(nil)
		if len(got) != len(expected) {
			t.Fatalf("%d blocks ended, expected %d", len(got), len(expected))
		}
		for i := range got {
			n.check(t, &expected[i], got[i])
		}
		walked += len(got)
	}
	t.Logf("%d blocks: %d values known, of others %d resolved and %d not", walked, n.known, n.resolved, n.unresolved)
	if n.known < n.resolved+n.unresolved || n.resolved < n.unresolved || n.unresolved == 0 {
		t.Error("the blocks test too little of the walk")
	}
}
