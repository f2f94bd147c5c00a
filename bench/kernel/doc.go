// Package kernel measures what a packet costs in the programs, one packet at a time, beside a program that does nothing.
package kernel
