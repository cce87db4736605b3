// What options may be, that no text form shows a secret, and that whatever is signed reads back.

package sluicegate_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluicegate.example/sluicegate"
)

const file = "https://files.example/a"

func clock() time.Time { return time.Unix(now, 999) }

func newSigner(t testing.TB) *sluicegate.Signer {
	t.Helper()
	signer, err := sluicegate.NewSigner(base, "k", secret, sluicegate.WithClock(clock))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestSpansAndMomentsRoundUp(t *testing.T) {
	signer := newSigner(t)
	half := 90*time.Second + 500*time.Millisecond
	for _, options := range []sluicegate.Options{
		{URL: file, ExpiresIn: half},
		{URL: file, Exp: time.Unix(now, 0).Add(half).In(time.FixedZone("", 19800))},
		{URL: file, ExpiresIn: 91 * time.Second, NotBefore: time.Unix(29, 1), AlignTo: time.Second},
	} {
		minted, err := signer.Mint(options)
		if err != nil || minted.Exp != now+91 {
			t.Errorf("%+v: %v, %v", options, minted.Exp, err)
		}
		if options.NotBefore.IsZero() != !strings.Contains(minted.Query, "&nbf=30&") {
			t.Errorf("%+v: %s", options, minted.Query)
		}
	}
	if minted, err := signer.Mint(sluicegate.Options{URL: file, Exp: time.Unix(0, 0)}); err != nil || minted.Exp != 0 {
		t.Errorf("1970: %v, %v", minted.Exp, err)
	}
}

func TestOptionsThatMeanNothing(t *testing.T) {
	for parameter, options := range map[string]sluicegate.Options{
		"url":         {},
		"expires_in":  {URL: file, ExpiresIn: -time.Nanosecond - time.Second},
		"exp":         {URL: file, Exp: time.Unix(-1, 0)},
		"align_to":    {URL: file, AlignTo: -time.Hour},
		"not_before":  {URL: file, NotBefore: time.Unix(1_000_000_000_000, 0)},
		"filename":    {URL: file, Filename: "a\xff"},
		"disposition": {URL: file, Disposition: "\x00"},
		"id":          {URL: file, ID: "\n"},
		"ip":          {URL: file, IP: "\n"},
	} {
		minted, err := newSigner(t).Mint(options)
		var fault *sluicegate.MintError
		if !errors.As(err, &fault) || fault.Parameter != parameter || minted.Link != "" {
			t.Errorf("%s: %v", parameter, err)
		}
	}
}

func TestSpansBelowASecond(t *testing.T) {
	for want, options := range map[string]sluicegate.Options{
		"ExpiresIn is `600ns`, less than a second; write `600 * time.Second`":                     {ExpiresIn: 600},
		"ExpiresIn is `86.4µs`, less than a second; write `86400 * time.Second`":                  {ExpiresIn: 86400},
		"ExpiresIn is `500ms`, less than a second; write `time.Second`":                           {ExpiresIn: 500 * time.Millisecond},
		"AlignTo is `300ns`, less than a second; write `300 * time.Second`":                       {AlignTo: 300},
		"ExpiresIn `-1ns`: it is negative; write one second or more, such as `10 * time.Minute`":  {ExpiresIn: -1},
		"AlignTo `-1h0m0s`: it is negative; write one second or more, such as `10 * time.Minute`": {AlignTo: -time.Hour},
	} {
		options.URL = file
		minted, err := newSigner(t).Mint(options)
		var fault *sluicegate.MintError
		if !errors.As(err, &fault) || err.Error() != "sluicegate: "+want || minted.Link != "" {
			t.Errorf("%v is not %s", err, want)
		}
	}
	if minted, err := newSigner(t).Mint(sluicegate.Options{URL: file, ExpiresIn: time.Second}); err != nil || minted.Exp != now+1 {
		t.Errorf("%v, %v", minted, err)
	}
}

func TestMillisecondsAreTold(t *testing.T) {
	for value, told := range map[int64]bool{999_999_999_999: false, 1_000_000_000_000: true, 1_800_003_600_000: true, 10_000_000_000_000: false} {
		for _, options := range []sluicegate.Options{{Exp: time.Unix(value, 0)}, {NotBefore: time.Unix(value, 0)}} {
			options.URL = file
			_, err := newSigner(t).Mint(options)
			said := err != nil && strings.HasSuffix(err.Error(), fmt.Sprintf(" `%d`: that looks like milliseconds; divide by 1000", value))
			if said != told || (err == nil) != (value == 999_999_999_999) {
				t.Errorf("%d: %v", value, err)
			}
		}
	}
}

func TestErrorsSayWhatToWrite(t *testing.T) {
	signer := newSigner(t)
	_, err := signer.Mint(sluicegate.Options{URL: file, Filename: "a/\u202eb\n"})
	if want := "sluicegate: Filename `a/\\u202eb\\u000a`: it holds a control character; leave that out"; err.Error() != want {
		t.Error(err)
	}
	// A URL's password and another system's signature are not shown.
	_, err = signer.Mint(sluicegate.Options{URL: "https://me:pass@files.example/a?sig=abc#x"})
	if want := "sluicegate: URL `https://…@files.example/a?…`: it has a fragment; leave out `#` and what follows"; err.Error() != want {
		t.Error(err)
	}
}

func TestBases(t *testing.T) {
	for _, given := range []string{"https://g.example", "https://g.example/", "HTTP://[::1]:8080"} {
		signer, err := sluicegate.NewSigner(given, "k", secret)
		if err != nil {
			t.Fatal(err)
		}
		minted, err := signer.Mint(sluicegate.Options{URL: file})
		if err != nil || !strings.HasPrefix(minted.Link, strings.TrimSuffix(given, "/")+"/?url=") {
			t.Errorf("%s: %s, %v", given, minted.Link, err)
		}
	}
	for _, given := range []string{"", "g.example", "https://g.example/x", "https://g.example?", "https://u:p@g.example"} {
		_, err := sluicegate.NewSigner(given, "k", secret)
		var fault *sluicegate.MintError
		if !errors.As(err, &fault) || fault.Parameter != "base" {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestNoTextFormShowsTheSecret(t *testing.T) {
	signer := newSigner(t)
	var forms []string
	for _, value := range []any{signer, *signer, []*sluicegate.Signer{signer}, struct{ S sluicegate.Signer }{*signer}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			forms = append(forms, fmt.Sprintf(verb, value))
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		forms = append(forms, string(text))
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "signer", signer)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "signer", signer)
	for _, form := range append(forms, logged.String()) {
		if strings.Contains(form, secret) || strings.Contains(form, fmt.Sprintf("%x", secret)) {
			t.Errorf("shown: %s", form)
		}
	}
	if want := `sluicegate.Signer(base "https://gateway.example", kid "k")`; signer.String() != want {
		t.Error(signer.String())
	}
	if (sluicegate.Signer{}).String() != "sluicegate.Signer(none)" {
		t.Error("a signer without key has no text")
	}
}

func TestASecretInTheKidsPlace(t *testing.T) {
	for _, swapped := range [][2]string{{secret, secret}, {"a-password-of-some-kind", "k"}} {
		_, err := sluicegate.NewSigner(base, swapped[0], swapped[1])
		if err == nil || strings.Contains(err.Error(), swapped[0]) {
			t.Error(err)
		}
	}
}

func TestASecretInAnyOtherPlace(t *testing.T) {
	for _, own := range []string{secret, "correct-horse/battery?staple@1\"é"} {
		signer, err := sluicegate.NewSigner(base, "k", own)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{own, "https://" + own + "#", "/" + strings.Repeat("x", 60) + own} {
			faults := []error{}
			for _, options := range []sluicegate.Options{
				{URL: value}, {URL: file, Filename: value}, {URL: file, Disposition: value}, {URL: file, ID: value},
				{URL: file, IP: value},
			} {
				_, err := signer.Mint(options)
				faults = append(faults, err)
			}
			for _, place := range [][2]string{{value, "demo"}, {base, value}} {
				_, err := sluicegate.NewSigner(place[0], place[1], own)
				faults = append(faults, err)
			}
			_, err := sluicegate.NewSigner(secret, "demo", "http://h")
			for at, err := range append(faults, err) {
				if err == nil && at != 1 && at != 3 {
					t.Errorf("%d: no fault", at)
				}
				noted, _ := json.Marshal(err)
				for _, shown := range []string{fmt.Sprintf("%v %+v", err, err), string(noted)} {
					if strings.Contains(shown, own[5:20]) || strings.Contains(shown, secret[5:20]) {
						t.Errorf("shown: %s", shown)
					}
				}
			}
		}
	}
}

func TestClocksAndSignersThatAreNone(t *testing.T) {
	refused := func(parameter string, err error) {
		t.Helper()
		var fault *sluicegate.MintError
		if !errors.As(err, &fault) || fault.Parameter != parameter {
			t.Errorf("%s: %v", parameter, err)
		}
	}
	for _, now := range []time.Time{{}, time.Unix(-1, 0), time.Unix(1<<62, 0), time.Unix(1<<63-1, 999999999)} {
		signer, err := sluicegate.NewSigner(base, "k", secret, nil, sluicegate.WithClock(func() time.Time { return now }))
		if err != nil {
			t.Fatal(err)
		}
		_, err = signer.Mint(sluicegate.Options{URL: file, ExpiresIn: 1<<63 - 1})
		refused("now", err)
	}
	_, err := sluicegate.NewSigner(base, "k", secret, sluicegate.WithClock(nil))
	refused("now", err)
	_, err = sluicegate.Signer{}.Mint(sluicegate.Options{URL: file})
	refused("secret", err)
	if text, err := json.Marshal(sluicegate.Signer{}); err != nil || string(text) != `{"base":"","kid":""}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestTheCommandShowsNoSecret(t *testing.T) {
	command := filepath.Join(t.TempDir(), "mint")
	if text, err := exec.Command("go", "build", "-o", command, "./cmd/sluicegate-mint").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, own := range []string{secret, "a-secret/of another form, 0123456789"} {
		for _, arguments := range [][]string{
			{own}, {"--secret-file", own}, {"--" + own + "=x"}, {"--expires-in", own}, {"--base", own}, {"--url", own, "--kid", "k"},
		} {
			running := exec.Command(command, arguments...)
			running.Env = append(os.Environ(), "SLUICEGATE_SECRET="+own)
			text, err := running.CombinedOutput()
			if err == nil || strings.Contains(string(text), own[5:12]) {
				t.Errorf("%q: %v: %s", arguments, err, text)
			}
		}
	}
}

func TestGoroutinesShareASigner(t *testing.T) {
	signer := newSigner(t)
	alone, err := signer.Mint(sluicegate.Options{URL: file})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range [8]struct{}{} {
		all.Add(1)
		go func() {
			defer all.Done()
			for range [100]struct{}{} {
				if minted, err := signer.Mint(sluicegate.Options{URL: file}); err != nil || minted != alone {
					t.Errorf("%v, %v", minted, err)
				}
			}
		}()
	}
	all.Wait()
}

// FuzzMint holds what is signed against another reading of it: net/url decodes the query, and the values sign alike.
func FuzzMint(f *testing.F) {
	f.Add(file, "Отчёт.pdf", "order-7", "203.0.113.0/24", int64(3600))
	f.Add("http://[::ffff:1.2.3.4]:80?a=b&c", "a%+&=;", "", "2001:db8::/32", int64(1))
	f.Add("https://0x7f.1/\u3000", "\u202e", "\n", "::ffff:1.2.3.4", int64(-1))
	signer := newSigner(f)
	f.Fuzz(func(t *testing.T, upstream, filename, id, ip string, seconds int64) {
		options := sluicegate.Options{URL: upstream, Filename: filename, ID: id, IP: ip, ExpiresIn: time.Duration(seconds)}
		minted, err := signer.Mint(options)
		if err != nil {
			var fault *sluicegate.MintError
			if !errors.As(err, &fault) || strings.ContainsAny(err.Error(), "\n\r\x1b") || minted != (sluicegate.Minted{}) {
				t.Fatalf("%v, %v", minted, err)
			}
			return
		}
		values, err := url.ParseQuery(minted.Query)
		if err != nil {
			t.Fatal(err)
		}
		text := "sluicegate-link-v1\n"
		for _, name := range []string{"exp", "filename", "id", "ip", "kid", "url"} {
			if values.Has(name) {
				text += name + "=" + values.Get(name) + "\n"
			}
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(text))
		if values.Get("sig") != base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) || text != minted.StringToSign {
			t.Fatalf("%q is not what was signed: %q", text, minted.StringToSign)
		}
		if values.Get("url") != upstream || values.Get("filename") != filename || values.Get("exp") != strconv.FormatInt(minted.Exp, 10) {
			t.Fatalf("other values: %s", minted.Query)
		}
	})
}
