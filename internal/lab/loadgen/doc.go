// Package loadgen sends HTTP/1.1 requests as clients do, on kept connections and on new ones, and reports the exact result
// of each. It repeats no request: failures that http.Transport would retry are visible.
package loadgen
