package policy

// Load reads the policies in path: a file, or all *.yaml of a directory, in the order of their names. Any error is an
// Errors with everything that is wrong.
func Load(path string) (*Set, error) {
	sources, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, sources)
}

// parse reads what was found in path.
func parse(path string, sources []Source) (*Set, error) {
	set, err := ParseAll(sources)
	if err == nil && len(sources) == 0 {
		set.Warnings = append(set.Warnings, &Error{Position: Position{File: path}, Message: "has no *.yaml: no policies"})
	}
	return set, err
}

// Parse reads one policy file; name is for messages. Any error is an Errors with everything that is wrong.
func Parse(name string, data []byte) (*Set, error) {
	return ParseAll([]Source{{Name: name, Data: data}})
}

// ParseAll reads policy files that are in force together. Any error is an Errors with everything that is wrong.
func ParseAll(sources []Source) (*Set, error) {
	var errs, warnings Errors
	var policies []*scoped
	for _, source := range sources {
		d := newDecoder(source.Name)
		policies = append(policies, d.document(source.Data)...)
		errs = append(errs, d.errs...)
		warnings = append(warnings, d.warnings...)
	}
	errs = append(errs, conflicts(policies)...)
	if len(errs) > 0 {
		return nil, errs.arrange()
	}
	set := &Set{Policies: make([]*Policy, len(policies)), Warnings: warnings.arrange()}
	for i, p := range policies {
		set.Policies[i] = p.Policy
	}
	return set, nil
}
