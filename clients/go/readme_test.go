// The README's programs as they stand there: they compile in a module of their own, and a gateway takes what they make.

package sluicegate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const policy = `
tenant = "acme"
[[keys]]
id = "acme-2027-01"
secret = "file:backend.secret"
[[issuers]]
issuer = "https://backend.example.com/"
audience = "sluicegate-demo"
[[issuers.keys]]
id = "2027-01"
algorithm = "HS256"
secret = "file:backend.secret"
[[allow]]
host = "files.example"
`

func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllSubmatch(page, -1)
	if len(programs) != 2 {
		t.Fatalf("%d programs", len(programs))
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write(t, folder, "backend.secret", secret+"\n")
	write(t, folder, "acme.toml", policy)
	run(t, folder, true, "go", "mod", "init", "example")
	run(t, folder, true, "go", "mod", "edit",
		"-require=sluicegate.example/sluicegate@v0.1.0", "-replace=sluicegate.example/sluicegate="+here)
	for _, program := range programs {
		write(t, folder, "main.go", string(program[1]))
		if said := run(t, folder, true, "gofmt", "-l", "main.go"); said != "" {
			t.Errorf("gofmt would change the README's program: %s", said)
		}
		link := strings.TrimSpace(run(t, folder, true, "go", "run", "."))
		binary := os.Getenv("SLUICEGATE_BINARY")
		if binary == "" {
			t.Skip("SLUICEGATE_BINARY names no gateway")
		}
		run(t, folder, true, binary, "explain", "--policy", "acme.toml", link)
		run(t, folder, false, binary, "explain", "--policy", "acme.toml", link[:len(link)-9]+"AAAAAAAAA")
	}
}

func write(t *testing.T, folder, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run gives what a command prints, which must end well, or must not.
func run(t *testing.T, folder string, well bool, name string, arguments ...string) string {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), "SLUICEGATE_SECRET="+secret)
	var said, complaint strings.Builder
	command.Stdout, command.Stderr = &said, &complaint
	if err := command.Run(); (err == nil) != well {
		t.Fatalf("%s %v: %v\n%s%s", name, arguments, err, said.String(), complaint.String())
	}
	return said.String()
}
