// Package loadgen sends HTTP/1.1 requests as clients do, on kept connections and on new ones, and says exactly what
// became of each. Nothing is repeated behind the client's back: what http.Transport would retry is seen here.
package loadgen
