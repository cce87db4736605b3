// Package core makes links from options that say which of them are present; package sluicegate is its face.
package core

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MintError says why no link was made.
type MintError struct {
	// Parameter is the option at fault, such as "filename" or "expires_in", or "base", "kid" or "secret".
	Parameter string
	// Reason quotes the value in backticks, unless it is a secret, and says what to write instead.
	Reason string
}

// Options are called here as the fields of Options are.
var fields = map[string]string{
	"url": "URL", "expires_in": "ExpiresIn", "exp": "Exp", "align_to": "AlignTo", "not_before": "NotBefore",
	"filename": "Filename", "disposition": "Disposition", "id": "ID", "ip": "IP",
}

func (e *MintError) Error() string {
	name, known := fields[e.Parameter]
	if !known {
		name = e.Parameter
	}
	return "sluicegate: " + name + " " + e.Reason
}

func fault(parameter, value, advice string) *MintError {
	return &MintError{parameter, quote(value) + ": " + advice}
}

const longestQuote = 80

// quote shows a value cut short, with nothing in it that moves a terminal's cursor.
func quote(value string) string {
	var shown strings.Builder
	count := 0
	for rest := value; rest != ""; count++ {
		if count == longestQuote {
			shown.WriteString("…")
			break
		}
		character, size := utf8.DecodeRuneInString(rest)
		switch {
		case character == utf8.RuneError && size == 1:
			fmt.Fprintf(&shown, `\x%02x`, rest[0])
		case unicode.IsPrint(character):
			shown.WriteRune(character)
		default:
			fmt.Fprintf(&shown, `\u%04x`, character)
		}
		rest = rest[size:]
	}
	return "`" + shown.String() + "`"
}
