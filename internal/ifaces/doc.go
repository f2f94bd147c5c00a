// Package ifaces decides which network interfaces the datapath attaches to, and follows changes of the interfaces. Select
// makes the decision: it is a pure function of a list of links. A Watcher keeps that list up to date by the kernel's
// notifications and reports changes of the decision. The package itself attaches nothing.
package ifaces
