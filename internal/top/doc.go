// Package top is the live view of cbagent top: circuits in a table with their rates, and one circuit in detail.
package top
