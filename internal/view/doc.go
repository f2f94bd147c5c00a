// Package view holds what an agent shows of itself: the moment's snapshot, and the records of what happened. Metrics, the
// control socket and the page all read these, so that they cannot tell different stories.
package view
