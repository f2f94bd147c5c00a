package loader

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func TestHPACKRepresentations(t *testing.T) {
	w := newWalker(t)
	status := func(n uint16) hpackBlock { return hpackBlock{Status: n} }
	grpc := func(code uint16) hpackBlock { return hpackBlock{GrpcStatus: codeOK + code} }
	content := func(v uint16) hpackBlock { return hpackBlock{ContentType: v} }
	method := func(v uint16) hpackBlock { return hpackBlock{Method: v} }
	none := hpackBlock{}
	type row struct {
		name  string
		block []byte
		want  hpackBlock
	}
	rows := []row{
		{"empty", nil, none},
		{"size update", resize(100), none},
		{"long size update", resize(4000), none},
		{"status 503 after a size update", block(resize(0), resize(4096), literal(8), raw("503")), status(503)},
		{"status 200 by index", indexed(8), status(200)},
		{"status 204 by index", indexed(9), status(204)},
		{"status 206 by index", indexed(10), status(206)},
		{"status 304 by index", indexed(11), status(304)},
		{"status 400 by index", indexed(12), status(400)},
		{"status 404 by index", indexed(13), status(404)},
		{"status 500 by index", indexed(14), status(500)},
		{"before the statuses", indexed(7), none},
		{"after the statuses", indexed(15), none},
		{"authority", indexed(1), none},
		{"GET", indexed(2), method(notHead)},
		{"POST", indexed(3), method(notHead)},
		{"path", indexed(4), none},
		{"content-type by index", indexed(31), content(notGRPC)},
		{"the name after the statuses", block(literal(15), raw("503")), none},
		{"the name before the methods", block(literal(1), raw("HEAD")), none},
		{"the name after the methods", block(literal(4), raw("HEAD")), none},
		{"the name before content-type", block(literal(30), raw("application/grpc")), none},
		{"the name after content-type", block(literal(32), raw("application/grpc")), none},
		{"before content-type", indexed(30), none},
		{"after content-type", indexed(32), none},
		{"last static entry", indexed(61), none},

		{"status by the name of 404", block(literal(13), raw("503")), status(503)},
		{"status never indexed", block(never(14), huff("599")), status(599)},
		{"the value of another name", block(literal(7), raw("503")), none},
		{"status 100", block(literal(8), raw("100")), status(100)},
		{"status 999", block(literal(8), huff("999")), status(999)},
		{"status 099", block(literal(8), raw("099")), status(unknown)},
		{"status 099, Huffman", block(literal(8), huff("099")), status(unknown)},
		{"status of two digits", block(literal(8), raw("50")), status(unknown)},
		{"status of four digits", block(literal(8), raw("5030")), status(unknown)},
		{"status of four digits, Huffman", block(literal(8), huff("5030")), status(unknown)},
		{"status of four short digits, Huffman", block(literal(8), huff("1111")), status(unknown)},
		{"status with a letter", block(literal(8), raw("5o3")), status(unknown)},
		{"status with a letter, Huffman", block(literal(8), huff("5o3")), status(unknown)},
		{"status with /", block(literal(8), raw("5/3")), status(unknown)},
		{"status with :", block(literal(8), raw("5:3")), status(unknown)},
		{"status with a byte above 127", block(literal(8), raw("5\xb03")), status(unknown)},
		{"empty status", block(literal(8), raw("")), status(unknown)},
		{"two equal statuses", block(indexed(8), literal(8), raw("200")), status(200)},
		{"two statuses", block(indexed(8), literal(8), raw("503")), status(unknown)},
		{"three statuses", block(indexed(8), indexed(9), indexed(8)), status(unknown)},

		{"code never indexed", block(never(0), raw("grpc-status"), raw("14")), grpc(14)},
		{"code 16", block(literal(0), raw("grpc-status"), raw("16")), grpc(16)},
		{"code 17", block(literal(0), raw("grpc-status"), raw("17")), grpc(2)},
		{"code 17, Huffman", block(literal(0), huff("grpc-status"), huff("17")), grpc(2)},
		{"code 999", block(literal(0), huff("grpc-status"), huff("999")), grpc(2)},
		{"code 007", block(literal(0), raw("grpc-status"), raw("007")), grpc(7)},
		{"code -1", block(literal(0), raw("grpc-status"), raw("-1")), grpc(unknown - codeOK)},
		{"empty code", block(literal(0), raw("grpc-status"), huff("")), grpc(unknown - codeOK)},
		{"longer name", block(literal(0), raw("grpc-statuss"), raw("14")), none},
		{"shorter name", block(literal(0), raw("grpc-statu"), raw("14")), none},
		{"name that differs in its last byte, Huffman", block(literal(0), huff("content-typc"), raw("x")), none},
		{"name in capitals", block(literal(0), raw("Grpc-Status"), raw("14")), none},
		{"empty name", block(literal(0), raw(""), raw("14"), indexed(8)), status(200)},
		{"padding of too few bits", block(literal(0), raw("grpc-status"), []byte{0x82, 0x07, 0xff}), grpc(unknown - codeOK)},
		{"padding of zeros", block(literal(0), raw("grpc-status"), []byte{0x81, 0x00}), grpc(unknown - codeOK)},
		{"padding of a digit", block(literal(0), raw("grpc-status"), []byte{0x82, 0x07, 0x5f}), grpc(unknown - codeOK)},
		{"a cut digit", block(literal(0), raw("grpc-status"), []byte{0x81, 0x0b}), grpc(unknown - codeOK)},

		{"application/grpc", block(literal(31), raw("application/grpc")), content(isGRPC)},
		{"application/grpc, Huffman", block(literal(31), huff("application/grpc")), content(isGRPC)},
		{"application/grpc+proto", block(literal(31), raw("application/grpc+proto")), content(isGRPC)},
		{"application/grpc+proto, Huffman", block(literal(31), huff("application/grpc+proto")), content(isGRPC)},
		{"application/grp", block(literal(31), raw("application/grp")), content(notGRPC)},
		{"application/grp, Huffman", block(literal(31), huff("application/grp")), content(notGRPC)},
		{"application/grpd", block(literal(31), raw("application/grpd")), content(notGRPC)},
		{"application/grpb, Huffman", block(literal(31), huff("application/grpb")), content(notGRPC)},
		{"text/html", block(literal(31), huff("text/html; charset=utf-8")), content(notGRPC)},
		{"empty content-type", block(literal(31), raw("")), content(notGRPC)},
		{"raw content-type in Huffman's bytes", block(literal(31), raw(string(huff("application/grpc")[1:])+"grpc+")), content(notGRPC)},
		{"empty content-type after another text", block(literal(4), raw("application/grpc"), literal(31), raw("")), content(notGRPC)},
		{"empty content-type after another text, Huffman", block(literal(4), huff("application/grpc"), literal(31), huff("")), content(notGRPC)},
		{"longer content-type", block(literal(31), raw("application/grpc;"+strings.Repeat("x", 300))), content(isGRPC)},

		{"HEAD", block(literal(2), raw("HEAD")), method(isHead)},
		{"HEAD, Huffman", block(literal(3), huff("HEAD")), method(isHead)},
		{"head", block(literal(2), raw("head")), method(notHead)},
		{"HEADS", block(literal(2), raw("HEADS")), method(notHead)},
		{"HEA", block(literal(2), raw("HEA")), method(notHead)},
		{"PUT, Huffman", block(literal(2), huff("PUT")), method(notHead)},
		{"raw method in Huffman's bytes", block(literal(2), raw("\xc7\x82\x1b\xff")), method(notHead)},

		{"all fields", block(indexed(13), literal(2), huff("HEAD"), literal(0), huff("grpc-status"), raw("5"), literal(31), huff("application/grpc")),
			hpackBlock{Status: 404, GrpcStatus: codeOK + 5, ContentType: isGRPC, Method: isHead}},
		{"inserted and used", block(inserted(8), raw("503"), inserted(0), raw("x"), raw("y"), indexed(63)), status(503)},
		{"name of an insertion", block(inserted(0), huff("grpc-status"), raw("0"), literal(62), raw("0")), grpc(0)},
		{"two codes by the name of an insertion", block(inserted(0), huff("grpc-status"), raw("0"), literal(62), raw("1")), grpc(unknown - codeOK)},
		{"an insertion of no interest", block(inserted(0), raw("x"), raw("y"), indexed(8), indexed(62)), status(200)},
		{"a value that is no code, by index", block(inserted(0), raw("grpc-status"), raw("a"), indexed(62)), grpc(unknown - codeOK)},
		{"longer integers", block(number(nil, 0, 4, 31, 3), number(nil, 0, 7, 127, 2), bytes.Repeat([]byte("x"), 127), indexed(9)),
			hpackBlock{Status: 204, ContentType: notGRPC}},
	}
	for _, name := range []string{":status", "grpc-status", "content-type", ":method"} {
		for _, value := range []string{"500", "7", "application/grpc", "HEAD"} {
			want := blockOf([]hpack.HeaderField{{Name: name, Value: value}})
			for form, first := range map[string][]byte{"literal": literal(0), "never": never(0), "inserted": inserted(0)} {
				rows = append(rows, row{fmt.Sprintf("%s: %s, %s, raw", name, value, form), block(first, raw(name), raw(value)), want},
					row{fmt.Sprintf("%s: %s, %s, Huffman name", name, value, form), block(first, huff(name), raw(value)), want},
					row{fmt.Sprintf("%s: %s, %s, Huffman value", name, value, form), block(first, raw(name), huff(value)), want},
					row{fmt.Sprintf("%s: %s, %s, Huffman", name, value, form), block(first, huff(name), huff(value)), want})
			}
		}
		// One bit is another.
		for i := range len(name) {
			other := []byte(name)
			other[i] ^= 1
			rows = append(rows, row{"not " + name, block(literal(0), raw(string(other)), raw("500")), none},
				row{"not " + name + ", Huffman", block(literal(0), huff(string(other)), raw("500")), none})
		}
	}
	for _, value := range []string{"application/grpc", "HEAD"} {
		for i := range len(value) {
			other := []byte(value)
			other[i] ^= 1
			for _, text := range [][]byte{raw(string(other)), huff(string(other))} {
				rows = append(rows, row{"not " + value, block(literal(31), text, literal(2), text),
					hpackBlock{ContentType: notGRPC, Method: notHead}})
			}
		}
	}
	for b := range 256 {
		for _, s := range []string{string([]byte{byte(b)}), string([]byte{'1', byte(b)})} {
			want := blockOf([]hpack.HeaderField{{Name: "grpc-status", Value: s}})
			rows = append(rows, row{fmt.Sprintf("code %q", s), block(literal(0), raw("grpc-status"), raw(s)), want},
				row{fmt.Sprintf("code %q, Huffman", s), block(literal(0), raw("grpc-status"), huff(s)), want})
		}
	}
	for n := range 1000 {
		s := strconv.Itoa(n)
		for _, text := range [][]byte{raw(s), huff(s)} {
			want := hpackBlock{Status: uint16(n), GrpcStatus: codeOK + uint16(n)}
			if n < 100 {
				want.Status = unknown
			}
			if n > 16 {
				want.GrpcStatus = codeOK + 2
			}
			rows = append(rows, row{"number " + s, block(literal(8), text, literal(0), raw("grpc-status"), text), want})
		}
	}
	for _, r := range rows {
		fields, err := hpack.NewDecoder(4096, nil).DecodeFull(r.block)
		if err == nil && blockOf(fields) != r.want {
			t.Errorf("%s: the decoder finds %v in % x, expected %v", r.name, fields, r.block, r.want)
		}
		if err != nil && !strings.Contains(r.name, "padding") && !strings.Contains(r.name, "cut") {
			t.Errorf("%s: % x: %v", r.name, r.block, err)
		}
		// At once, at each place in two, and byte by byte; before different bytes.
		all := make([]int, 0, len(r.block))
		for cut := range len(r.block) {
			w.addBlock(0, forgetFirst, r.block, cut)
			all = append(all, cut)
		}
		w.addBlock(0, forgetFirst, r.block, all...)
		w.addBlock(0, forgetFirst, r.block)
		for _, tail := range []string{strings.Repeat("\x00", 16), strings.Repeat("\xff", 16), "0123456789abcdef", "c;0123456789abcdef", "tus" + string(raw("14"))} {
			again := slices.Clone(w.input)
			for cut, got := range w.walk([]byte(tail)) {
				if got != r.want {
					t.Errorf("%s: % x cut at %d: %v, expected %v", r.name, r.block, cut, got, r.want)
				}
			}
			w.input = again
		}
		w.input = w.input[:0]
	}
	t.Logf("%d blocks", len(rows))
}

func TestHPACKBroken(t *testing.T) {
	w := newWalker(t)
	for _, r := range []struct {
		name  string
		block []byte
		want  hpackBlock
	}{
		{"index 0", indexed(0), broken},
		{"index 0 after a status", block(indexed(8), indexed(0)), broken},
		{"the longest integer", block(never(0), []byte{0x7f, 0x80, 0x80, 0x80, 0x00}, make([]byte, 127), raw("")), hpackBlock{}},
		{"an integer that is too long", block(never(0), []byte{0x7f, 0x80, 0x80, 0x80, 0x80, 0x00}, make([]byte, 127), raw("")), broken},
		{"a length of 2^63", block(never(0), number(nil, 0, 7, 1<<63, 0)), broken},
		{"an index of 2^35", indexed(1 << 35), broken},
		{"a size of 2^35", resize(1 << 35), broken},
		{"the end within an index", []byte{0xff}, broken},
		{"the end within an index, later", []byte{0xff, 0x80}, broken},
		{"the end before a name", literal(0), broken},
		{"the end within a name", block(literal(0), raw("grpc-status")[:5]), broken},
		{"the end before a value", block(literal(0), raw("grpc-status")), broken},
		{"the end within a length", block(literal(8), []byte{0x7f}), broken},
		{"the end within a value", block(literal(8), raw("503")[:3]), broken},
		{"an index of later", indexed(62), hidden},
		{"the name of later", block(literal(62), raw("503")), hidden},
		{"the name of later, inserted", block(inserted(200), raw("503"), indexed(62)), hidden},
		{"a status and an index of later", block(indexed(200), indexed(8)), hpackBlock{Status: 200, GrpcStatus: unknown, ContentType: unknown, Method: unknown}},
	} {
		for cut := range len(r.block) {
			w.addBlock(0, forgetFirst, r.block, cut)
		}
		w.addBlock(0, forgetFirst, r.block)
		// A broken connection stays broken, until it is forgotten.
		w.addBlock(0, 0, nil)
		w.addBlock(0, forgetFirst, nil)
		got := w.walk(nil)
		for cut, got := range got[:len(r.block)+1] {
			if got != r.want {
				t.Errorf("%s: % x cut at %d: %v, expected %v", r.name, r.block, cut, got, r.want)
			}
		}
		after := hpackBlock{}
		if r.want == broken {
			after = broken
		}
		if got := got[len(r.block)+1]; got != after {
			t.Errorf("%s: the next block is %v, expected %v", r.name, got, after)
		}
		if got := got[len(r.block)+2]; got != (hpackBlock{}) {
			t.Errorf("%s: the first block of the next connection is %v", r.name, got)
		}
	}
}

// A field is found wherever the window ends.
func TestHPACKWindow(t *testing.T) {
	w := newWalker(t)
	want := hpackBlock{Status: 503, GrpcStatus: codeOK + 14, ContentType: isGRPC, Method: isHead}
	rest := block(inserted(0), raw(":status"), raw("503"), inserted(0), huff("grpc-status"), raw("14"),
		inserted(0), raw("content-type"), raw("application/grpc+proto"), literal(0), raw(":method"), huff("HEAD"))
	for n := range 600 {
		w.addBlock(0, forgetFirst, block(literal(0), raw("x"), raw(strings.Repeat("y", n)), rest))
	}
	for n, got := range w.walk(nil) {
		if got != want {
			t.Errorf("%d bytes before: %v, expected %v", n, got, want)
		}
	}
}

// The ring remembers 16 insertions. An index that refers to an earlier one, or may do so, is of an unknown field.
func TestHPACKForgets(t *testing.T) {
	w := newWalker(t)
	status := func(n int) []byte { return block(inserted(8), raw(strconv.Itoa(n))) }
	other := block(inserted(0), raw("x"), raw("y"))
	insertions := other
	for n := range 16 {
		insertions = block(insertions, status(500+n), other)
	}
	entry := func(back int) []byte { return indexed(uint64(62 + back)) }
	w.addBlock(0, forgetFirst, insertions)
	for back := range 33 { // all, from the latest
		w.addBlock(0, 0, entry(back))
	}
	w.addBlock(0, 0, status(599)) // instead of 500
	for back := range 34 {
		w.addBlock(0, 0, entry(back))
	}
	w.addBlock(0, 0, entry(34)) // before the first
	got := w.walk(nil)
	for back, got := range got[1:34] {
		want := hpackBlock{}
		if back%2 == 1 {
			want.Status = uint16(515 - back/2)
		}
		if got != want {
			t.Errorf("%d back: %v, expected %v", back, got, want)
		}
	}
	for back, got := range got[35:69] {
		want := hpackBlock{}
		switch {
		case back == 0:
			want.Status = 599
		case back >= 32:
			want = hidden // 500, and what was inserted before it
		case back%2 == 0:
			want.Status = uint16(516 - back/2)
		}
		if got != want {
			t.Errorf("after one more, %d back: %v, expected %v", back, got, want)
		}
	}
	if got[69] != hidden {
		t.Errorf("before the first: %v", got[69])
	}
}

// After a gap what was inserted before is unknown; what is inserted later is known, and so are fields inserted with an unknown
// name as unknown.
func TestHPACKJoins(t *testing.T) {
	w := newWalker(t)
	status := block(inserted(8), raw("503"))
	other := block(inserted(0), raw("x"), raw("y"))
	blocks := []struct {
		flags uint16
		block []byte
		want  hpackBlock
	}{
		{forgetFirst, block(status, other), hpackBlock{Status: 503}},
		{0, indexed(63), hpackBlock{Status: 503}},
		{forgetFirst, indexed(63), hidden},
		{0, block(other, status), hpackBlock{Status: 503}},
		{0, indexed(62), hpackBlock{Status: 503}},
		{0, indexed(63), hpackBlock{}},
		{0, indexed(64), hidden},
		{0, block(inserted(65), raw("404")), hidden},
		{0, indexed(62), hidden},
		{0, block(literal(62), raw("404")), hidden},
		{0, indexed(63), hpackBlock{Status: 503}},
		{0, indexed(64), hidden}, // of another name, but earlier than one that is unknown
		{0, other, hpackBlock{}},
		{0, indexed(62), hpackBlock{}},
	}
	for _, b := range blocks {
		w.addBlock(7, b.flags, b.block)
	}
	for i, got := range w.walk(nil) {
		if got != blocks[i].want {
			t.Errorf("block %d, % x: %v, expected %v", i, blocks[i].block, got, blocks[i].want)
		}
	}
}

// The walk is a small part of the programs that it is in: the verifier reads at most a million instructions of each.
func TestHPACKIsCheapToVerify(t *testing.T) {
	info, err := newWalker(t).prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	if !ok {
		t.Fatal("the kernel does not report the number of verified instructions")
	}
	t.Logf("%d instructions", n)
	if n > 5000 {
		t.Errorf("the verifier reads %d instructions", n)
	}
}
