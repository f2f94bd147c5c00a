// Package wire is a client and a backend that cost as little as a program can: plain system calls, nothing allocated
// for a request. What the bench compares is what lies between them, so the less they cost the more of every difference
// is seen. A Port sends segments of connections that do not exist.
package wire
