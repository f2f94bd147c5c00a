package loader

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/net/http2/hpack"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -output-stem hpack -type part -type part_flag -type input_size -type block -type hpack_value hpack ../../bpf/test/hpack.bpf.c -- -O2 -g -mcpu=v3 -Wall -Werror -Wno-unused-function -Wpadded -I../../bpf -idirafter /usr/include/x86_64-linux-gnu

const (
	absent  = uint16(hpackHpackValueHPACK_ABSENT)
	unknown = uint16(hpackHpackValueHPACK_UNKNOWN)
	isGRPC  = uint16(hpackHpackValueHPACK_CONTENT_GRPC)
	notGRPC = uint16(hpackHpackValueHPACK_CONTENT_OTHER)
	isHead  = uint16(hpackHpackValueHPACK_METHOD_HEAD)
	notHead = uint16(hpackHpackValueHPACK_METHOD_OTHER)
	codeOK  = uint16(hpackHpackValueHPACK_GRPC_OK)

	forgetFirst = uint16(hpackPartFlagPART_FORGET)
	blockBegins = uint16(hpackPartFlagPART_BEGIN)
	blockEnds   = uint16(hpackPartFlagPART_END)
)

// walker runs header blocks through the programs' walk.
type walker struct {
	t     testing.TB
	objs  hpackObjects
	input []byte // parts that have not been walked
	prog  *ebpf.Program
}

func newWalker(t testing.TB) *walker {
	t.Helper()
	w := &walker{t: t}
	if err := loadHpackObjects(&w.objs, nil); err != nil {
		t.Fatalf("%+v", err)
	}
	w.prog = w.objs.WalkBlocks
	t.Cleanup(func() {
		if err := w.objs.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// add appends a part of a block of one of 256 connections.
func (w *walker) add(connection int, flags uint16, part []byte) {
	w.input = binary.LittleEndian.AppendUint32(w.input, uint32(len(part)))
	w.input = binary.LittleEndian.AppendUint16(w.input, uint16(connection))
	w.input = binary.LittleEndian.AppendUint16(w.input, flags)
	w.input = append(w.input, part...)
}

// addBlock appends a block in the parts between the cuts.
func (w *walker) addBlock(connection int, flags uint16, block []byte, cuts ...int) {
	flags |= blockBegins
	from := 0
	for _, cut := range cuts {
		w.add(connection, flags, block[from:cut])
		from, flags = cut, 0
	}
	w.add(connection, flags|blockEnds, block[from:])
}

// load puts the parts where the program reads them. The bytes behind are those of the tail.
func (w *walker) load(tail []byte) {
	w.t.Helper()
	if len(w.input) > int(hpackInputSizeINPUT_MAX) {
		w.t.Fatalf("%d bytes of input", len(w.input))
	}
	m, err := w.objs.Inputs.Memory()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := m.WriteAt(append(slices.Clip(w.input), tail...), 0); err != nil {
		w.t.Fatal(err)
	}
	if err := w.objs.InputLen.Set(uint32(len(w.input))); err != nil {
		w.t.Fatal(err)
	}
	w.input = w.input[:0]
}

var emptyFrame = make([]byte, 14)

// walk walks all parts, and returns the blocks that ended.
func (w *walker) walk(tail []byte) []hpackBlock {
	w.t.Helper()
	w.load(tail)
	n, err := w.prog.Run(&ebpf.RunOptions{Data: emptyFrame})
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := w.objs.Blocks.Memory()
	if err != nil {
		w.t.Fatal(err)
	}
	if int(n) > int(w.objs.Blocks.MaxEntries()) {
		w.t.Fatalf("%d blocks ended", int32(n))
	}
	raw := make([]byte, int(n)*binary.Size(hpackBlock{}))
	if _, err := m.ReadAt(raw, 0); err != nil {
		w.t.Fatal(err)
	}
	blocks := make([]hpackBlock, n)
	if _, err := binary.Decode(raw, binary.LittleEndian, blocks); err != nil {
		w.t.Fatal(err)
	}
	return blocks
}

// valuesOf is what a decoded field means.
func valuesOf(f hpack.HeaderField) (status, grpc, content, method uint16) {
	number := func() (uint64, bool) {
		n, err := strconv.ParseUint(f.Value, 10, 32)
		return n, err == nil && len(f.Value) <= 3
	}
	switch f.Name {
	case ":status":
		if n, ok := number(); ok && n >= 100 {
			return uint16(n), 0, 0, 0
		}
		return unknown, 0, 0, 0
	case "grpc-status":
		switch n, ok := number(); {
		case !ok:
			return 0, unknown, 0, 0
		case n > 16:
			return 0, codeOK + 2, 0, 0
		default:
			return 0, codeOK + uint16(n), 0, 0
		}
	case "content-type":
		if strings.HasPrefix(f.Value, "application/grpc") {
			return 0, 0, isGRPC, 0
		}
		return 0, 0, notGRPC, 0
	case ":method":
		if f.Value == "HEAD" {
			return 0, 0, 0, isHead
		}
		return 0, 0, 0, notHead
	}
	return 0, 0, 0, 0
}

// blockOf is the result of a block with these fields.
func blockOf(fields []hpack.HeaderField) hpackBlock {
	var b hpackBlock
	put := func(to *uint16, v uint16) {
		switch {
		case v == absent:
		case *to == absent || *to == v:
			*to = v
		default:
			*to = unknown
		}
	}
	for _, f := range fields {
		status, grpc, content, method := valuesOf(f)
		put(&b.Status, status)
		put(&b.GrpcStatus, grpc)
		put(&b.ContentType, content)
		put(&b.Method, method)
	}
	return b
}

// The results of a broken block, and of one with an unknown field.
var (
	broken = hpackBlock{Status: unknown, GrpcStatus: unknown, ContentType: unknown, Method: unknown, Broken: 1}
	hidden = hpackBlock{Status: unknown, GrpcStatus: unknown, ContentType: unknown, Method: unknown}
)
