package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// nginx answers orders of one size from files, and others by rules of its configuration.
const nginxConfig = `daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
    log_format status '$status';
    access_log %[1]s/access.log status;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    keepalive_requests 1000000;
    client_max_body_size 0;
    server {
        listen %[2]s http2;
        root %[1]s/files;
        location = /status=404,size=1 { return 404 a; }
        location = /status=500,size=1 { return 500 a; }
        location = /status=503,size=1 { return 503 a; }
    }
}
`

// sizes are the orders that the servers of files can carry out.
var sizes = []int{0, 1, 3000, 300000}

func files(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, size := range sizes {
		path := filepath.Join(dir, fmt.Sprintf("size=%d", size))
		if err := os.WriteFile(path, bytes.Repeat([]byte("a"), size), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func nginxServer(ctx context.Context, o options) error {
	dir, err := daemonDir()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, o.address), 0o644); err != nil {
		return err
	}
	cmd := command(ctx, "nginx", "-c", config, "-e", filepath.Join(dir, "error.log"))
	return daemon(cmd, o.address, func() (map[string]int, error) {
		log, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err != nil {
			return nil, err
		}
		counts := map[string]int{}
		for _, result := range strings.Fields(string(log)) {
			counts[result]++
		}
		return counts, nil
	})
}

// nghttpdServer counts the responses in what nghttpd prints.
func nghttpdServer(ctx context.Context, o options) error {
	dir, err := daemonDir()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	host, port, err := net.SplitHostPort(o.address)
	if err != nil {
		return err
	}
	cmd := command(ctx, "nghttpd", "--no-tls", "--verbose", "--htdocs", filepath.Join(dir, "files"), "--address", host, port)
	log := &statuses{counts: map[string]int{}}
	cmd.Stdout = log
	return daemon(cmd, o.address, log.all)
}

// statuses counts the lines of nghttpd's log that are a response's status.
type statuses struct {
	mu     sync.Mutex
	rest   []byte // an incomplete line
	counts map[string]int
}

func (s *statuses) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, p...)
	for {
		line, rest, ok := bytes.Cut(s.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if status, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(":status: ")); ok {
			if _, err := strconv.Atoi(string(status)); err == nil {
				s.counts[string(status)]++
			}
		}
		s.rest = rest
	}
}

func (s *statuses) all() (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[string]int{}
	for result, n := range s.counts {
		counts[result] = n
	}
	return counts, nil
}

// daemonDir makes a directory that a daemon's own user can read, with the files.
func daemonDir() (string, error) {
	dir, err := os.MkdirTemp("", "zoo-")
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), files(filepath.Join(dir, "files"))); err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// startsWithin is how long a daemon may take to listen.
const startsWithin = 10 * time.Second

// daemon runs a daemon until standard input ends.
func daemon(cmd *exec.Cmd, address string, counts func() (map[string]int, error)) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only if it has ended
		<-ended
	}()
	for deadline := time.Now().Add(startsWithin); ; <-time.After(10 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("%s ended: %w", cmd.Path, err)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %w", cmd.Path, err)
		}
	}
	return control(counts)
}
