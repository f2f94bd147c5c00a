package main

import (
	"fmt"
	"os"
)

// endMessagePath is what Kubernetes gives to each container for why it ended: `kubectl describe pod` shows it as the
// message of the last state. Elsewhere there is no such file.
const endMessagePath = "/dev/termination-log"

// tellEnd writes why the agent ends to a file that is there for it. Where that is not possible the log has it.
func tellEnd(path string, err error) {
	f, failed := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if failed != nil {
		return
	}
	_, _ = fmt.Fprint(f, err)
	_ = f.Close()
}
