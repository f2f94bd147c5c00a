package policy

// Reload reads policy files that take the place of earlier ones. The zero value has read none.
type Reload struct {
	some bool // the last set that was good has policies
}

// Parse is ParseAll for the files that are found in path now. That none is left where there were policies is an error: a folder
// is empty when a mount or a deployment failed more often than when nothing shall be protected any more.
func (r *Reload) Parse(path string, sources []Source) (*Set, error) {
	return r.parse(path, sources, nil)
}

func (r *Reload) parse(path string, sources []Source, unread Errors) (*Set, error) {
	set, err := parse(path, sources, unread)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 && r.some {
		return nil, Errors{{Position: Position{File: path},
			Message: "has no *.yaml any more, so the policies that were in it stay in force; to remove all policies, put a file there that says policies: []"}}
	}
	r.some = len(set.Policies) > 0
	return set, nil
}
