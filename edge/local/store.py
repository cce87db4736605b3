"""Fills the folder that stands for the KeyValueStore: a file per key, named by the key in base64url.

    store.py --entries FILE.json FOLDER

The document is what a KeyValueStore imports, `{"data": [{"key": "...", "value": "..."}]}`. Each entry is replaced by a
rename, so a request sees the old one or the new one; entries that the document does not have are removed. The files
hold secrets, so only their owner can read them.
"""

import argparse
import base64
import json
import os
import sys
from pathlib import Path

# KeyValueStore quotas: 512 bytes of key, 1 KB of value. A file's name takes less than the former.
VALUE_BYTES = 1024
NAME_BYTES = 255


class Refused(Exception):
    """The sentence for whoever called."""


def name(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def entries(document: object) -> dict[str, str]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise Refused('the document has no list `data`; write {"data": [{"key": "...", "value": "..."}]}')
    found: dict[str, str] = {}
    for one in data:
        if not isinstance(one, dict) or {type(one.get("key")), type(one.get("value"))} != {str}:
            raise Refused("an entry of `data` is no object with the strings `key` and `value`")
        if one["key"] in found:
            raise Refused(f"the key `{one['key']}` is there twice; remove one of the two")
        if not one["key"] or len(name(one["key"])) > NAME_BYTES:
            raise Refused(f"the key `{one['key']}` is empty or too long for a file's name; choose another")
        if len(one["value"].encode()) > VALUE_BYTES:
            raise Refused(f"the value of `{one['key']}` is longer than 1 KB, which a KeyValueStore does not take")
        found[one["key"]] = one["value"]
    return found


def fill(folder: Path, found: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for key, value in found.items():
        # A name in base64url never begins with a dot.
        coming = folder / f".{os.getpid()}"
        with open(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(value.encode())
        coming.rename(folder / name(key))
    kept = {name(key) for key in found}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fills the folder that stands for the KeyValueStore.")
    parser.add_argument("--entries", type=Path, required=True, metavar="FILE.json", help="what the store is to hold")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    try:
        fill(given.folder, entries(json.loads(given.entries.read_text(encoding="utf-8"))))
    except (Refused, OSError, ValueError) as error:
        print(f"edge/local/store.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
