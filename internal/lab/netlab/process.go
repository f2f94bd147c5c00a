package netlab

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Start starts the command in the namespace. Only the network is different there: the process sees the same mounts,
// bpffs and cgroups included. If the client dies the process gets a SIGTERM.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	return n.Do(cmd.Start)
}

// NFT loads an nftables ruleset in the namespace with the nft command.
func (n *Namespace) NFT(ruleset string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := n.Start(cmd); err != nil {
		return fmt.Errorf("start nft in %s: %w", n.name, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("load nftables rules in %s: %w: %s", n.name, err, strings.TrimSpace(said.String()))
	}
	return nil
}
