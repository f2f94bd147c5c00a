// Package loader keeps the life cycle of the programs: it loads them, attaches them to interfaces, pins and adopts what
// outlives the agent, and detaches them. What is in their maps is package tables.
package loader
