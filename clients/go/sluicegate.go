// Package sluicegate makes signed links for a Sluicegate download gateway.
//
// A secret belongs on a server: whoever has it can sign for every file that its tenant may fetch.
package sluicegate

import (
	"encoding/json"
	"fmt"
	"time"

	"sluicegate.example/sluicegate/internal/core"
)

// MintError says why no link was made: which option is at fault, and what to write instead.
type MintError = core.MintError

// Minted is a signed link and what was signed. As text it is the link.
type Minted = core.Minted

// Options are what a link says. A field with its zero value is left out.
type Options struct {
	// URL is the upstream file. Required.
	URL string
	// ExpiresIn is how long the link is good, one hour if neither it nor Exp is set. A bare number is nanoseconds: for ten
	// minutes write 10 * time.Minute.
	ExpiresIn time.Duration
	// Exp is when the link ends, in place of ExpiresIn.
	Exp time.Time
	// AlignTo moves the end up to the next multiple of so much Unix time, so that links made within one span are equal.
	AlignTo time.Duration
	// NotBefore is when the link begins to be good.
	NotBefore time.Time
	// Filename is the name under which the file is saved.
	Filename string
	// Disposition is "attachment" or "inline".
	Disposition string
	// ID is a link id, for revocation and audit.
	ID string
	// IP is the client address or network that may use the link.
	IP string
}

// Signer makes links with one key of a gateway. Goroutines may share it. No text form of it shows the secret.
type Signer struct {
	core *core.Signer
}

// Option changes a Signer.
type Option func(*core.Signer)

// WithClock sets the clock that ExpiresIn counts from.
func WithClock(now func() time.Time) Option {
	return func(signer *core.Signer) { signer.Now = now }
}

// NewSigner makes a Signer for the gateway at base, such as "https://gateway.example". A fault is a *MintError.
func NewSigner(base, kid, secret string, options ...Option) (*Signer, error) {
	signer, err := core.NewSigner(base, kid, secret)
	if err != nil {
		return nil, err
	}
	for _, option := range options {
		if option != nil {
			option(signer)
		}
	}
	if err := signer.Check(); err != nil {
		return nil, err
	}
	return &Signer{signer}, nil
}

// Base is where the gateway is, without a slash at its end.
func (s Signer) Base() string {
	if s.core == nil {
		return ""
	}
	return s.core.Base
}

// Kid is the key's id.
func (s Signer) Kid() string {
	if s.core == nil {
		return ""
	}
	return s.core.Kid
}

// Mint makes a link. A span is at least one second, and a fraction beyond that is rounded up, as in a moment. A fault is a
// *MintError.
func (s Signer) Mint(options Options) (Minted, error) {
	expiresIn, err := core.Span("expires_in", options.ExpiresIn)
	if err != nil {
		return Minted{}, err
	}
	alignTo, err := core.Span("align_to", options.AlignTo)
	if err != nil {
		return Minted{}, err
	}
	return s.core.Mint(core.Draft{
		URL:         &options.URL,
		ExpiresIn:   expiresIn,
		Exp:         moment(options.Exp),
		AlignTo:     alignTo,
		NotBefore:   moment(options.NotBefore),
		Filename:    text(options.Filename),
		Disposition: text(options.Disposition),
		ID:          text(options.ID),
		IP:          text(options.IP),
	})
}

// String shows base and kid.
func (s Signer) String() string {
	if s.core == nil {
		return "sluicegate.Signer(none)"
	}
	return fmt.Sprintf("sluicegate.Signer(base %q, kid %q)", s.core.Base, s.core.Kid)
}

// GoString shows base and kid.
func (s Signer) GoString() string { return s.String() }

// Format shows base and kid, whatever the verb.
func (s Signer) Format(state fmt.State, _ rune) { fmt.Fprint(state, s.String()) }

// MarshalJSON gives base and kid.
func (s Signer) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"base": s.Base(), "kid": s.Kid()})
}

func text(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

func moment(value time.Time) *int64 {
	if value.IsZero() {
		return nil
	}
	seconds := value.Unix()
	if value.Nanosecond() > 0 {
		seconds++
	}
	return &seconds
}
