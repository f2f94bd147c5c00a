package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tool is a command-line client. It makes its calls one after the other, or at once on one connection.
type tool struct {
	// calls makes n calls with one process and passes each on in the order of their ends.
	calls func(ctx context.Context, o options, n int, body string, done func(call)) error
}

// run makes all calls: by one process, or by one for each call if there are pauses or no known number of calls.
func (t tool) run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "zoo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	body := ""
	if o.body > 0 {
		body = filepath.Join(dir, "body")
		if err := os.WriteFile(body, []byte(strings.Repeat("a", o.body)), 0o600); err != nil {
			return err
		}
	}
	out := newPrinter()
	if o.calls > 0 && o.pause == 0 {
		return t.calls(ctx, o, o.calls, body, func(c call) { out.print(c) })
	}
	return work(ctx, o, func(ctx context.Context, do order) (c call) {
		one := o
		one.do, one.atOnce = []order{do}, 1
		if err := t.calls(ctx, one, 1, body, func(made call) { c = made }); err != nil {
			return call{Code: -1, Error: err.Error()}
		}
		return c
	})
}

// command is a command that ends with this process.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	return cmd
}

// lines runs a command and passes on the lines that it prints. The status with which it ends is left out of account: what
// became of a call is in its line.
func lines(cmd *exec.Cmd, line func(string)) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		line(scanner.Text())
	}
	_, _ = io.Copy(io.Discard, out) // what is left of an overlong line
	_ = cmd.Wait()
	return scanner.Err()
}

func curlClient(ctx context.Context, o options) error {
	return tool{curl("--http2-prior-knowledge", ownHost)}.run(ctx, o)
}

// curlUpgradeClient keeps its connection only for calls one after the other: of calls at once, curl 7.88 sends some on a
// connection before it knows whether that is upgraded.
func curlUpgradeClient(ctx context.Context, o options) error {
	host := oneHost
	if o.atOnce > 1 {
		host = ownHost
	}
	return tool{curl("--http2", host)}.run(ctx, o)
}

// ownHost names a host of its own for each call, so that each has its own connection: curl 7.88 fails when it uses a
// connection with prior knowledge a second time.
func ownHost(call int) string { return fmt.Sprintf("call-%d.zoo", call) }

func oneHost(int) string { return "zoo" }

// curl prints a line for each of its calls.
func curl(protocol string, host func(call int) string) func(context.Context, options, int, string, func(call)) error {
	return func(ctx context.Context, o options, n int, body string, done func(call)) error {
		dir, err := os.MkdirTemp("", "zoo-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		args := []string{protocol, "--silent", "--no-progress-meter", "--noproxy", "*", "--connect-to", "::" + o.address, "--config", "-",
			"--write-out", `%{urlnum} %{http_code} %{time_total} %{size_download} %header{x-cbagent-reason}|%{errormsg}\n`}
		if o.atOnce > 1 {
			args = append(args, "--parallel", "--parallel-immediate", "--parallel-max", strconv.Itoa(o.atOnce))
		}
		switch {
		case o.method == "HEAD":
			args = append(args, "--head")
		case body != "":
			args = append(args, "--data-binary", "@"+body, "--request", o.method)
		default:
			args = append(args, "--request", o.method)
		}
		var config strings.Builder
		for i := range n {
			fmt.Fprintf(&config, "url = \"http://%s/%s\"\noutput = \"%s/%d\"\n", host(i), o.do[i%len(o.do)].path, dir, i)
		}
		cmd := command(ctx, "curl", args...)
		cmd.Stdin = strings.NewReader(config.String())
		return lines(cmd, func(line string) {
			c := call{Code: -1}
			var i int
			var seconds float64
			words, message, _ := strings.Cut(line, "|")
			if _, err := fmt.Sscan(words, &i, &c.Status, &seconds, &c.Size, &c.Reason); err != nil && c.Reason != "" {
				fmt.Fprintln(os.Stderr, "peers: curl:", line)
			}
			took := time.Duration(seconds * float64(time.Second))
			c.At, c.Took, c.Do = time.Now().Add(-took).UnixNano(), took.Microseconds(), o.do[i%len(o.do)].path
			if message != "" {
				c.Status, c.Error = 0, message
			}
			path := filepath.Join(dir, strconv.Itoa(i))
			if o.method != "HEAD" {
				got, _ := os.ReadFile(path) // there is none without a body
				c.Body = string(got[:min(len(got), maxBody)])
			}
			_ = os.Remove(path)
			done(c)
		})
	}
}

func nghttpClient(ctx context.Context, o options) error { return tool{nghttp()}.run(ctx, o) }

func nghttpUpgradeClient(ctx context.Context, o options) error {
	return tool{nghttp("--upgrade")}.run(ctx, o)
}

// nghttp makes all calls of a process at once, and has one order for all calls: each at-once calls have a process.
func nghttp(flags ...string) func(context.Context, options, int, string, func(call)) error {
	return func(ctx context.Context, o options, n int, body string, done func(call)) error {
		for ; n > 0; n -= o.atOnce {
			if err := nghttpOnce(ctx, o, min(n, o.atOnce), body, done, flags...); err != nil {
				return err
			}
		}
		return nil
	}
}

// nghttpOnce runs nghttp, which prints a table of its calls when all have ended, without their bodies. Calls that are missing
// there have failed.
func nghttpOnce(ctx context.Context, o options, n int, body string, done func(call), flags ...string) error {
	do := o.do[0].path
	args := append([]string{"--null-out", "--stat", "--multiply", strconv.Itoa(n), "--header", ":method: " + o.method}, flags...)
	if body != "" {
		args = append(args, "--data", body)
	}
	var began time.Time
	cmd := command(ctx, "nghttp", append(args, "http://"+o.address+"/"+do)...)
	made, table := 0, false
	began = time.Now()
	err := lines(cmd, func(line string) {
		words := strings.Fields(line)
		if !table {
			table = len(words) > 0 && words[0] == "id"
			return
		}
		if len(words) < 6 {
			return
		}
		starts, err := time.ParseDuration(strings.TrimPrefix(words[2], "+"))
		took, err2 := time.ParseDuration(words[3])
		status, err3 := strconv.Atoi(words[4])
		if err != nil || err2 != nil || err3 != nil {
			fmt.Fprintln(os.Stderr, "peers: nghttp:", line)
		}
		made++
		done(call{At: began.Add(starts).UnixNano(), Took: took.Microseconds(), Do: do, Code: -1, Status: status})
	})
	for range n - made {
		done(call{At: began.UnixNano(), Took: time.Since(began).Microseconds(), Do: do, Code: -1, Error: "no response"})
	}
	return err
}

func h2loadClient(ctx context.Context, o options) error { return tool{h2load}.run(ctx, o) }

// h2load writes a log of its calls, without their bodies.
func h2load(ctx context.Context, o options, n int, body string, done func(call)) error {
	dir, err := os.MkdirTemp("", "zoo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log := filepath.Join(dir, "log")
	args := []string{"--requests", strconv.Itoa(n), "--clients", "1", "--threads", "1", "--max-concurrent-streams", strconv.Itoa(o.atOnce),
		"--log-file", log, "--header", ":method: " + o.method}
	if body != "" {
		args = append(args, "--data", body)
	}
	do := o.do[0].path
	cmd := command(ctx, "h2load", append(args, "http://"+o.address+"/"+do)...)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("h2load: %w", err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	made := 0
	for line := range strings.Lines(string(text)) {
		c := call{Code: -1, Do: do}
		var begin int64 // in microseconds
		if _, err := fmt.Sscan(line, &begin, &c.Status, &c.Took); err != nil {
			return fmt.Errorf("h2load: %q: %w", line, err)
		}
		c.At = begin * 1000
		if c.Status <= 0 {
			c.Status, c.Error = 0, "no response"
		}
		made++
		done(c)
	}
	for range n - made {
		done(call{Do: do, Code: -1, Error: "no response"})
	}
	return nil
}
