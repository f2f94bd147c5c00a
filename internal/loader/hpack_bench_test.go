package loader

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// The blocks of a gRPC response: the first of a connection, and later ones.
func BenchmarkHPACK(b *testing.B) {
	w := newWalker(b)
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	encode := func(fields ...string) []byte {
		buf.Reset()
		for i := 0; i < len(fields); i += 2 {
			if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
				b.Fatal(err)
			}
		}
		return slices.Clone(buf.Bytes())
	}
	headers := []string{":status", "200", "content-type", "application/grpc"}
	trailers := []string{"grpc-status", "0", "grpc-message", ""}
	first := [][]byte{encode(headers...), encode(trailers...)}
	later := [][]byte{encode(headers...), encode(trailers...)}
	for name, blocks := range map[string][][]byte{
		"NoBlock": nil, "OneByte": {resize(0)}, "FirstHeaders": first[:1], "FirstTrailers": first[1:], "LaterHeaders": later[:1], "LaterTrailers": later[1:],
		"Raw": {block(indexed(8), inserted(31), raw("application/grpc"), inserted(0), raw("server"), raw("example"), inserted(0), raw("date"),
			raw("Thu, 01 Jan 1970 00:00:00 GMT"))},
	} {
		b.Run(name, func(b *testing.B) {
			for i, block := range first {
				w.addBlock(0, forgetFirst*uint16(1-i), block)
			}
			w.walk(nil)
			for _, block := range blocks {
				w.addBlock(0, 0, block)
			}
			w.load(nil)
			ret, duration, err := w.prog.Benchmark(emptyFrame, b.N, b.ResetTimer)
			if err != nil || int(ret) != len(blocks) {
				b.Fatal(ret, err)
			}
			b.ReportMetric(float64(duration.Nanoseconds()), "ns/run")
		})
	}
}
