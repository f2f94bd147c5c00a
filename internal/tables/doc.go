// Package tables is the agent's side of the programs' maps: verdicts, policies, answers, backends, networks, exempt
// clients, totals, packet counts and events. It does not read policy files and does not load programs.
//
// A circuit, a policy and an answer are each an index into an array that this process has mapped into its memory: the
// programs see a store at once. Methods that take such an index panic when it is outside the array, unless they return an
// error.
package tables
