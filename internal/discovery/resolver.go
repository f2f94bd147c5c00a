package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	hostsFileTTL   = 5 * time.Second // interval of the lookups of a name of the hosts file
	maxCNAMEs      = 8
	maxLookups     = 16   // at once
	ednsBufferSize = 1232 // fits a packet on any path
)

// errNoSuchHost means that the name has no address, which is an answer and not a failed lookup.
var errNoSuchHost = errors.New("no such host")

// resolver looks names up as the system does: the hosts file first, then the servers of resolv.conf with its search list
// and ndots. Unlike the system's own it returns the TTLs.
type resolver struct {
	resolvConf string
	hosts      hostsFile
	slots      chan struct{}
}

func newResolver(resolvConf, hosts string) *resolver {
	if resolvConf == "" {
		resolvConf = "/etc/resolv.conf"
	}
	if hosts == "" {
		hosts = "/etc/hosts"
	}
	return &resolver{resolvConf: resolvConf, hosts: hostsFile{path: hosts}, slots: make(chan struct{}, maxLookups)}
}

// family is the result of a lookup in one address family. Without addresses and without err the name has none.
type family struct {
	addrs []netip.Addr
	ttl   time.Duration // also of the answer that there is none
	err   error
}

// lookup looks a name up in both families. Of the candidates of the search list it uses the first that has an address; a
// failure ends the search, because the next candidate would be another host.
func (r *resolver) lookup(ctx context.Context, name string) (v4, v6 family) {
	if known := r.hosts.lookup(name); len(known) > 0 {
		v4.ttl, v6.ttl = hostsFileTTL, hostsFileTTL
		for _, a := range known {
			if a.Is4() {
				v4.addrs = append(v4.addrs, a)
			} else {
				v6.addrs = append(v6.addrs, a)
			}
		}
		return v4, v6
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return family{err: ctx.Err()}, family{err: ctx.Err()}
	}
	conf, err := dns.ClientConfigFromFile(r.resolvConf)
	if err != nil {
		err = fmt.Errorf("read %s: %w", r.resolvConf, err)
		return family{err: err}, family{err: err}
	}
	if len(conf.Servers) == 0 {
		conf.Servers = []string{"127.0.0.1", "::1"} // as resolv.conf(5) says
	}
	for _, candidate := range conf.NameList(name) {
		v4, v6 = r.both(ctx, conf, candidate)
		if len(v4.addrs)+len(v6.addrs) > 0 || v4.err != nil || v6.err != nil {
			break
		}
	}
	return v4, v6
}

func (r *resolver) both(ctx context.Context, conf *dns.ClientConfig, name string) (v4, v6 family) {
	var wg sync.WaitGroup
	wg.Go(func() { v4 = resolve(ctx, conf, name, dns.TypeA) })
	wg.Go(func() { v6 = resolve(ctx, conf, name, dns.TypeAAAA) })
	wg.Wait()
	return v4, v6
}

// resolve follows the aliases of name to its addresses, with further queries if a server does not follow them itself.
func resolve(ctx context.Context, conf *dns.ClientConfig, name string, qtype uint16) family {
	ttl := time.Duration(1<<31-1) * time.Second
	for range maxCNAMEs {
		reply, err := ask(ctx, conf, name, qtype)
		if err != nil {
			return family{err: err}
		}
		addrs, last, shortest, err := follow(reply.Answer, name, qtype)
		if err != nil {
			return family{err: err}
		}
		ttl = min(ttl, shortest)
		if len(addrs) > 0 {
			return family{addrs: addrs, ttl: ttl}
		}
		if strings.EqualFold(last, name) || reply.Rcode == dns.RcodeNameError {
			return family{ttl: min(ttl, negativeTTL(reply))}
		}
		name = last
	}
	return family{err: fmt.Errorf("look up %s: more than %d aliases in a row", name, maxCNAMEs)}
}

// follow follows the records of an answer, starting at name. It returns the addresses at the end of the chain of aliases,
// the name there, and the shortest TTL on the way.
func follow(answer []dns.RR, name string, qtype uint16) (addrs []netip.Addr, last string, ttl time.Duration, err error) {
	ttl = time.Duration(1<<31-1) * time.Second
	for range maxCNAMEs {
		next := ""
		for _, rr := range answer {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			var ip net.IP
			switch rec := rr.(type) {
			case *dns.A:
				ip = rec.A
			case *dns.AAAA:
				ip = rec.AAAA
			case *dns.CNAME:
				next = rec.Target
			}
			if a, ok := netip.AddrFromSlice(ip); ok && rr.Header().Rrtype == qtype {
				addrs = append(addrs, a.Unmap())
			} else if next == "" {
				continue
			}
			ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
		if len(addrs) > 0 || next == "" {
			slices.SortFunc(addrs, netip.Addr.Compare)
			return slices.Compact(addrs), name, ttl, nil
		}
		name = next
	}
	return nil, name, ttl, fmt.Errorf("look up %s: more than %d aliases in a row", name, maxCNAMEs)
}

// negativeTTL is the TTL of a negative answer (RFC 2308); 0 when the server does not give one.
func negativeTTL(reply *dns.Msg) time.Duration {
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return 0
}

// ask sends one query to the servers in turn, as often as resolv.conf says, until one answers. A negative answer counts.
func ask(ctx context.Context, conf *dns.ClientConfig, name string, qtype uint16) (*dns.Msg, error) {
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), qtype)
	question.SetEdns0(ednsBufferSize, false)
	var errs []error
	for range max(1, conf.Attempts) {
		for _, server := range conf.Servers {
			reply, err := askServer(ctx, conf, server, question)
			if err == nil {
				return reply, nil
			}
			if err = fmt.Errorf("ask %s for %s %s: %w", server, dns.TypeToString[qtype], name, err); ctx.Err() != nil {
				return nil, err
			}
			if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
				errs = append(errs, err)
			}
		}
	}
	return nil, errors.Join(errs...)
}

func askServer(ctx context.Context, conf *dns.ClientConfig, server string, question *dns.Msg) (*dns.Msg, error) {
	reply, err := exchange(ctx, conf, "udp", server, question)
	if err == nil && reply.Rcode == dns.RcodeFormatError {
		question = question.Copy()
		question.Extra = nil // a server from before EDNS
		reply, err = exchange(ctx, conf, "udp", server, question)
	}
	if err == nil && reply.Truncated {
		reply, err = exchange(ctx, conf, "tcp", server, question)
	}
	switch {
	case err != nil:
		return nil, plainError(err)
	case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("the server says %s", dns.RcodeToString[reply.Rcode])
	}
	return reply, nil
}

func exchange(ctx context.Context, conf *dns.ClientConfig, network, server string, question *dns.Msg) (*dns.Msg, error) {
	question = question.Copy()
	question.Id = dns.Id()
	client := dns.Client{Net: network, Timeout: time.Duration(max(1, conf.Timeout)) * time.Second}
	conn, err := client.DialContext(ctx, net.JoinHostPort(server, conf.Port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // the client uses only the context's deadline
	reply, _, err := client.ExchangeWithConnContext(ctx, question, conn)
	switch {
	case err != nil && network == "udp" && reply != nil && reply.Truncated:
		return reply, nil // truncated in the middle of a record
	case err != nil:
		return nil, err
	case !reply.Response || len(reply.Question) != 1 || !sameQuestion(reply.Question[0], question.Question[0]):
		return nil, errors.New("the answer is to another question")
	}
	return reply, nil
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}
