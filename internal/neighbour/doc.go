// Package neighbour knows which of the node's neighbours (ARP, neighbour discovery) do not answer, and which addresses the
// node reaches through them.
package neighbour
