package demo

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the capabilities that the demo needs, each with its use.
var needed = []struct {
	number int
	name   string
	use    string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "make interfaces and attach programs to them"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "make network namespaces"},
}

// checkCapabilities returns an error that names all capabilities that the process lacks.
func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities of the process: %w", err)
	}
	return missing(func(number int) bool { return data[number/32].Effective&(1<<(number%32)) != 0 })
}

func missing(has func(number int) bool) error {
	var lacks []string
	for _, c := range needed {
		if !has(c.number) {
			lacks = append(lacks, fmt.Sprintf("%s (to %s)", c.name, c.use))
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("the demo needs %s: run it as root", strings.Join(lacks, " and "))
}
