// Package loader is the handle on the kernel side: it loads the programs, attaches them to interfaces, puts backends,
// policies and verdicts in, and gets outcomes and totals out. It knows nothing of circuits or of policy files.
package loader
