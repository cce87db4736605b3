// Command sluicegate-mint prints a signed link. The secret comes from a file or from the variable SLUICEGATE_SECRET, never
// from an argument, which every user of the machine could read.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"sluicegate.example/sluicegate"
	"sluicegate.example/sluicegate/internal/core"
)

const variable = "SLUICEGATE_SECRET"

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(masked{}, "sluicegate-mint:", err)
		os.Exit(2)
	}
}

// masked is standard error without a secret that was given in the place of something else.
type masked struct{}

func (masked) Write(data []byte) (int, error) {
	text := string(data)
	if known := os.Getenv(variable); len(known) >= 8 {
		text = strings.ReplaceAll(text, known, "…")
	}
	_, err := os.Stderr.WriteString(core.Mask(text))
	return len(data), err
}

func run(arguments []string, out io.Writer) error {
	var options sluicegate.Options
	flags := flag.NewFlagSet("sluicegate-mint", flag.ContinueOnError)
	// What is wrong is told once, below.
	flags.SetOutput(io.Discard)
	base := flags.String("base", "http://127.0.0.1:8080", "where the gateway is")
	kid := flags.String("kid", "", "the key's id")
	secretFile := flags.String("secret-file", "", "a file with the secret; without it the variable "+variable)
	flags.StringVar(&options.URL, "url", "", "the upstream file")
	flags.String("expires-in", "", "how long the link is good, such as 15m; 1h if left out")
	flags.String("exp", "", "when it ends, in Unix seconds, in place of --expires-in")
	flags.String("align-to", "", "moves the end up to the next multiple of this, such as 5m")
	flags.String("not-before", "", "when it begins to be good, in Unix seconds")
	flags.StringVar(&options.Filename, "filename", "", "the name under which the file is saved")
	flags.StringVar(&options.Disposition, "disposition", "", "attachment or inline")
	flags.StringVar(&options.ID, "id", "", "a link id, for revocation and audit")
	flags.StringVar(&options.IP, "ip", "", "the client address or network that may use the link")
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(out)
		flags.PrintDefaults()
		return nil
	} else if err != nil {
		return fmt.Errorf("%w; --help lists the options", err)
	}
	if flags.NArg() > 0 {
		// It is not quoted, as it may be the secret.
		return errors.New("a value stands where an option is expected; write one such as --url before it")
	}
	if err := readTimes(flags, &options); err != nil {
		return err
	}
	secret, err := readSecret(*secretFile)
	if err != nil {
		return err
	}
	signer, err := sluicegate.NewSigner(*base, *kid, secret)
	if err != nil {
		return asOption(err)
	}
	minted, err := signer.Mint(options)
	if err != nil {
		return asOption(err)
	}
	_, err = fmt.Fprintln(out, minted)
	return err
}

// asOption calls the option at fault as it is written here.
func asOption(err error) error {
	var fault *sluicegate.MintError
	if !errors.As(err, &fault) {
		return err
	}
	name := "--" + strings.ReplaceAll(fault.Parameter, "_", "-")
	if fault.Parameter == "secret" {
		name = "the secret"
	}
	return fmt.Errorf("%s %s", name, fault.Reason)
}

// readTimes takes the times that are given, and an empty one as a mistake.
func readTimes(flags *flag.FlagSet, options *sluicegate.Options) error {
	given := map[string]string{}
	flags.Visit(func(one *flag.Flag) { given[one.Name] = one.Value.String() })
	end, hasEnd := given["exp"]
	if _, both := given["expires-in"]; both && hasEnd {
		return fmt.Errorf("--exp %s: it cannot stand beside --expires-in; leave out one of the two", quote(end))
	}
	for name, into := range map[string]*time.Duration{"expires-in": &options.ExpiresIn, "align-to": &options.AlignTo} {
		text, present := given[name]
		if !present {
			continue
		}
		span, err := time.ParseDuration(text)
		if err != nil || span < time.Second {
			return fmt.Errorf("--%s %s: write one second or more with a unit, such as `600s` or `10m`", name, quote(text))
		}
		*into = span
	}
	for name, into := range map[string]*time.Time{"exp": &options.Exp, "not-before": &options.NotBefore} {
		text, present := given[name]
		if !present {
			continue
		}
		seconds, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return fmt.Errorf("--%s %s: write Unix seconds, digits only", name, quote(text))
		}
		*into = time.Unix(int64(seconds), 0)
	}
	return nil
}

func readSecret(file string) (string, error) {
	if file == "" {
		secret, set := os.LookupEnv(variable)
		if !set {
			return "", errors.New("there is no secret; write --secret-file FILE, or set the variable " + variable)
		}
		return secret, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		reason := err
		var fault *fs.PathError
		if errors.As(err, &fault) {
			reason = fault.Err
		}
		return "", fmt.Errorf("--secret-file %s: %w; write the path of a file that you may read", quote(file), reason)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// quote shows a value cut short, with nothing in it that moves a terminal's cursor.
func quote(value string) string {
	shown := strconv.QuoteToGraphic(value)
	shown = shown[1 : len(shown)-1]
	if cut := []rune(shown); len(cut) > 80 {
		shown = string(cut[:80]) + "…"
	}
	return "`" + shown + "`"
}
