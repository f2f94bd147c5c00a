package loader

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestUnsupported(t *testing.T) {
	refused := fmt.Errorf("try: %w", unix.EPERM)
	tests := []struct {
		name string
		all  []Feature
		want []string
	}{
		{"all is there", []Feature{{"a", "5.8", true, nil}, {"tcx", "6.6", false, ebpf.ErrNotSupported}}, nil},
		{"an old kernel", []Feature{{"a", "5.8", true, nil}, {"b", "5.17", true, ebpf.ErrNotSupported}, {"c", "5.14", true, ebpf.ErrNotSupported}},
			[]string{"this kernel lacks", "b (Linux 5.17 or newer): not there", "c (Linux 5.14 or newer): not there", "install a newer one"}},
		{"a seccomp profile", []Feature{{"a", "5.8", true, refused}, {"b", "5.17", true, refused}},
			[]string{"not permitted", "although the capabilities are there", "seccompProfile: {type: Unconfined}", "SystemCallFilter="}},
		{"something else", []Feature{{"a", "5.8", true, refused}, {"b", "5.17", true, ebpf.ErrNotSupported}},
			[]string{"this kernel lacks", "a (Linux 5.8 or newer): could not tell: try: operation not permitted"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := unsupported(test.all)
			if test.want == nil {
				if err != nil {
					t.Errorf("%v, want none", err)
				}
				return
			}
			wantError(t, err, test.want...)
			if got, want := errors.Is(err, ErrNotPermitted), test.name == "a seccomp profile"; got != want {
				t.Errorf("ErrNotPermitted: %v, want %v", got, want)
			}
		})
	}
}
