// Package testserver is a real HTTP/1.1 server with configurable failures, which counts exactly what it did.
//
// net/http does the serving. What it cannot do (resets, half a status line, heads cut into small segments, a closed
// port) is done on the connections and listeners beneath it.
package testserver
