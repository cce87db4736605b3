// This file has the rules for the URL (docs/link-format.md, section 2, rules 1 to 5), and for the gateway's own base.
// What takes the mapping of IDNA to see is left to the gateway.

package core

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const maxURLBytes = 4096

var (
	schemeRule    = regexp.MustCompile(`^(?i:https?)://`)
	authorityRule = regexp.MustCompile(`^(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?$`)
	portRule      = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
	// WHATWG URL, section 3.5, "ends in a number": then a parser reads the whole host as IPv4.
	numberRule   = regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]*)$`)
	userinfoRule = regexp.MustCompile(`^([^:/?#]*:?//)[^/?#]*@`)
)

func checkURL(parameter, value string) *MintError {
	advice := adviceOnText(value)
	if advice == "" {
		scheme := schemeRule.FindString(value)
		if scheme == "" {
			advice = "write an absolute URL that begins with `https://` or `http://`"
		} else {
			advice = adviceOnAuthority(authorityOf(value[len(scheme):]))
		}
	}
	if advice != "" {
		return urlFault(parameter, value, advice)
	}
	return nil
}

// readBase gives scheme, host and port, to which `/?` and the query are added.
func readBase(value string) (string, *MintError) {
	if err := checkURL("base", value); err != nil {
		return "", err
	}
	base := strings.TrimSuffix(value, "/")
	if strings.ContainsAny(base[len(schemeRule.FindString(base)):], "/?") {
		return "", urlFault("base", value, "leave out what follows the host, since links begin with `/?`")
	}
	return base, nil
}

// urlFault leaves out a user name, which may come with a password, and a query, which may hold another system's signature.
func urlFault(parameter, value, advice string) *MintError {
	shown, _, cut := strings.Cut(userinfoRule.ReplaceAllString(value, "$1…@"), "?")
	if cut {
		shown += "?…"
	}
	return fault(parameter, shown, advice)
}

func authorityOf(rest string) string {
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		return rest[:end]
	}
	return rest
}

func adviceOnText(value string) string {
	special := func(character rune) bool {
		return unicode.Is(unicode.White_Space, character) || unicode.IsControl(character)
	}
	switch {
	case !utf8.ValidString(value):
		return "this is no UTF-8; write it as UTF-8"
	case len(value) > maxURLBytes:
		return "it is longer than 4096 bytes; write a shorter one"
	case strings.ContainsFunc(value, special):
		return "it holds white space or a control character; write that percent-encoded"
	case strings.Contains(value, `\`):
		return "it holds a backslash; write `/`, or `%5C` in a path"
	case strings.Contains(value, "#"):
		return "it has a fragment; leave out `#` and what follows"
	}
	return ""
}

func adviceOnAuthority(authority string) string {
	switch {
	case authority == "":
		return "it names no host; write one after `//`"
	case strings.Contains(authority, "@"):
		return "it has a user name or password; leave that out"
	case strings.Contains(authority, "%"):
		return "write the host without percent-encoding"
	}
	match := authorityRule.FindStringSubmatch(authority)
	if match == nil {
		return "write the host and at most one port; an IPv6 address stands in brackets"
	}
	host, port := match[1], match[2]
	if len(host) != len(authority) {
		if number, err := strconv.Atoi(port); err != nil || !portRule.MatchString(port) || number > 65535 {
			return "write a port from 1 to 65535 without leading zeros"
		}
	}
	return adviceOnHost(host)
}

func adviceOnHost(host string) string {
	switch {
	case host == "":
		return "it names no host; write one before `:`"
	case strings.HasPrefix(host, "["):
		if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil || !address.Is6() {
			return "write an IPv6 address in the brackets, such as `[2001:db8::1]`"
		}
	case strings.HasSuffix(host, "."):
		return "write the host without a dot at its end"
	case strings.ContainsAny(host, "<>^|"):
		return "the host holds a character that no host name has; leave that out"
	case numberRule.MatchString(host[strings.LastIndex(host, ".")+1:]):
		if address, err := netip.ParseAddr(host); err != nil || !address.Is4() {
			return "write an IPv4 host as four decimal numbers without leading zeros"
		}
	}
	return ""
}
