package doctor

import (
	"fmt"

	"github.com/cbagent/cbagent/internal/console"
	"github.com/cbagent/cbagent/internal/control"
)

// maxUnread is how many backends of a policy are named one by one; the cause is mostly the same for all.
const maxUnread = 10

// requests finds the backends of a policy whose connections carry data, and never a request.
func requests(p *control.Policy) []Check {
	var all []Check
	more := 0
	for i := range p.Circuits {
		c := &p.Circuits[i]
		u, ok := console.NewUnread(c)
		if !ok {
			continue
		}
		if len(all) == maxUnread {
			more++
			continue
		}
		all = append(all, Check{Name: "requests to " + c.Policy + "/" + c.Backend, Level: Note,
			Says: "none was seen, so no response is judged: " + u.Begin, Remedy: console.RemedyOf(u.Most)})
	}
	if more > 0 {
		all = append(all, Check{Name: "requests to " + p.Name, Level: Note, Says: fmt.Sprintf("none was seen to %d more backends", more),
			Remedy: "other_protocols in cbagent status -o json says what their connections begin with"})
	}
	return all
}
