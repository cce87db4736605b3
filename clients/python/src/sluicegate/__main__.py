"""`python -m sluicegate`: `mint` and `download` for a shell. A secret comes from a file or the environment, never as an
argument, since arguments can be seen by every user of the machine."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import DownloadError, MintError, Signer, download
from ._part import TO_OVERWRITE
from ._rules import masked, quote

_VARIABLE = "SLUICEGATE_SECRET"
_LONGEST_SECRET_FILE = 16_384
_TEXTS = ("filename", "disposition", "id", "ip")
_NUMBERS = ("expires-in", "exp", "align-to", "not-before")


class _Usage(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(_masked(message))


def _masked(text: str) -> str:
    """A secret may have been given in the place of something else, which errors quote."""
    known = os.environ.get(_VARIABLE, "")
    return masked(text.replace(known, "…") if len(known) >= 8 else text)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 no file, 2 wrong usage."""
    given = _parser().parse_args(arguments)
    try:
        return _mint(given) if given.command == "mint" else _download(given)
    except DownloadError as error:
        print(_masked(f"sluicegate: {error}"), file=sys.stderr)
        return 1
    except (MintError, _Usage) as error:
        print(_masked(f"sluicegate: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sluicegate: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m sluicegate", allow_abbrev=False, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    mint = commands.add_parser("mint", allow_abbrev=False, help="print a signed link")
    mint.add_argument("--url", required=True, help="the upstream file")
    mint.add_argument("--base", default="http://127.0.0.1:8080", help="where the gateway is (default: %(default)s)")
    mint.add_argument("--kid", required=True, help="the key's id")
    mint.add_argument("--secret-file", type=Path, metavar="FILE", help=f"the secret; without it, ${_VARIABLE}")
    for name in _NUMBERS:
        mint.add_argument(f"--{name}", type=_whole, metavar="SECONDS")
    for name in _TEXTS:
        mint.add_argument(f"--{name}")
    fetch = commands.add_parser("download", allow_abbrev=False, help="fetch a link's file, or go on with it")
    fetch.add_argument("link", help="the link, or - to read it from standard input")
    # Not a Path, which would forget a slash at the end.
    fetch.add_argument("destination", nargs="?", help="a file, or a folder that is there (default: this folder)")
    fetch.add_argument("--sha256", metavar="HEX", help="the digest that the file must have")
    fetch.add_argument("--attempts", type=_whole, default=5, metavar="N", help="tries in a row that bring nothing new")
    fetch.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each wait for bytes")
    fetch.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    fetch.add_argument("--quiet", action="store_true", help="print nothing but errors")
    return parser


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{quote(_masked(text))} is no whole number; write digits only")
    return int(text[:20])


def _mint(given: argparse.Namespace) -> int:
    options = {name.replace("-", "_"): getattr(given, name.replace("-", "_")) for name in (*_TEXTS, *_NUMBERS)}
    signer = Signer(given.base, given.kid, _secret(given.secret_file))
    print(signer.mint(given.url, **options))
    return 0


def _secret(file: Path | None) -> str:
    if file is None:
        if (value := os.environ.get(_VARIABLE)) is None:
            raise _Usage(f"there is no secret; write --secret-file FILE, or set the variable {_VARIABLE}")
        return value
    shown = quote(_masked(str(file)))
    try:
        with file.open("rb") as opened:
            data = opened.read(_LONGEST_SECRET_FILE + 1)
        if len(data) > _LONGEST_SECRET_FILE:
            raise _Usage(f"--secret-file {shown}: it has more than 16 KiB; write the path of a secret")
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise _Usage(f"--secret-file {shown}: this is no text; write the secret as one line") from None
        reason = error.strerror if isinstance(error, OSError) else "this is no path"
        raise _Usage(f"--secret-file {shown}: {reason}; write the path of a file that you may read") from None
    # As for the gateway: one line break at the end is not part of the secret.
    return text.removesuffix("\n").removesuffix("\r")


def _download(given: argparse.Namespace) -> int:
    link = sys.stdin.readline().strip() if given.link == "-" else given.link
    shown = _Shown(not given.quiet and sys.stderr.isatty())
    try:
        result = download(
            link,
            given.destination,
            sha256=given.sha256,
            attempts=given.attempts,
            timeout=given.timeout,
            overwrite=given.overwrite,
            progress=shown,
        )
    except ValueError as error:
        raise _Usage(str(error)) from None
    except DownloadError as error:
        if error.code != "file_exists":
            raise
        text = str(error).removesuffix(TO_OVERWRITE) + "add --overwrite"
        raise DownloadError(text, code=error.code) from None
    finally:
        shown.end()
    if not given.quiet:
        print(result.path)
    return 0


class _Shown:
    """The progress, on one line of a terminal."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._last = ""

    def __call__(self, done: int, total: int | None) -> None:
        text = f"{done / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else "")
        if self._wanted and text != self._last:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
            self._last = text

    def end(self) -> None:
        if self._last:
            print(file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
