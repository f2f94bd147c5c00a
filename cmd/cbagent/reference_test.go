package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

const referenceIntro = `# Commands

Written from the commands' own help; ` + "`cbagent man DIRECTORY`" + ` writes the same as man pages, and ` + "`cbagent completion bash`" + ` (zsh,
fish, powershell) a script that completes commands, flags, and the names of policies and backends of the running agent.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | bad input, or another failure; doctor: something does not work |
| 3 | no agent answers on the control socket, or it does not answer within 5 s: the message says which process |
| 4 | not permitted to speak to the agent: the message says who is |
| 5 | there is no such policy or backend: the message names the nearest |

A stopped or overloaded agent makes no command hang: each call has a deadline of 5 s. A command that follows (` + "`events --follow`" + `,
` + "`events -o trace`" + `) has it for the connection and the first answer. An order that got no answer (` + "`open`" + `, ` + "`close`" + `, ` + "`disable`" + `,
` + "`auto`" + `) may still be carried out when the agent resumes; ` + "`cbagent events`" + ` shows it.

Commands that ask or tell the running agent use its HTTP API on a unix socket, which is for root, and for a group if the
agent was given one with ` + "`--control-group`" + `. Anything that speaks HTTP can use it too:

` + "```" + `
curl --unix-socket /run/cbagent/cbagent.sock http://cbagent/v1/status?target=orders
curl --unix-socket /run/cbagent/cbagent.sock http://cbagent/v1/events?follow=true
curl --unix-socket /run/cbagent/cbagent.sock http://cbagent/v1/override \
  -d '{"action":"open","target":"orders/10.0.0.7:8080","for_seconds":600,"reason":"disk"}'
` + "```" + `

| request | answer |
|---|---|
| ` + "`GET /v1/status?target=T`" + ` | what ` + "`cbagent status -o json`" + ` prints |
| ` + "`GET /v1/events?target=T&last=N&follow=true`" + ` | JSON lines, a record each; ` + "`{\"missed\":n}`" + ` stands for what the reader was too slow for |
| ` + "`GET /v1/trace?target=T`" + ` | JSON lines in the format of ` + "`cbagent replay`" + `, as outcomes happen |
| ` + "`GET /v1/ready`" + ` | ` + "`{\"ready\":true}`" + `, or ` + "`{\"ready\":false,\"waits_for\":\"...\"}`" + ` |
| ` + "`GET /v1/policies?target=T`" + ` | the policies in force with all defaults, as a policy file in JSON |
| ` + "`POST /v1/override`" + ` | ` + "`{\"changes\":[...]}`" + `, one for each circuit; ` + "`\"warning\"`" + ` says that it could not be saved, and what a restart would forget |

A target is a policy, a backend (by address and port, or by the name of its pod) or POLICY/BACKEND; none means all. Errors
have a status of 400 or above and are ` + "`{\"error\":\"...\",\"nearest\":[...]}`" + `. Within v1 keys are added, never renamed.

`

// reference is the page of all commands.
func reference(t *testing.T) string {
	t.Helper()
	root := newRootCommand(&env{})
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	b.WriteString(referenceIntro)
	for _, c := range root.Commands() {
		if !c.IsAvailableCommand() || c.Name() == "completion" {
			continue
		}
		c.DisableAutoGenTag = true
		c.InitDefaultHelpFlag()
		b.WriteString(section(t, c))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

var seeAlso = regexp.MustCompile(`(?s)### SEE ALSO.*`)

func section(t *testing.T, c *cobra.Command) string {
	t.Helper()
	var b bytes.Buffer
	if err := doc.GenMarkdown(c, &b); err != nil {
		t.Fatal(err)
	}
	text := seeAlso.ReplaceAllString(b.String(), "")
	text = regexp.MustCompile(`(?s)### Options inherited.*`).ReplaceAllString(text, "")
	return strings.TrimRight(text, "\n") + "\n\n"
}

func TestReference(t *testing.T) {
	compare(t, "../../docs/commands.md", reference(t))
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man8")
	if _, stderr, code := cbagent(t, "", "man", dir); code != 0 {
		t.Fatal(stderr)
	}
	for _, c := range newRootCommand(&env{}).Commands() {
		page, err := os.ReadFile(filepath.Join(dir, "cbagent-"+c.Name()+".8"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Contains(page, []byte(".SH NAME\ncbagent-"+c.Name())) {
			t.Errorf("the man page of %s begins %q", c.Name(), page[:min(200, len(page))])
		}
	}
}
