// What the command prints, and what it says of a mistake.

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"

func mint(t *testing.T, arguments ...string) (string, string) {
	t.Helper()
	var out strings.Builder
	said := ""
	if err := run(append([]string{"--kid", "k"}, arguments...), &out); err != nil {
		said = err.Error()
	}
	if strings.Contains(said+out.String(), secret) {
		t.Errorf("the secret is shown: %s", said)
	}
	return out.String(), said
}

func TestTheLink(t *testing.T) {
	t.Setenv(variable, secret)
	link, said := mint(t, "--url", "https://files.example/a", "--exp", "1800003600", "--not-before", "7", "--align-to", "7m")
	if !strings.Contains(link, "/?url=https%3A%2F%2Ffiles.example%2Fa&kid=k&exp=1800003660&nbf=7&sig=") || said != "" {
		t.Errorf("%s %s", link, said)
	}
	if link, said = mint(t, "--url", "https://files.example/a", "--exp", "0"); !strings.Contains(link, "&exp=0&") {
		t.Errorf("%s %s", link, said)
	}
}

func TestTheSecretsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte(secret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if link, said := mint(t, "--secret-file", file, "--url", "https://files.example/a"); link == "" || said != "" {
		t.Errorf("%s %s", link, said)
	}
	want := "--secret-file `" + file + "x`: no such file or directory; write the path of a file that you may read"
	if _, said := mint(t, "--secret-file", file+"x"); said != want {
		t.Error(said)
	}
}

func TestMistakes(t *testing.T) {
	t.Setenv(variable, secret)
	url := []string{"--url", "https://files.example/a"}
	for _, one := range []struct {
		want      string
		arguments []string
	}{
		{"--url `x`: write an absolute URL that begins with `https://` or `http://`", []string{"--url", "x"}},
		{"--url ``: write an absolute URL that begins with `https://` or `http://`", nil},
		{"--kid `K`: write 1 to 64", append(url, "--kid", "K")},
		{"--kid has the secret in it, ", append(url, "--kid", secret)},
		{"--filename `a/b`: this is a path", append(url, "--filename", "a/b")},
		{"--expires-in `600`: write one second or more with a unit, such as `600s` or `10m`", append(url, "--expires-in", "600")},
		{"--expires-in `600ns`: write one second or more", append(url, "--expires-in", "600ns")},
		{"--expires-in `-1h`: write one second or more", append(url, "--expires-in=-1h")},
		{"--align-to ``: write one second or more", append(url, "--align-to", "")},
		{"--exp ``: write Unix seconds, digits only", append(url, "--exp", "")},
		{"--exp `1800003600000`: that looks like milliseconds; divide by 1000", append(url, "--exp", "1800003600000")},
		{"--not-before `-62135596800`: write Unix seconds, digits only", append(url, "--not-before=-62135596800")},
		{"--exp `5`: it cannot stand beside --expires-in; leave out one of the two", append(url, "--exp=5", "--expires-in=5s")},
		{"flag provided but not defined: -colour; --help lists the options", append(url, "--colour", "red")},
		{"a value stands where an option is expected", []string{secret}},
	} {
		if link, said := mint(t, one.arguments...); link != "" || !strings.HasPrefix(said, one.want) {
			t.Errorf("%s is not %s", said, one.want)
		}
	}
	t.Setenv(variable, "short")
	if _, said := mint(t, url...); said != "the secret is shorter than 32 bytes; make one with `sluicegate keys new`" {
		t.Error(said)
	}
	os.Unsetenv(variable)
	if _, said := mint(t, url...); said != "there is no secret; write --secret-file FILE, or set the variable SLUICEGATE_SECRET" {
		t.Error(said)
	}
}

func TestHelpListsTheOptions(t *testing.T) {
	if out, said := mint(t, "--help"); said != "" || !strings.Contains(out, "-not-before") || !strings.Contains(out, "-exp ") {
		t.Errorf("%s %s", out, said)
	}
}
