#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets from the test vectors and the demo policy, one file each, named by number."""

import json
from pathlib import Path

root = Path(__file__).resolve().parent.parent
vectors = root / "tests" / "vectors"


def write(target: str, seeds: list[bytes]) -> None:
    folder = root / "fuzz" / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number:03}").write_bytes(seed)


def main() -> None:
    links = json.loads((vectors / "verify.json").read_text())["vectors"]
    tokens = json.loads((vectors / "token.json").read_text())["vectors"]
    queries = [vector["query"].encode() for vector in links]
    write("query", queries[::8])
    texts = [query.split("token=")[1] for vector in tokens if "token=" in (query := vector["query"])]
    write("token", [text.encode() for text in texts[::12]])
    minted = json.loads((vectors / "mint.json").read_text())["vectors"]
    write("url", [vector["params"]["url"].encode() + b"/x" for vector in minted])
    write("upstream_head", [b'attachment; filename="a"', b"bytes 0-1/2", b'W/"x"', b"gzip, br", b"bytes=0-4"])
    write("policy", [(root / "policy" / "demo.toml").read_bytes(), b'tenant = "t"\n[[allow]]\nhost = "*.a.example"\n'])


if __name__ == "__main__":
    main()
