// Package loadgen sends HTTP/1.1 requests as callers do, on kept connections and on new ones, and says exactly what
// became of each. Nothing is repeated behind the caller's back: what http.Transport would retry is seen here.
package loadgen
