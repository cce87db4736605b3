"""Downloads a link's file, resumed where a transfer broke, also by a later process; whole or not at all."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from ._http import DownloadError, OnAnswer, check_fields, check_link
from ._mint import Minted
from ._rules import quote
from ._transfer import Again, Downloaded, Progress, Transfer

__all__ = ["DownloadError", "Downloaded", "download"]

_LONGEST_PAUSE = 10.0


def download(
    link: str | Minted,
    destination: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    sha256: str | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
    max_wait: float = 120.0,
    overwrite: bool = False,
    headers: Mapping[str, str] | None = None,
    on_answer: OnAnswer | None = None,
) -> Downloaded:
    """The file of a link (text, or what `mint` made), whole, or DownloadError.

    `destination` is a file, or a folder that takes it under its signed name; the current folder if left out.
    After `attempts` tries it gives up; one that brings new bytes begins the count anew. `timeout` bounds the
    connection and each wait for bytes, `max_wait` what a `Retry-After` may ask for, both in seconds. `sha256`, in hex,
    is compared with the file.
    `progress(done, total)` is called as bytes arrive, `on_answer(status, headers)` for each answer, refusals too.
    """
    address = check_link(str(link))
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256 {quote(sha256)}: write the digest as 64 hex digits")
    if attempts < 1:
        raise ValueError(f"attempts `{attempts}`: write 1 or more")
    transfer = Transfer(address, check_fields(headers), timeout, progress or _ignore, on_answer or _ignore)
    transfer.sha256 = None if sha256 is None else bytes.fromhex(sha256)
    transfer.overwrite = overwrite
    path = Path("." if destination is None else destination)
    if path.is_dir():
        transfer.into_folder(path)
    elif str(destination).endswith(("/", os.sep)) or not path.parent.is_dir():
        raise ValueError(f"destination {quote(str(destination))}: there is no such folder; make it first")
    else:
        transfer.into_file(path)
    try:
        return _persist(transfer, attempts, max_wait)
    finally:
        transfer.close()


def _ignore(*_: object) -> None:
    pass


def _persist(transfer: Transfer, attempts: int, max_wait: float) -> Downloaded:
    """Tries until the file is whole, or until `attempts` tries in a row bring nothing new."""
    left, furthest = attempts, transfer.have
    while True:
        try:
            return transfer.run()
        except Again as again:
            if transfer.have > furthest:
                left, furthest = attempts, transfer.have
            left -= 1
            pause = min(0.25 * 2 ** (attempts - left), _LONGEST_PAUSE) if again.pause is None else again.pause
            if left <= 0 or pause > max_wait:
                raise again.error from again.__cause__
            time.sleep(pause)
