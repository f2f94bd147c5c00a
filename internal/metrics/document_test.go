package metrics

import (
	"bytes"
	"os"
	"testing"
)

func TestDocumentation(t *testing.T) {
	intro, err := os.ReadFile("testdata/intro.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := bytes.NewBuffer(intro)
	if err := WriteTables(doc); err != nil {
		t.Fatal(err)
	}
	renamed, err := os.ReadFile("testdata/renamed.md")
	if err != nil {
		t.Fatal(err)
	}
	doc.Write(renamed)
	compare(t, "../../docs/metrics.md", doc.String())
}
