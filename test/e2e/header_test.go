package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

// pythonHeaders prints status, headers and body as Python's http.client has them: it keeps blanks after a value.
const pythonHeaders = `
import http.client, json, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=10)
c.request("GET", "/")
r = c.getresponse()
print(json.dumps([r.status, dict(r.getheaders()), r.read().decode()]))
`

// TestHeaderValuesAreExact compares the kernel's headers byte by byte: no value ends in blanks, whatever the body's length.
func TestHeaderValuesAreExact(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("python3 is not here: only the raw bytes are looked at")
	}
	bodies := []string{"", "1", "22", "333", "4444"}
	star := newStar(t, netlab.Options{Backends: len(bodies)})
	policies := "version: 1\npolicies:\n"
	at := map[string]netip.AddrPort{}
	for i, body := range bodies {
		at[body] = netip.AddrPortFrom(star.Backends[i].IPv4, port)
		policies += fmt.Sprintf("- {name: bytes-%d, match: {addresses: [%q]}, reject: {body: %q}, %s}\n",
			i, at[body], body, strings.Join(threeFailures, ", "))
	}
	agent := startAgent(t, star.Node, policies, []string{"be*"})
	for i, body := range bodies {
		t.Run("body "+body, func(t *testing.T) {
			t.Parallel()
			want := body
			if want == "" {
				want = defaultBody("open")
			}
			openCircuit(t, agent, serve(t, star.Backends[i].Namespace, at[body]), client(t, star.Client, at[body]))
			raw, err := star.Client.DialContext(soon(t), "tcp", at[body].String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = raw.Close() }()
			head, got, _ := strings.Cut(exchange(t, raw, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "\r\n\r\n")
			if got != want {
				t.Errorf("body %q, want %q", got, want)
			}
			headers := map[string]string{}
			for line := range strings.SplitSeq(head, "\r\n") {
				if name, value, ok := strings.Cut(line, ":"); ok {
					headers[name] = strings.TrimLeft(value, " \t")
				}
			}
			check := func(who string, headers map[string]string) {
				t.Helper()
				for name, want := range map[string]string{
					"Server": "cbagent", "Connection": "close", "X-Cbagent-Reason": "open", "Content-Length": strconv.Itoa(len(want)),
				} {
					if headers[name] != want {
						t.Errorf("%s: %s is %q, want %q", who, name, headers[name], want)
					}
				}
				if n, err := strconv.Atoi(headers["Retry-After"]); err != nil || n < 200 || n > 300 {
					t.Errorf("%s: Retry-After is %q, want the seconds left of five minutes", who, headers["Retry-After"])
				}
			}
			check("raw", headers)
			if python == "" {
				return
			}
			var out bytes.Buffer
			client := exec.CommandContext(soon(t), python, "-c", pythonHeaders, at[body].String())
			client.Stdout, client.Stderr = &out, &out
			if err := star.Client.Start(client); err != nil {
				t.Fatal(err)
			}
			if err := client.Wait(); err != nil {
				t.Fatalf("http.client: %v: %s", err, &out)
			}
			var status int
			var text string
			seen := []any{&status, &headers, &text}
			clear(headers)
			if err := json.Unmarshal(out.Bytes(), &seen); err != nil {
				t.Fatalf("%v in %q", err, &out)
			}
			if status != 503 || text != want {
				t.Errorf("http.client: status %d, body %q", status, text)
			}
			check("http.client", headers)
		})
	}
}
