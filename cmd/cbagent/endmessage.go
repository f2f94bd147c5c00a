package main

import (
	"fmt"
	"os"
)

// endMessagePath is the file in which a container reports to Kubernetes why it ended: `kubectl describe pod` shows it as
// the message of the last state. Elsewhere there is no such file.
const endMessagePath = "/dev/termination-log"

// writeEnd writes the reason why the agent ends to that file, if it exists. The log has the reason, too.
func writeEnd(path string, err error) {
	f, failed := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if failed != nil {
		return
	}
	_, _ = fmt.Fprint(f, err)
	_ = f.Close()
}
