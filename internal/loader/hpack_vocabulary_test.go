package loader

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

// vocabulary is what the header blocks of a connection are made of.
type vocabulary struct {
	lookedFor [][]hpack.HeaderField // a list for each field that the walk looks for
	others    []hpack.HeaderField
}

// Names that are almost those of fields that the walk looks for, and others.
var otherNames = []string{
	"date", "server", "x-request-id", "grpc-message", "grpc-encoding", "cookie", "content-length", ":path", ":authority", "content-encoding",
	"grpc-statut", "grpc-statuses", ":statut", ":statuses", "content-typo", "content-types", ":methof", ":methods", "Content-Type", "", "x",
}

func randomText(rnd *rand.Rand) string {
	b := make([]byte, rnd.IntN(24))
	switch rnd.IntN(40) {
	case 0:
		b = make([]byte, rnd.IntN(700))
	case 1: // any bytes
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return string(b)
	}
	for i := range b {
		b[i] = byte(' ' + rnd.IntN('~'-' '+1))
	}
	return string(b)
}

// newVocabulary has up to most values of each field that the walk looks for.
func newVocabulary(rnd *rand.Rand, most int) *vocabulary {
	v := &vocabulary{}
	add := func(name string, value func() string) {
		var fields []hpack.HeaderField
		for range 1 + rnd.IntN(most) {
			s := value()
			if rnd.IntN(40) == 0 {
				s = randomText(rnd)
			}
			fields = append(fields, hpack.HeaderField{Name: name, Value: s, Sensitive: rnd.IntN(20) == 0})
		}
		v.lookedFor = append(v.lookedFor, fields)
	}
	add(":status", func() string {
		if rnd.IntN(2) == 0 {
			return pick(rnd, []string{"200", "204", "206", "304", "400", "404", "500"})
		}
		return strconv.Itoa(100 + rnd.IntN(900))
	})
	add("grpc-status", func() string { return strconv.Itoa(rnd.IntN(20)) })
	add("content-type", func() string {
		return pick(rnd, []string{"application/grpc", "application/grpc", "application/grp", "text/html", ""}) +
			pick(rnd, []string{"", "", "+proto", ";a=b", strconv.Itoa(rnd.IntN(100))})
	})
	add(":method", func() string {
		return pick(rnd, []string{"HEAD", "HEAD", "GET", "POST", "PUT", "DELETE", "HEADS", "head"})
	})
	for range 1 + rnd.IntN(12) {
		name := pick(rnd, otherNames)
		if rnd.IntN(4) == 0 {
			name = strings.ToLower(randomText(rnd))
		}
		if isLookedFor(name) {
			continue
		}
		v.others = append(v.others, hpack.HeaderField{Name: name, Value: randomText(rnd), Sensitive: rnd.IntN(10) == 0})
	}
	return v
}

// block makes the fields of a block. twice: a field that the walk looks for may occur twice.
func (v *vocabulary) block(rnd *rand.Rand, twice bool) []hpack.HeaderField {
	var fields []hpack.HeaderField
	for _, values := range v.lookedFor {
		n := rnd.IntN(2)
		if twice && rnd.IntN(16) == 0 {
			n = 2
		}
		for range n {
			fields = append(fields, pick(rnd, values))
		}
	}
	for range rnd.IntN(5) {
		if len(v.others) == 0 {
			break
		}
		f := pick(rnd, v.others)
		if rnd.IntN(3) == 0 {
			f.Value = randomText(rnd)
		}
		fields = append(fields, f)
	}
	rnd.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	return fields
}
