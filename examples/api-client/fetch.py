#!/usr/bin/env python3
"""Fetches a thousand files through the gateway of `cargo run`, below its rate limit, each whole or not at all.

    python3 examples/api-client/fetch.py [folder]

It can be stopped and started again. SHA256SUMS in the folder says what is there, as `sha256sum -c` reads it.
"""

import argparse
import hashlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The library of the checkout, without an installation.
sys.path.insert(0, str(ROOT / "clients" / "python" / "src"))
from pacer import Pacer  # noqa: E402
from sluicegate import DownloadError, MintError, Signer, download  # noqa: E402

_SUMS = "SHA256SUMS"
_ATTEMPTS = 10
_LONGEST_WAIT = 300.0


class Run:
    """One start of the program: what it fetches, and what it counts."""

    def __init__(self, signer: Signer, prefix: str, folder: Path) -> None:
        self._signer, self._prefix, self._folder = signer, prefix, folder
        self._pacer = Pacer()
        self._lock = threading.Lock()
        self.requests = self.refused = 0
        self.stopped = threading.Event()

    def missing(self, names: list[str]) -> list[str]:
        """The files that are not there with the digest under which they were noted. Their notes are struck out."""
        sums = self._folder / _SUMS
        try:
            lines = sums.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            lines = []
        noted = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        there = {name: noted[name] for name in names if name in noted and self._digest(name) == noted[name]}
        fresh = sums.with_name(_SUMS + ".new")
        fresh.write_text("".join(f"{digest}  {name}\n" for name, digest in there.items()), encoding="utf-8")
        fresh.replace(sums)
        return [name for name in names if name not in there]

    def _digest(self, name: str) -> str | None:
        try:
            return hashlib.sha256((self._folder / name).read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    def fetch(self, name: str) -> None:
        """One file: as many requests as it takes, each when the limit allows it."""
        for attempt in range(1, _ATTEMPTS + 1):
            if self.stopped.is_set():
                return
            try:
                self._try(name)
                return
            except DownloadError as error:
                again = error.status in (429, 502, 503, 504) or error.code in ("incomplete", "unreachable")
                if not again or attempt == _ATTEMPTS or (error.retry_after or 0) > _LONGEST_WAIT:
                    raise

    def _try(self, name: str) -> None:
        heard: list[tuple[int, Message]] = []
        ticket = self._pacer.take()
        retry_after = None
        try:
            # Minted for each request, so that a long run has no link that ends on the way.
            link = self._signer.mint(self._prefix + name, expires_in=3600, align_to=300, filename=name)
            # One attempt: when the next request may be sent is for the pacer to say. Overwriting is meant for files
            # that are not noted, which an end between the two writes leaves.
            result = download(
                link,
                self._folder / name,
                attempts=1,
                overwrite=True,
                on_answer=lambda status, headers: heard.append((status, headers)),
            )
        except DownloadError as error:
            if error.status in (429, 503):
                retry_after = error.retry_after or 1.0
            elif error.code == "unreachable":
                retry_after = 1.0
            raise
        finally:
            status, headers = heard[-1] if heard else (None, None)
            self._pacer.heard(ticket, headers, retry_after)
            with self._lock:
                self.requests += 1
                self.refused += status == 429
        if headers is None or headers.get("repr-digest") is None:
            raise DownloadError(f"`{name}` came without Repr-Digest, so nothing proves it", code="digest_missing")
        digest = hashlib.sha256(result.path.read_bytes()).hexdigest()
        with self._lock, (self._folder / _SUMS).open("a", encoding="utf-8") as sums:
            sums.write(f"{digest}  {name}\n")


def main() -> int:
    """0 all there, 1 not all, 2 wrong usage."""
    given = arguments()
    folder: Path = given.folder
    names = [f"{number:04}.txt" for number in range(1, given.count + 1)]
    try:
        secret = given.secret_file.read_text(encoding="utf-8").removesuffix("\n")
        run = Run(Signer(given.base, given.kid, secret), given.prefix, folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"fetch: `{error.filename}`: {error.strerror}; start `cargo run` first, or name another", file=sys.stderr)
        return 2
    except MintError as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 2
    began = time.monotonic()
    todo = run.missing(names)
    faults = work(run, todo, given.workers)
    seconds = time.monotonic() - began
    for fault in faults[:5]:
        print(f"fetch: {fault}", file=sys.stderr)
    missing = run.missing(names)
    print(f"{len(names) - len(todo)} files were there, {len(missing)} are missing")
    print(f"{run.requests} requests, {run.refused} refused with 429, {seconds:.1f} seconds")
    return 1 if missing else 0


def work(run: Run, names: list[str], workers: int) -> list[str]:
    """Fetches with so many workers; the faults, if there are any. The first that no retry helps stops the rest."""
    faults: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        pending = {pool.submit(run.fetch, name): name for name in names}
        try:
            for done in as_completed(pending):
                if (error := done.exception()) is not None:
                    faults.append(f"`{pending[done]}`: {error}")
                    run.stopped.set()
        except KeyboardInterrupt:
            faults.append("stopped; the same command goes on from here")
            run.stopped.set()
    return faults


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("parts"), help="where to (default: %(default)s)")
    parser.add_argument("--base", default="http://127.0.0.1:8080", help="the gateway (default: %(default)s)")
    parser.add_argument("--kid", default="demo", help="the key's id (default: %(default)s)")
    parser.add_argument("--secret-file", type=Path, default=ROOT / "policy" / "demo.secret", help="the key's secret")
    parser.add_argument("--prefix", default="http://sample.localhost/parts/", help="where the files are")
    parser.add_argument("--count", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=8, help="requests at once (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
