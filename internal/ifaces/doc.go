// Package ifaces decides which network interfaces the datapath attaches to, and follows them as they come and go.
//
// Select is the decision: pure, over a list of links. A Watcher keeps that list up to date from the kernel's
// notifications and reports what changes in the decision. The package attaches nothing itself.
package ifaces
