package verdict

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"time"

	"github.com/cbagent/cbagent/bench/part"
	"github.com/cbagent/cbagent/bench/peer"
	"github.com/cbagent/cbagent/bench/peer/ring"
	"github.com/cbagent/cbagent/internal/lab/loadgen"
)

// shortestAnswer tells the packet with the server's answer from those without data, which have at most 78 bytes.
const shortestAnswer = 100

// floor makes the same calls as sample, with a program that does nothing but tell in the place of cbagent's.
func floor(ctx context.Context, r *part.Run, pause func()) (got ring.Samples, err error) {
	site, all, _, err := open(r)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	argument, err := json.Marshal(ring.Options{Interface: site.Backends[0].Interface, Longer: shortestAnswer, Samples: len(all)})
	if err != nil {
		return got, fmt.Errorf("measure the floor: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.Bench.Self, "child", "ring", string(argument))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return got, fmt.Errorf("measure the floor: %w", err)
	}
	if err := site.Node.Start(cmd); err != nil {
		return got, fmt.Errorf("measure the floor: %w", err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // what it printed is what counts
	}()
	said := json.NewDecoder(out)
	var word string
	if err := said.Decode(&word); err != nil || word != ring.Ready {
		return got, fmt.Errorf("measure the floor: it said %q: %w", word, err)
	}
	for _, at := range all {
		pause()
		if err := call(ctx, site, at); err != nil {
			return got, err
		}
	}
	if err := said.Decode(&got); err != nil {
		return got, fmt.Errorf("measure the floor: %w", err)
	}
	return got, nil
}

// call makes one call, on a connection of its own.
func call(ctx context.Context, site *peer.Site, at netip.AddrPort) error {
	c := &loadgen.Client{Dial: site.Client.DialContext, Target: at}
	defer c.Close()
	if res := c.Do(ctx, loadgen.Request{}); res.Status != http.StatusInternalServerError {
		return fmt.Errorf("the backend answered %s: %w", res.Outcome(), res.Err)
	}
	return nil
}
