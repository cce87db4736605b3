// This file has the rules for what a link says (docs/link-format.md, section 2), except for the URL.

package core

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LastMoment is the latest end of a link: twelve digits.
const LastMoment = 999_999_999_999

const newSecret = "make one with `sluicegate keys new`"

var (
	kidRule    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	idRule     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	prefixRule = regexp.MustCompile(`^(0|[1-9][0-9]{0,2})$`)
)

func isDirection(character rune) bool {
	switch {
	case character == 0x061c, character == 0x200e, character == 0x200f:
		return true
	}
	return character >= 0x2028 && character <= 0x202e || character >= 0x2066 && character <= 0x2069
}

// checkText refuses what no value may hold.
func checkText(parameter, value string) *MintError {
	if !utf8.ValidString(value) {
		return fault(parameter, value, "this is no UTF-8; write it as UTF-8")
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return fault(parameter, value, "it holds a control character; leave that out")
	}
	return nil
}

func checkNumber(parameter string, value, least int64) *MintError {
	if value < least || value > LastMoment {
		advice := "write whole seconds from " + strconv.FormatInt(least, 10) + " to " + strconv.Itoa(LastMoment)
		moment := parameter == "exp" || parameter == "not_before"
		// Thirteen digits, as the milliseconds of any time from 2001 on have.
		if moment && value > LastMoment && value/10 <= LastMoment {
			advice = "that looks like milliseconds; divide by 1000"
		}
		return fault(parameter, strconv.FormatInt(value, 10), advice)
	}
	return nil
}

// Span gives whole seconds, rounded up, or nil for 0. What is less than a second was meant as seconds, not nanoseconds.
func Span(parameter string, value time.Duration) (*int64, error) {
	switch {
	case value == 0:
		return nil, nil
	case value < 0:
		return nil, fault(parameter, value.String(), "it is negative; write one second or more, such as `10 * time.Minute`")
	case value < time.Second:
		advice := strconv.FormatInt(int64(value), 10) + " * time.Second"
		if value%time.Millisecond == 0 {
			advice = "time.Second"
		}
		return nil, &MintError{parameter, "is " + quote(value.String()) + ", less than a second; write `" + advice + "`"}
	}
	seconds := int64(value / time.Second)
	if value%time.Second > 0 {
		seconds++
	}
	return &seconds, nil
}

func checkKid(value string) *MintError {
	if strings.HasPrefix(value, "sgk1_") {
		// It is not quoted, as it may be the secret itself.
		return &MintError{"kid", "looks like a secret; write the key's id here and the secret after it"}
	}
	if err := checkText("kid", value); err != nil {
		return err
	}
	if !kidRule.MatchString(value) {
		return fault("kid", value,
			"write 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit")
	}
	return nil
}

// checkSecret shows the secret in no message.
func checkSecret(value string) *MintError {
	differ := map[byte]bool{}
	for at := 0; at < len(value); at++ {
		differ[value[at]] = true
	}
	switch {
	case !utf8.ValidString(value):
		return &MintError{"secret", "is no UTF-8; store it as one line of text"}
	case strings.ContainsFunc(value, unicode.IsControl):
		return &MintError{"secret",
			"holds a control character; store it as one line of text and leave out the line break at its end"}
	case len(value) < 32:
		return &MintError{"secret", "is shorter than 32 bytes; " + newSecret}
	case len(differ) < 10:
		return &MintError{"secret", "repeats a few characters; " + newSecret}
	}
	return nil
}

func checkFilename(value string) *MintError {
	if err := checkText("filename", value); err != nil {
		return err
	}
	switch {
	case len(value) < 1 || len(value) > 255:
		return fault("filename", value, "write 1 to 255 bytes of UTF-8")
	case strings.ContainsAny(value, `/\`) || value == "." || value == "..":
		return fault("filename", value, "this is a path; write a file name without folders")
	case strings.ContainsFunc(value, isDirection):
		return fault("filename", value, "it holds a character that turns the text direction; leave that out")
	}
	return nil
}

func checkDisposition(value string) *MintError {
	if value != "attachment" && value != "inline" {
		return fault("disposition", value, "write `attachment` or `inline`")
	}
	return nil
}

func checkID(value string) *MintError {
	if !idRule.MatchString(value) {
		return fault("id", value, "write 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`")
	}
	return nil
}

func checkIP(value string) *MintError {
	const advice = "write an IPv4 or IPv6 address, or a network such as `203.0.113.0/24` with zero host bits"
	address, prefix, network := strings.Cut(value, "/")
	parsed, err := netip.ParseAddr(address)
	if err != nil || parsed.Zone() != "" || network && !prefixRule.MatchString(prefix) {
		return fault("ip", value, advice)
	}
	if parsed.Is4In6() {
		return fault("ip", value, "this is IPv4 written as IPv6; write it as IPv4, such as `203.0.113.7`")
	}
	if network {
		bits, err := strconv.Atoi(prefix)
		if err != nil || bits > parsed.BitLen() || netip.PrefixFrom(parsed, bits).Masked().Addr() != parsed {
			return fault("ip", value, advice)
		}
	}
	return nil
}
