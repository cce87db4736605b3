"""Mints for the project's own tests: a JSON object a line on standard input, a JSON line for each on standard output."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
from sluicegate import MintError, Signer

OPTIONS = {"url", "expires_in", "exp", "align_to", "not_before", "filename", "disposition", "id", "ip"}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    now: Callable[[], float] = lambda: request["now"]
    options = dict(request["options"])
    try:
        signer = Signer(request["base"], request["kid"], request["secret"], now=now)
        for name in options.keys() - OPTIONS:
            raise MintError(name, f"{name}: there is no such option")
        minted = signer.mint(options.pop("url", None), **options)
    except MintError as fault:
        return {"error": str(fault), "parameter": fault.parameter}
    return {name: getattr(minted, name) for name in ("link", "query", "string_to_sign", "signature", "exp")}


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()
