package policy

// Load reads the policies in path: a file, or all *.yaml of a directory, in the order of their names. Any error is an
// Errors with everything that is wrong.
func Load(path string) (*Set, error) {
	sources, unread := read(path)
	return parse(path, sources, unread)
}

// parse reads what was found in path. Files that could not be read are reported with what is wrong in the others.
func parse(path string, sources []Source, unread Errors) (*Set, error) {
	set, errs := parseAll(sources)
	if errs = append(errs, unread...); len(errs) > 0 {
		return nil, errs.arrange()
	}
	if len(sources) == 0 {
		set.Warnings = append(set.Warnings, &Error{Position: Position{File: path}, Message: "has no *.yaml: no policies"})
	}
	return set, nil
}

// Parse reads one policy file; name is for messages. Any error is an Errors with everything that is wrong.
func Parse(name string, data []byte) (*Set, error) {
	return ParseAll([]Source{{Name: name, Data: data}})
}

// ParseAll reads policy files that are in force together. Any error is an Errors with everything that is wrong.
func ParseAll(sources []Source) (*Set, error) {
	set, errs := parseAll(sources)
	if len(errs) > 0 {
		return nil, errs.arrange()
	}
	return set, nil
}

// parseAll is ParseAll, with errors that are not arranged.
func parseAll(sources []Source) (*Set, Errors) {
	var errs, warnings, notes Errors
	var policies []*scoped
	for _, source := range sources {
		d := newDecoder(source.Name)
		policies = append(policies, d.document(source.Data)...)
		errs = append(errs, d.errs...)
		warnings = append(warnings, d.warnings...)
		notes = append(notes, d.notes...)
	}
	if errs = append(errs, conflicts(policies)...); len(errs) > 0 {
		return nil, errs
	}
	set := &Set{Policies: make([]*Policy, len(policies)), Warnings: warnings.arrange(), Notes: notes.arrange()}
	for i, p := range policies {
		set.Policies[i] = p.Policy
	}
	return set, nil
}
