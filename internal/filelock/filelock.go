// Package filelock makes one process at a time the owner of a file or a directory. A lock goes with its process.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HeldError says who has the lock.
type HeldError struct {
	Holder string // "process 1234", or where it is when its number is not known here
}

// Error says who has the lock.
func (e *HeldError) Error() string { return "held by " + e.Holder }

// Lock takes the lock of an open file or directory, which it has until the file is closed. The error is a HeldError when
// another has it.
func Lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return &HeldError{holder(f)}
	}
	return err
}

// holder says who has the lock of a file, as far as that can be seen from here.
func holder(f *os.File) string {
	const unknown = "a process in another container"
	var st unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return unknown
	}
	// 1: FLOCK  ADVISORY  WRITE 1234 00:2f:5678 0 EOF
	inode := ":" + strconv.FormatUint(st.Ino, 10)
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(f[5], "%x:%x:", &major, &minor); err != nil || unix.Mkdev(major, minor) != st.Dev {
			continue
		}
		return "process " + f[4]
	}
	return unknown
}
