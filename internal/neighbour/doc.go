// Package neighbour follows which of the node's neighbours (ARP, neighbour discovery) do not answer, and which addresses
// the node reaches through them. It can hold the entries of dead neighbours.
package neighbour
