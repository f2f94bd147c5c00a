package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

var (
	labelPattern    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	hostPattern     = regexp.MustCompile(`^[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?)*$`)
	portNamePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	letterPattern   = regexp.MustCompile(`[a-z]`)
)

// parseAddress reads ADDRESS:PORT, IPv6 in brackets.
func parseAddress(text string) (netip.AddrPort, error) {
	parsed, err := netip.ParseAddrPort(text)
	addr := parsed.Addr().Unmap()
	switch {
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("must be ADDRESS:PORT such as 192.0.2.7:8080 or [2001:db8::7]:8080, got %q%s",
			text, addressHint(text))
	case parsed.Port() == 0:
		return netip.AddrPort{}, fmt.Errorf("must have a port between 1 and 65535, got %q", text)
	case addr.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("must have no zone, got %q", text)
	case addr.IsUnspecified() || addr.IsMulticast():
		return netip.AddrPort{}, fmt.Errorf("must be the address of one machine, got %q", text)
	}
	return netip.AddrPortFrom(addr, parsed.Port()), nil
}

func addressHint(text string) string {
	name, _, ok := cutPort(text)
	switch {
	case !ok:
		return ""
	case strings.Contains(name, "/") && letterPattern.MatchString(name) && !strings.Contains(name, ":"):
		return " (a Service? then it goes into services)"
	case strings.Contains(name, "/"):
		return " (a prefix goes into cidrs)"
	case hostPattern.MatchString(strings.ToLower(name)) && letterPattern.MatchString(strings.ToLower(name)):
		return " (a name goes into hosts)"
	}
	return ""
}

// parseCIDR reads PREFIX:PORT. masked reports whether bits after the prefix were set.
func parseCIDR(text string) (c CIDR, masked bool, err error) {
	prefixText, portText, ok := cutPort(text)
	prefixText = strings.TrimSuffix(strings.TrimPrefix(prefixText, "["), "]")
	prefixText = strings.Replace(prefixText, "]/", "/", 1)
	prefix, err := parsePrefix(prefixText)
	if !ok || err != nil || !strings.Contains(prefixText, "/") {
		return CIDR{}, false, fmt.Errorf("must be PREFIX:PORT such as 192.0.2.0/24:8080 or 2001:db8::/64:8080, got %q", text)
	}
	port, err := parsePort(portText)
	if err != nil {
		return CIDR{}, false, fmt.Errorf("must have a port between 1 and 65535, got %q", text)
	}
	return CIDR{Prefix: prefix.Masked(), Port: port}, prefix.Masked() != prefix, nil
}

// parsePrefix reads a prefix, or an address as the longest prefix of itself. IPv4-mapped ones become IPv4.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("must be a prefix such as 192.0.2.0/24 or an address, got %q", text)
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("must not mix IPv4 and IPv6, got %q", text)
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return prefix, nil
}

// parseHost reads NAME:PORT.
func parseHost(text string) (Host, error) {
	name, portText, ok := cutPort(text)
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return Host{}, fmt.Errorf("must be NAME:PORT, got %q (an address goes into addresses)", text)
	}
	if ok && strings.Contains(name, "/") {
		return Host{}, fmt.Errorf("must be NAME:PORT, got %q (a Service goes into services)", text)
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if !ok || !hostPattern.MatchString(name) || len(name) > 253 {
		return Host{}, fmt.Errorf("must be NAME:PORT such as orders.example.com:8080, got %q", text)
	}
	port, err := parsePort(portText)
	if err != nil {
		return Host{}, fmt.Errorf("must have a port between 1 and 65535, got %q", text)
	}
	return Host{Host: name, Port: port}, nil
}

// parseService reads NAMESPACE/NAME:PORT, the port by name or number.
func parseService(text string) (Service, error) {
	name, portText, ok := cutPort(text)
	namespace, name, slash := strings.Cut(name, "/")
	if !ok || !slash || !labelPattern.MatchString(namespace) || !labelPattern.MatchString(name) {
		return Service{}, fmt.Errorf("must be NAMESPACE/NAME:PORT such as shop/orders:http, got %q", text)
	}
	port, err := parsePort(portText)
	switch {
	case err == nil:
		portText = strconv.Itoa(int(port))
	case len(portText) > 15 || !portNamePattern.MatchString(portText) || !letterPattern.MatchString(portText):
		return Service{}, fmt.Errorf("must have a port name, or a number between 1 and 65535, got %q", text)
	}
	return Service{Namespace: namespace, Name: name, Port: portText}, nil
}

// cutPort splits at the last colon.
func cutPort(text string) (before, port string, ok bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

func parsePort(text string) (uint16, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '+' {
		return 0, fmt.Errorf("no port: %q", text)
	}
	return uint16(port), nil
}
