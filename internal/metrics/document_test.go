package metrics

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func TestDocumentation(t *testing.T) {
	intro, err := os.ReadFile("testdata/intro.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := bytes.NewBuffer(intro)
	if err := writeTables(doc); err != nil {
		t.Fatal(err)
	}
	renamed, err := os.ReadFile("testdata/renamed.md")
	if err != nil {
		t.Fatal(err)
	}
	doc.Write(renamed)
	compare(t, "../../docs/metrics.md", doc.String())
}

// documented are the tables of the documentation, in its order.
var documented = []struct{ each, title, labels string }{
	{"circuit", "Each circuit", "`policy`, `direction`, `backend`"},
	{"policy", "Each policy", "`policy`, `direction`"},
	{"source", "Sources of backends", ""},
	{"interface", "Interfaces", ""},
	{"hook", "Packets", ""},
	{"agent", "The agent", ""},
}

// writeTables writes what Descriptions say as Markdown.
func writeTables(w io.Writer) error {
	for _, t := range documented {
		if _, err := fmt.Fprintf(w, "\n## %s\n\n", t.title); err != nil {
			return err
		}
		if t.labels != "" {
			fmt.Fprintf(w, "All have the labels %s.\n\n", t.labels)
		}
		fmt.Fprint(w, "| name | type | labels | meaning | there |\n|---|---|---|---|---|\n")
		for _, d := range described {
			if d.Each != t.each {
				continue
			}
			var names []string
			for _, l := range d.Labels {
				names = append(names, "`"+l+"`")
			}
			when := d.When
			if when == "" {
				when = "always"
			}
			_, err := fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s |\n", d.Name, strings.ToLower(d.Type.String()), strings.Join(names, ", "), d.Help, when)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
