// Package console says in words and tables what an agent tells: for cbagent status, events and top.
package console
