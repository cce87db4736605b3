// Command sluicegate-mint prints a signed link. The secret comes from a file or from the variable SLUICEGATE_SECRET, never
// from an argument, which every user of the machine could read.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"sluicegate.example/sluicegate"
	"sluicegate.example/sluicegate/internal/core"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(masked{}, "sluicegate-mint:", err)
		os.Exit(2)
	}
}

// masked is standard error without a secret that was given in the place of something else.
type masked struct{}

func (masked) Write(data []byte) (int, error) {
	text := string(data)
	if known := os.Getenv("SLUICEGATE_SECRET"); len(known) >= 8 {
		text = strings.ReplaceAll(text, known, "…")
	}
	_, err := os.Stderr.WriteString(core.Mask(text))
	return len(data), err
}

func run() error {
	flag.CommandLine.SetOutput(masked{})
	var options sluicegate.Options
	base := flag.String("base", "http://127.0.0.1:8080", "where the gateway is")
	kid := flag.String("kid", "", "the key's id")
	secretFile := flag.String("secret-file", "", "a file with the secret; without it the variable SLUICEGATE_SECRET")
	flag.StringVar(&options.URL, "url", "", "the upstream file")
	flag.DurationVar(&options.ExpiresIn, "expires-in", time.Hour, "how long the link is good")
	flag.DurationVar(&options.AlignTo, "align-to", 0, "moves the end up to the next multiple of this")
	flag.StringVar(&options.Filename, "filename", "", "the name under which the file is saved")
	flag.StringVar(&options.Disposition, "disposition", "", "attachment or inline")
	flag.StringVar(&options.ID, "id", "", "a link id, for revocation and audit")
	flag.StringVar(&options.IP, "ip", "", "the client address or network that may use the link")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument `%s`; write options such as --url", flag.Arg(0))
	}
	secret := os.Getenv("SLUICEGATE_SECRET")
	if *secretFile != "" {
		text, err := os.ReadFile(*secretFile)
		if err != nil {
			return err
		}
		secret = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	}
	signer, err := sluicegate.NewSigner(*base, *kid, secret)
	if err != nil {
		return err
	}
	minted, err := signer.Mint(options)
	if err != nil {
		return err
	}
	fmt.Println(minted)
	return nil
}
