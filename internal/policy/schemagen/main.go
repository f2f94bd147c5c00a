// Command schemagen prints the JSON Schema of policy files. It lives apart from package policy so that the agent does not
// carry the library for it.
//
// Usage: go generate ./internal/policy
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: schemagen OUTPUT")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func generate(output string) error {
	data, err := schema()
	if err != nil {
		return err
	}
	return os.WriteFile(output, data, 0o644)
}
