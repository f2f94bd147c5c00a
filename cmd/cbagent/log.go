package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cbagent/cbagent/internal/outbox"
)

// logLines is how many lines may wait for the reader of the log: enough for some hundred circuits that open at once.
const logLines = 1024

// lastWords is how long the end of the agent waits for the reader of the log.
const lastWords = 2 * time.Second

// agentLog is the agent's log. Logging never waits for the reader. Lines are formatted when they are logged, so that later
// changes of the values do not show.
type agentLog struct {
	*slog.Logger
	queue lineQueue
}

// lineQueue takes a log line with each Write.
type lineQueue struct{ *outbox.Outbox[[]byte] }

// Write puts a copy of the line into the queue. It never waits and never fails.
func (q lineQueue) Write(line []byte) (int, error) {
	q.Put(bytes.Clone(line))
	return len(line), nil
}

func newLog(e *env, format, level string) (*agentLog, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: must be debug, info, warn or error, got %q", level)
	}
	handler := func(to io.Writer) slog.Handler {
		opts := &slog.HandlerOptions{Level: l}
		if format == "json" {
			return slog.NewJSONHandler(to, opts)
		}
		return slog.NewTextHandler(to, opts)
	}
	write := func(line []byte) error {
		_, err := e.stderr.Write(line)
		return err
	}
	queue := lineQueue{outbox.New(logLines, write, func(dropped uint64) {
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines were dropped: the log was not read in time", 0)
		r.AddAttrs(slog.Uint64("lines", dropped))
		_ = handler(e.stderr).Handle(context.Background(), r) // the log itself fails: there is no other place to report it
	})}
	return &agentLog{slog.New(handler(queue)), queue}, nil
}

// takeOver makes it the log of the whole process: libraries log to it, too, and a write to a pipe without a reader is an
// error and not the end of the process.
func (l *agentLog) takeOver() {
	slog.SetDefault(l.Logger)
	klog.SetSlogLogger(l.Logger)
	signal.Ignore(unix.SIGPIPE)
}

// end writes the error with which the agent ends, if any, and the lines in the queue.
func (l *agentLog) end(err error) {
	if err != nil {
		fmt.Fprintln(l.queue, "cbagent:", err)
	}
	l.queue.Close(lastWords)
}
