#!/usr/bin/env python3
"""An independent reading of docs/link-format.md, and the maker of tests/vectors/*.json.

    python3 tests/oracle/oracle.py --write    regenerate every file
    python3 tests/oracle/oracle.py --check    exit 1 with a diff if a file differs, if this oracle's
                                              verifier disagrees with an expectation, or if the
                                              specification's worked example is another

Standard library only. The expectations are written by hand in cases/; the verifier (gate.py,
links.py, tokens.py, urls.py) sees nothing but the files, as any other implementation would.
"""

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

import keyring
from cases import expiry as expiry_cases
from cases import mint as mint_cases
from cases import refuse as refuse_cases
from cases import token as token_cases
from cases import verify as verify_cases
from drafts import Fault, end_of, read_draft
from gate import judge
from keyring import NOW, KeySet
from links import mint, string_to_sign

ROOT = Path(__file__).resolve().parent.parent.parent
VECTORS = ROOT / "tests" / "vectors"
SPECIFICATION = ROOT / "docs" / "link-format.md"
WORKED_EXAMPLE = "filename-space"  # the mint vector that the specification prints in full
Document = dict[str, Any]


def generate() -> dict[str, str]:
    """The text of every file, by name."""
    keys = keyring.document()
    known = KeySet(keys)
    documents: dict[str, Document] = {
        "keys.json": keys,
        "mint.json": {"version": 1, "vectors": mint_cases.vectors(known)},
        "verify.json": {"version": 1, "vectors": verify_cases.vectors(known)},
        "token.json": {"version": 1, "vectors": token_cases.vectors()},
        "refuse.json": {"version": 1, "vectors": refuse_cases.vectors()},
        "expiry.json": {"version": 1, "vectors": expiry_cases.vectors()},
    }
    return {name: render(document) for name, document in documents.items()}


def render(document: Document) -> str:
    """Readable JSON in UTF-8; whatever a reader could not see is escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    return "".join(map(_visible, text)) + "\n"


def _visible(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def disagreements(texts: dict[str, str]) -> list[str]:
    """Every vector that this oracle, knowing only the files, judges otherwise."""
    documents = {name: json.loads(text) for name, text in texts.items()}
    keys = KeySet(documents["keys.json"])
    found = []
    reviews = {
        "mint.json": _review_mint,
        "verify.json": _review_verdict,
        "token.json": _review_verdict,
        "refuse.json": _review_refusal,
        "expiry.json": _review_end,
    }
    for name, review in reviews.items():
        vectors = documents[name]["vectors"]
        names = [vector["name"] for vector in vectors]
        found += [f"{name}: the name {twice} is used twice" for twice in {n for n in names if names.count(n) > 1}]
        found += [f"{name}: {vector['name']}: {fault}" for vector in vectors for fault in review(keys, vector)]
    return found


def _review_mint(keys: KeySet, vector: Document) -> list[str]:
    key = keys.hmac_key(vector["kid"])
    if key is None:
        return ["no such key"]
    if string_to_sign({**vector["params"], "kid": key.kid}) != vector["string_to_sign"]:
        return ["another string to sign"]
    if mint(key, NOW, vector["params"]) != vector["query"]:
        return ["another query"]
    address = vector["params"].get("ip", "203.0.113.7").partition("/")[0]
    verdict = judge(keys, vector["query"], {}, NOW, address)
    return [] if "ok" in verdict else [f"does not verify: {verdict}"]


def _review_verdict(keys: KeySet, vector: Document) -> list[str]:
    if ("ok" in vector["expect"]) != (vector["fault"] is None):
        return ["a fault is named if and only if the vector is refused"]
    verdict = judge(keys, vector["query"], vector.get("headers", {}), vector["now"], vector["client"])
    return [] if verdict == vector["expect"] else [f"expected {vector['expect']}, found {verdict}"]


def _review_refusal(keys: KeySet, vector: Document) -> list[str]:
    kid, options, at_fault = vector["kid"], vector["options"], vector["parameter"]
    secret = vector["secret"] if "secret" in vector else keyring.secret(vector.get("secret_of", kid))
    try:
        read_draft(kid, secret, NOW, options)
    except Fault as fault:
        found = [] if fault.parameter == at_fault else [f"expected a fault of {at_fault}, found {fault}"]
    else:
        return ["no fault"]
    # One fault, not two: with that option put right, nothing is left to refuse.
    options = {name: value for name, value in options.items() if name != at_fault}
    options.setdefault("url", mint_cases.URL)
    signer = {"kid": kid, "secret": secret}
    if at_fault in signer:
        signer = {"kid": "acme-active", "secret": keyring.secret("acme-active")}
    try:
        read_draft(**signer, now=NOW, options=options)
    except Fault as fault:
        found.append(f"a second fault: {fault}")
    return found


def _review_end(_: KeySet, vector: Document) -> list[str]:
    options = {name: value for name, value in vector.items() if name not in ("name", "now", "expect")}
    found = end_of(vector["now"], options)
    return [] if found == vector["expect"] else [f"expected {vector['expect']}, found {found}"]


def write(texts: dict[str, str]) -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, text in texts.items():
        (VECTORS / name).write_text(text, encoding="utf-8", newline="\n")


def check(texts: dict[str, str]) -> list[str]:
    """Every difference between the files and what they should be, as lines to print."""
    lines: list[str] = []
    for name, text in texts.items():
        path = VECTORS / name
        found = path.read_bytes().decode("utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            found.splitlines(), text.splitlines(), f"found/{name}", f"expected/{name}", lineterm="", n=1
        )
        if found != text and found.splitlines() == text.splitlines():
            lines.append(f"{name}: line endings differ")
    return lines


def misprints(texts: dict[str, str]) -> list[str]:
    """What the specification's worked example should say and does not."""
    page = SPECIFICATION.read_text(encoding="utf-8")
    example = next(v for v in json.loads(texts["mint.json"])["vectors"] if v["name"] == WORKED_EXAMPLE)
    secret = keyring.secret(example["kid"])
    wanted = (secret, f"```\n{example['string_to_sign']}```", f"`{example['sig']}`", f"/?{example['query']}\n")
    return [f"{SPECIFICATION.name}: the worked example lacks {text!r}" for text in wanted if text not in page]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="regenerate tests/vectors/*.json")
    mode.add_argument("--check", action="store_true", help="compare and verify, changing nothing")
    arguments = parser.parse_args()
    texts = generate()
    problems = disagreements(texts)
    if arguments.write and not problems:
        write(texts)
    elif arguments.check:
        problems = check(texts) + misprints(texts) + problems
    for line in problems:
        print(line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
