// Package scrape measures a scrape of an agent with ten thousand backends: its time and its size.
package scrape
