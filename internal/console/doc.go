// Package console formats an agent's status and events as text and tables: for cbagent status, events and top.
package console
