// Package agentproc runs the agent as a process in a network namespace and follows its JSON log. The demo, the
// end-to-end tests and the benches share it.
package agentproc
