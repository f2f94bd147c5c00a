package loader

import (
	"net"
	"testing"

	"github.com/cbagent/cbagent/internal/lab/netlab"
)

func TestInetSettings(t *testing.T) {
	inNamespace(t, func(ns *netlab.Namespace) {
		conf, err := newInetConf()
		if err != nil {
			t.Fatal(err)
		}
		defer conf.close()
		for _, name := range []string{"lo", "eth0"} {
			l, err := net.InterfaceByName(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []inetSetting{acceptLocal, routeLocalnet} {
				want := func(value uint32) {
					t.Helper()
					if got, err := conf.get(l.Index, s); err != nil || got != value {
						t.Errorf("%s of %s: %d, %v; want %d", s, name, got, err, value)
					}
				}
				want(0)
				if err := ns.Sysctl("net.ipv4.conf."+name+"."+s.String(), "1"); err != nil {
					t.Fatal(err)
				}
				want(1)
				if err := conf.set(l.Index, s, 0); err != nil {
					t.Error(err)
				}
				want(0)
			}
		}
		if _, err := conf.get(9999, acceptLocal); err == nil {
			t.Error("an interface that does not exist has settings")
		}
		if err := conf.set(9999, acceptLocal, 1); err == nil {
			t.Error("an interface that does not exist was set")
		}
	})
}
