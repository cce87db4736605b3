// This file signs (docs/link-format.md, section 3).

package core

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxQueryBytes  = 8192
	defaultSeconds = 3600
)

var order = []string{"url", "kid", "exp", "nbf", "filename", "disposition", "id", "ip", "sig"}

// Draft is what a link shall say; what is nil is absent. Times are whole Unix seconds, spans whole seconds.
type Draft struct {
	URL                           *string
	ExpiresIn, Exp, AlignTo       *int64
	NotBefore                     *int64
	Filename, Disposition, ID, IP *string
}

// Minted is a signed link and what was signed.
type Minted struct {
	Link         string
	Query        string
	StringToSign string
	Signature    string
	// Exp is when the link ends, in Unix seconds.
	Exp int64
}

// String is the link.
func (m Minted) String() string { return m.Link }

// Signer holds a key. The secret is kept where no printer of structures finds it.
type Signer struct {
	Base, Kid string
	Now       func() time.Time
	mac       func() hash.Hash
	unquoted  func(err *MintError, values ...string) *MintError
}

// NewSigner checks base, kid and secret.
func NewSigner(base, kid, secret string) (*Signer, error) {
	origin, err := readBase(base)
	// The secret before the kid: a secret in the kid's place then brings an error that quotes neither.
	for _, check := range []func() *MintError{
		func() *MintError { return checkSecret(secret) },
		func() *MintError { return checkKid(kid) },
	} {
		if err == nil {
			err = check()
		}
	}
	if err != nil {
		return nil, unquoted(err, secret, base, kid)
	}
	mac := func() hash.Hash { return hmac.New(sha256.New, []byte(secret)) }
	hidden := func(err *MintError, values ...string) *MintError { return unquoted(err, secret, values...) }
	return &Signer{origin, kid, time.Now, mac, hidden}, nil
}

// Check refuses a clock that is none.
func (s *Signer) Check() error {
	if s.Now == nil {
		return &MintError{"now", "is no clock; give WithClock a function such as time.Now"}
	}
	return nil
}

// Mint checks the draft and signs it.
func (s *Signer) Mint(draft Draft) (Minted, error) {
	if s == nil {
		return Minted{}, &MintError{"secret", "is missing; make the signer with NewSigner"}
	}
	minted, err := s.mint(draft)
	if err == nil {
		return minted, nil
	}
	var given []string
	for _, value := range []*string{draft.URL, draft.Filename, draft.Disposition, draft.ID, draft.IP} {
		if value != nil {
			given = append(given, *value)
		}
	}
	return Minted{}, s.unquoted(err, given...)
}

func (s *Signer) mint(draft Draft) (Minted, *MintError) {
	end, err := s.end(draft)
	if err != nil {
		return Minted{}, err
	}
	if draft.URL == nil || *draft.URL == "" {
		return Minted{}, fault("url", "", "write an absolute URL that begins with `https://` or `http://`")
	}
	values := map[string]string{"kid": s.Kid, "exp": strconv.FormatInt(end, 10)}
	checkUpstream := func(value string) *MintError { return checkURL("url", value) }
	for _, text := range []struct {
		name  string
		value *string
		check func(string) *MintError
	}{
		{"url", draft.URL, checkUpstream},
		{"filename", draft.Filename, checkFilename},
		{"disposition", draft.Disposition, checkDisposition},
		{"id", draft.ID, checkID},
		{"ip", draft.IP, checkIP},
	} {
		if text.value == nil {
			continue
		}
		if err := text.check(*text.value); err != nil {
			return Minted{}, err
		}
		values[text.name] = *text.value
	}
	if draft.NotBefore != nil {
		if err := checkNumber("not_before", *draft.NotBefore, 0); err != nil {
			return Minted{}, err
		}
		values["nbf"] = strconv.FormatInt(*draft.NotBefore, 10)
	}
	return s.sign(values, end)
}

func (s *Signer) sign(values map[string]string, end int64) (Minted, *MintError) {
	lines := make([]string, 0, len(values))
	for name, value := range values {
		lines = append(lines, name+"="+value+"\n")
	}
	// Names are sorted, and none is the beginning of another, so lines are too.
	sort.Strings(lines)
	text := "sluicegate-link-v1\n" + strings.Join(lines, "")
	mac := s.mac()
	mac.Write([]byte(text))
	signature := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	values["sig"] = signature
	var pairs []string
	for _, name := range order {
		if value, present := values[name]; present {
			pairs = append(pairs, name+"="+encode(value))
		}
	}
	query := strings.Join(pairs, "&")
	if len(query) > maxQueryBytes {
		return Minted{}, urlFault("url", values["url"],
			"the link's query would be longer than 8192 bytes; write a shorter url")
	}
	return Minted{s.Base + "/?" + query, query, text, signature, end}, nil
}

// end is ceil(end / align_to) * align_to.
func (s *Signer) end(draft Draft) (int64, *MintError) {
	var end int64
	switch {
	case draft.Exp != nil && draft.ExpiresIn != nil:
		return 0, fault("exp", strconv.FormatInt(*draft.Exp, 10),
			"it cannot stand beside ExpiresIn; leave out one of the two")
	case draft.Exp != nil:
		if err := checkNumber("exp", *draft.Exp, 0); err != nil {
			return 0, err
		}
		end = *draft.Exp
	default:
		span := int64(defaultSeconds)
		if draft.ExpiresIn != nil {
			span = *draft.ExpiresIn
		}
		if err := checkNumber("expires_in", span, 1); err != nil {
			return 0, err
		}
		now := s.Now().Unix()
		if err := checkNumber("now", now, 0); err != nil {
			return 0, err
		}
		end = now + span
		if end > LastMoment {
			return 0, fault("expires_in", strconv.FormatInt(span, 10),
				"the link would end after 999999999999; write fewer seconds")
		}
	}
	if draft.AlignTo == nil {
		return end, nil
	}
	step := *draft.AlignTo
	if err := checkNumber("align_to", step, 1); err != nil {
		return 0, err
	}
	aligned := (end + step - 1) / step * step
	if aligned > LastMoment {
		return 0, fault("align_to", strconv.FormatInt(step, 10),
			"the link would end after 999999999999; write fewer seconds")
	}
	return aligned, nil
}

// encode writes every byte outside A-Za-z0-9-._~ as %XX.
func encode(value string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for at := 0; at < len(value); at++ {
		if b := value[at]; strings.IndexByte(unreserved, b) >= 0 {
			out.WriteByte(b)
		} else {
			out.Write([]byte{'%', hex[b>>4], hex[b&15]})
		}
	}
	return out.String()
}
