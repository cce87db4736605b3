// The project's vectors, by way of the driver that the project's own tests speak to.

package sluicegate_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	secret = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	base   = "https://gateway.example"
	now    = 1_800_000_000
)

type vector struct {
	Name         string            `json:"name"`
	Kid          string            `json:"kid"`
	Secret       *string           `json:"secret"`
	SecretOf     string            `json:"secret_of"`
	Options      map[string]any    `json:"options"`
	Params       map[string]string `json:"params"`
	Parameter    string            `json:"parameter"`
	Deep         any               `json:"deep"`
	StringToSign string            `json:"string_to_sign"`
	Sig          string            `json:"sig"`
	Query        string            `json:"query"`
	Now          int64             `json:"now"`
	Exp          *json.Number      `json:"exp"`
	ExpiresIn    *json.Number      `json:"expires_in"`
	AlignTo      *json.Number      `json:"align_to"`
	Expect       int64             `json:"expect"`
}

func vectors(t *testing.T, name string) []vector {
	t.Helper()
	var document struct{ Vectors []vector }
	load(t, name, &document)
	if len(document.Vectors) < 20 {
		t.Fatalf("%s has only %d vectors", name, len(document.Vectors))
	}
	return document.Vectors
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader := json.NewDecoder(file)
	// So that 0.5 and 5 reach the driver as they are written.
	reader.UseNumber()
	if err := reader.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func secrets(t *testing.T) map[string]string {
	t.Helper()
	var document struct {
		Tenants []struct {
			Keys []struct{ Kid, Secret string }
		}
	}
	load(t, "keys.json", &document)
	found := map[string]string{}
	for _, tenant := range document.Tenants {
		for _, key := range tenant.Keys {
			found[key.Kid] = key.Secret
		}
	}
	return found
}

type reply struct {
	Link         string `json:"link"`
	Query        string `json:"query"`
	StringToSign string `json:"string_to_sign"`
	Signature    string `json:"signature"`
	Exp          int64  `json:"exp"`
	Error        string `json:"error"`
	Parameter    string `json:"parameter"`
}

// startDriver gives a function that asks it.
func startDriver(t *testing.T) func(kid, secret string, now int64, options map[string]any) reply {
	t.Helper()
	command := exec.Command("go", "run", "./internal/driver")
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := command.Wait(); err != nil {
			t.Error(err)
		}
	})
	lines := bufio.NewReader(out)
	return func(kid, secret string, now int64, options map[string]any) reply {
		t.Helper()
		asked := map[string]any{"base": base, "kid": kid, "secret": secret, "now": now, "options": options}
		if err := json.NewEncoder(in).Encode(asked); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var got reply
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func TestWhatIsSigned(t *testing.T) {
	ask, known := startDriver(t), secrets(t)
	for _, v := range vectors(t, "mint.json") {
		options := map[string]any{}
		for name, value := range v.Params {
			switch name {
			case "exp":
				options["exp"] = json.Number(value)
			case "nbf":
				options["not_before"] = json.Number(value)
			default:
				options[name] = value
			}
		}
		got := ask(v.Kid, known[v.Kid], now, options)
		if got.Query != v.Query || got.StringToSign != v.StringToSign || got.Signature != v.Sig {
			t.Errorf("%s: %+v", v.Name, got)
		}
		if got.Link != base+"/?"+v.Query {
			t.Errorf("%s: the link is %s", v.Name, got.Link)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	ask, known := startDriver(t), secrets(t)
	for _, v := range vectors(t, "refuse.json") {
		if v.Deep == "idna" {
			continue // The gateway knows IDNA whole.
		}
		given := known[v.Kid]
		if v.SecretOf != "" {
			given = known[v.SecretOf]
		}
		if v.Secret != nil {
			given = *v.Secret
		}
		got := ask(v.Kid, given, now, v.Options)
		if got.Parameter != v.Parameter || got.Link != "" || !strings.HasPrefix(got.Error, "sluicegate: ") {
			t.Errorf("%s: %+v", v.Name, got)
		}
		if given != "" && strings.Contains(got.Error, strings.TrimSpace(given)) {
			t.Errorf("%s: the error shows the secret", v.Name)
		}
	}
}

func TestWhenLinksEnd(t *testing.T) {
	ask, known := startDriver(t), secrets(t)
	for _, v := range vectors(t, "expiry.json") {
		options := map[string]any{"url": "https://files.example/a"}
		for name, value := range map[string]*json.Number{"exp": v.Exp, "expires_in": v.ExpiresIn, "align_to": v.AlignTo} {
			if value != nil {
				options[name] = *value
			}
		}
		if got := ask("0", known["0"], v.Now, options); got.Exp != v.Expect {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
}
