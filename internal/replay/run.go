package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/cbagent/cbagent/internal/breaker"
)

// Policy is what a replay needs to know of a policy.
type Policy struct {
	Name      string
	Settings  breaker.Settings
	Addresses []netip.AddrPort // known from the start; they count for ejection although the trace may not name them
	Dynamic   bool             // it also matches by hosts, services or cidrs
}

// Bounds of a trace and of what is said about a bad one.
const (
	maxLine     = 1 << 20 // bytes
	maxProblems = 20
)

// Run replays trace under policies and writes what happens to w as JSON lines, summaries last. The same input and seed
// give the same bytes. What is wrong with the trace is a *TraceError; replaying ends at the first wrong line.
func Run(w io.Writer, policies []Policy, trace io.Reader, seed uint64) error {
	out := bufio.NewWriterSize(w, 1<<16)
	p, err := newPlayer(out, policies, seed)
	if err != nil {
		return err
	}
	if err := p.play(trace); err != nil {
		return errors.Join(err, out.Flush())
	}
	p.summaries()
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the replay: %w", err)
	}
	return nil
}

func (p *player) play(trace io.Reader) error {
	lines := bufio.NewScanner(trace)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	wrong := new(TraceError)
	number := 0
	for lines.Scan() {
		number++
		data := bytes.TrimSpace(lines.Bytes())
		if len(data) == 0 {
			continue
		}
		l, err := parseLine(data)
		if err == nil {
			err = p.step(&l, len(wrong.Problems) == 0)
		}
		if err != nil && !wrong.add(number, err) {
			return wrong
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		wrong.add(number+1, fmt.Errorf("must be at most %d bytes long", maxLine))
	} else if err != nil {
		return fmt.Errorf("read the trace after line %d: %w", number, err)
	}
	if len(wrong.Problems) > 0 {
		return wrong
	}
	return nil
}
