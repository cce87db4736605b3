// Examples, as documentation shows them.

package sluicegate_test

import (
	"errors"
	"fmt"
	"os"
	"time"

	"sluicegate.example/sluicegate"
)

// The specification's worked example.
func Example() {
	os.Setenv("SLUICEGATE_SECRET", "sgk1_-QkyCzDuF2BmgGwWWwiZqu4Zf5-n2MpjhSGu_gpI1GY")

	signer, err := sluicegate.NewSigner("https://gateway.example", "acme-active", os.Getenv("SLUICEGATE_SECRET"))
	if err != nil {
		panic(err)
	}
	minted, err := signer.Mint(sluicegate.Options{
		URL:      "https://files.example/reports/2026.pdf",
		Exp:      time.Unix(1_800_003_600, 0),
		Filename: "annual report.pdf",
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(minted.Signature)
	// Output: pRVwYKkvHhiI41hHJRUwTnC3NYzhbJZPw6p3jzNn_XQ
}

func ExampleMintError() {
	signer, err := sluicegate.NewSigner(
		"https://gateway.example", "acme-active", "sgk1_-QkyCzDuF2BmgGwWWwiZqu4Zf5-n2MpjhSGu_gpI1GY")
	if err != nil {
		panic(err)
	}
	_, err = signer.Mint(sluicegate.Options{URL: "https://files.example/a", Filename: "reports/2026.pdf"})
	var fault *sluicegate.MintError
	if errors.As(err, &fault) {
		fmt.Println(fault.Parameter)
		fmt.Println(fault)
	}
	// Output:
	// filename
	// sluicegate: Filename `reports/2026.pdf`: this is a path; write a file name without folders
}
