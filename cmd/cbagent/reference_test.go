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
| 3 | no agent answers on the control socket |
| 4 | not permitted to speak to the agent: the message says who is |
| 5 | there is no such policy or backend: the message names the nearest |

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
