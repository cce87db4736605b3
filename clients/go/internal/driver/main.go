// Command driver mints for the project's own tests: a JSON object a line on standard input, a JSON line for each on
// standard output.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"time"

	"sluicegate.example/sluicegate"
	"sluicegate.example/sluicegate/internal/core"
)

type request struct {
	Base    string                     `json:"base"`
	Kid     string                     `json:"kid"`
	Secret  string                     `json:"secret"`
	Now     int64                      `json:"now"`
	Options map[string]json.RawMessage `json:"options"`
}

type answer struct {
	Link         string `json:"link"`
	Query        string `json:"query"`
	StringToSign string `json:"string_to_sign"`
	Signature    string `json:"signature"`
	Exp          int64  `json:"exp"`
}

type refusal struct {
	Error     string `json:"error"`
	Parameter string `json:"parameter"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var asked request
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fail(err)
		}
		if err := out.Encode(answerTo(asked)); err != nil {
			fail(err)
		}
	}
	if err := in.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	os.Stderr.WriteString("driver: " + err.Error() + "\n")
	os.Exit(1)
}

func answerTo(asked request) any {
	minted, err := mint(asked)
	var fault *sluicegate.MintError
	if errors.As(err, &fault) {
		return refusal{fault.Error(), fault.Parameter}
	}
	if err != nil {
		fail(err)
	}
	return answer{minted.Link, minted.Query, minted.StringToSign, minted.Signature, minted.Exp}
}

func mint(asked request) (sluicegate.Minted, error) {
	clock := func() time.Time { return time.Unix(asked.Now, 0) }
	signer, err := sluicegate.NewSigner(asked.Base, asked.Kid, asked.Secret, sluicegate.WithClock(clock))
	if err != nil {
		return sluicegate.Minted{}, err
	}
	draft, err := read(asked.Options)
	if err != nil {
		return sluicegate.Minted{}, err
	}
	if options, can := public(draft); can {
		return signer.Mint(options)
	}
	// What Options cannot say: an empty text, a span of 0, or one beyond a time.Duration.
	inner, err := core.NewSigner(asked.Base, asked.Kid, asked.Secret)
	if err != nil {
		return sluicegate.Minted{}, err
	}
	inner.Now = clock
	return inner.Mint(draft)
}

func read(options map[string]json.RawMessage) (core.Draft, error) {
	var draft core.Draft
	texts := map[string]**string{
		"url": &draft.URL, "filename": &draft.Filename, "disposition": &draft.Disposition, "id": &draft.ID, "ip": &draft.IP,
	}
	numbers := map[string]**int64{
		"expires_in": &draft.ExpiresIn, "exp": &draft.Exp, "align_to": &draft.AlignTo, "not_before": &draft.NotBefore,
	}
	for name, raw := range options {
		var reason string
		if text, known := texts[name]; known {
			*text = new(string)
			if raw[0] != '"' || json.Unmarshal(raw, *text) != nil {
				reason = "write a text"
			}
		} else if number, known := numbers[name]; known {
			// Not by Unmarshal, which would take 1e3.
			value, err := strconv.ParseInt(string(raw), 10, 64)
			*number = &value
			if err != nil {
				reason = "write whole seconds"
			}
		} else {
			reason = "there is no such option"
		}
		if reason != "" {
			return draft, &core.MintError{Parameter: name, Reason: "`" + string(raw) + "`: " + reason}
		}
	}
	return draft, nil
}

// public says the draft in the options that a caller of the package has, if they can say it.
func public(draft core.Draft) (sluicegate.Options, bool) {
	can := true
	text := func(value *string) string {
		if value == nil {
			return ""
		}
		can = can && *value != ""
		return *value
	}
	span := func(value *int64) time.Duration {
		if value == nil {
			return 0
		}
		can = can && *value != 0 && *value <= math.MaxInt64/int64(time.Second) && *value >= math.MinInt64/int64(time.Second)
		return time.Duration(*value) * time.Second
	}
	moment := func(value *int64) time.Time {
		if value == nil {
			return time.Time{}
		}
		return time.Unix(*value, 0)
	}
	options := sluicegate.Options{
		URL: text(draft.URL), ExpiresIn: span(draft.ExpiresIn), Exp: moment(draft.Exp), AlignTo: span(draft.AlignTo),
		NotBefore: moment(draft.NotBefore), Filename: text(draft.Filename), Disposition: text(draft.Disposition),
		ID: text(draft.ID), IP: text(draft.IP),
	}
	return options, can
}
