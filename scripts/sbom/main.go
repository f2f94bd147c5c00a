// Command sbom prints the bill of materials of a Go binary: every module that was
// linked into it, read from the binary itself, as CycloneDX 1.6 in JSON. The same
// binary gives the same bytes.
//
//	go run ./scripts/sbom bin/cbagent v1.2.3
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// The parts of CycloneDX that say something here.
type (
	document struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type    string `json:"type"`
		Ref     string `json:"bom-ref"`
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
		PURL    string `json:"purl,omitempty"`
		Hashes  []hash `json:"hashes,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "sbom: name a Go binary and its version")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(path, version string, out io.Writer) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read modules of %s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)

	info.Main.Version = version
	main := module(&info.Main)
	main.Type = "application"
	main.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	bom := document{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{main}}

	// The standard library has vulnerabilities of its own.
	parts := []component{{
		Type: "library", Ref: "std", Name: "std", Version: info.GoVersion,
		PURL: "pkg:golang/std@" + info.GoVersion[len("go"):],
	}}
	for _, dep := range info.Deps {
		parts = append(parts, module(dep))
	}
	uses := dependency{Ref: main.Ref}
	for _, part := range parts {
		uses.DependsOn = append(uses.DependsOn, part.Ref)
	}
	bom.Components, bom.Dependencies = parts, []dependency{uses}

	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(bom)
}

func module(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	name := m.Path + "@" + m.Version
	return component{Type: "library", Ref: name, Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + name}
}
