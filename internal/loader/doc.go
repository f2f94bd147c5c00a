// Package loader manages the life cycle of the programs: it loads them, attaches them to interfaces, pins and adopts maps
// and links that outlive the agent, and detaches them. Package tables accesses the content of the maps.
package loader
