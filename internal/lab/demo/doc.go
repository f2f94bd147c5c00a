// Package demo runs the agent's main job for real and shows it: callers, a node and three backends in network
// namespaces of its own, and the agent as a process on the node. One backend begins to fail, its circuit opens, the
// kernel answers its callers, it heals, its circuit closes.
package demo
