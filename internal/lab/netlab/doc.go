// Package netlab makes small networks of Linux network namespaces: for the demo, the tests and the benches.
//
// A namespace here is anonymous: nothing names it in the file system, so the kernel frees it, with its interfaces,
// as soon as the last process, socket and descriptor in it is gone. Nothing stays behind even after SIGKILL.
// Nothing here touches an interface, a route or a setting of the namespace that the client runs in.
//
// A Relay between two namespaces carries their frames in user space, and can lose, duplicate, reorder and delay them.
//
// All of it needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
package netlab
