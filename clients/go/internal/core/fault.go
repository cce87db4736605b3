// Package core makes links from options that say which of them are present; package sluicegate is its face.
package core

import (
	"fmt"
	"regexp"
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

var secretForm = regexp.MustCompile(`sgk1_[A-Za-z0-9_-]*`)

// Mask leaves out what has the form of a secret, wherever it was given.
func Mask(text string) string { return secretForm.ReplaceAllString(text, "sgk1_…") }

// Shorter ones stand in texts by chance, and are no secrets for the gateway either.
const shortestKnown = 8

// unquoted gives the fault without its text, if a value that it may quote has the secret in it.
func unquoted(err *MintError, secret string, values ...string) *MintError {
	for _, value := range values {
		if err != nil && len(secret) >= shortestKnown && strings.Contains(value, secret) {
			return &MintError{err.Parameter,
				"has the secret in it, where others would read it; give the secret to NewSigner alone"}
		}
	}
	return err
}

// quote shows a value cut short, with nothing in it that moves a terminal's cursor.
func quote(value string) string {
	var shown strings.Builder
	count := 0
	for rest := Mask(value); rest != ""; count++ {
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
