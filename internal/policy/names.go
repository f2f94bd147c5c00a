package policy

import "fmt"

var (
	directionNames = []string{"outbound", "inbound"}
	protocolNames  = []string{"http", "tcp", "grpc"}
	rejectNames    = []string{"respond", "reset", "drop"}
)

// String returns outbound or inbound.
func (d Direction) String() string { return nameOf(directionNames, d) }

// String returns http, tcp or grpc.
func (p Protocol) String() string { return nameOf(protocolNames, p) }

// String returns respond, reset or drop.
func (w RejectWith) String() string { return nameOf(rejectNames, w) }

func nameOf[T ~uint8](names []string, value T) string {
	if int(value) < len(names) {
		return names[value]
	}
	return fmt.Sprintf("%d", uint8(value))
}

// enum returns the constant with that name, which the decoder has checked.
func enum[T interface {
	~uint8
	String() string
}](name string) T {
	for value := range T(16) {
		if value.String() == name {
			return value
		}
	}
	panic("unknown name " + name)
}
