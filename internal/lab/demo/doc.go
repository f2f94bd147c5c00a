// Package demo runs the agent's main job for real and shows it: clients, a node and three backends in network
// namespaces of its own, and the agent as a process on the node. One backend begins to fail, its circuit opens, the
// kernel answers its clients, it heals, its circuit closes.
package demo
