"""The unfinished file beside its destination: `<name>.part`, and `<name>.part.json`, which says of what it is a part.

Both survive the process, so that another one goes on where this one ended. The second holds no link and no signature.
"""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ._http import DownloadError

if sys.platform != "win32":
    import fcntl

_PIECE = 1 << 20
_LONGEST_NAME = 255
# The command line says it in its own words.
TO_OVERWRITE = "give overwrite=True"


@dataclass(frozen=True)
class Kept:
    """Of what the bytes are a part: the upstream file, the strong tag of its version, its length if known."""

    source: str
    tag: str
    length: int | None


def source_of(link: str) -> str:
    """Names the file behind a link, also when the link is made anew: its `url`, or the whole link if it has none."""
    parts = urlsplit(link)
    urls = parse_qs(parts.query).get("url")
    name = f"{parts.scheme}://{parts.netloc} {urls[0]}" if urls else link
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


class Part:
    """An unfinished file, open, and locked against other processes."""

    def __init__(self, final: Path) -> None:
        self.final = final
        stem = final.name
        if len(stem.encode("utf-8")) + len(".part.json") > _LONGEST_NAME:
            stem = hashlib.sha256(stem.encode("utf-8")).hexdigest()
        self._path = final.with_name(f"{stem}.part")
        self._notes = final.with_name(f"{stem}.part.json")
        self._file = self._open_locked()

    def _open_locked(self) -> Any:
        while True:
            # No following of links: in a shared folder, another user may have put one there.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            file = os.fdopen(os.open(self._path, flags, 0o666), "r+b")
            if sys.platform == "win32":
                return file
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have moved it to its place between the two calls.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self._path)):
                    return file
            except BlockingIOError:
                file.close()
                text = f"`{self.final.name}` is being downloaded by another process; wait for its end"
                raise DownloadError(text, code="busy") from None
            except FileNotFoundError:
                pass
            file.close()

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def kept(self) -> Kept | None:
        """What is said about the bytes that are there; None if they are of no use."""
        try:
            notes = json.loads(self._notes.read_bytes())
            kept = Kept(notes["source"], notes["tag"], notes["length"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        texts = isinstance(kept.source, str) and isinstance(kept.tag, str)
        return kept if texts and (kept.length is None or type(kept.length) is int) else None

    def begin(self, kept: Kept | None) -> None:
        """Starts from nothing. The bytes go before the note, so that no note ever vouches for other bytes."""
        self.cut(0)
        if kept is None:
            self._notes.unlink(missing_ok=True)
            return
        fresh = self._notes.with_name(self._notes.name + ".new")
        fresh.write_text(json.dumps({"source": kept.source, "tag": kept.tag, "length": kept.length}))
        os.replace(fresh, self._notes)

    def cut(self, size: int) -> None:
        self._file.truncate(size)

    def seek_end(self) -> None:
        self._file.seek(0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def sha256(self) -> bytes:
        self._file.flush()
        self._file.seek(0)
        digest = hashlib.sha256()
        while data := self._file.read(_PIECE):
            digest.update(data)
        return digest.digest()

    def finish(self, overwrite: bool) -> None:
        """Gives the whole file its name, at once and never over another file unless `overwrite` says so."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if sys.platform == "win32":
            self._file.close()  # Windows renames no open file.
        if overwrite or not self._link():
            os.replace(self._path, self.final)
        self._notes.unlink(missing_ok=True)
        self._file.close()

    def _link(self) -> bool:
        """A second name in place of a rename, because it fails where the name is taken. False: not possible here."""
        try:
            os.link(self._path, self.final)
        except FileExistsError:
            raise taken(self.final) from None
        except OSError:
            if os.path.lexists(self.final):
                raise taken(self.final) from None
            return False
        self._path.unlink()
        return True

    def close(self) -> None:
        """Leaves what is there for a later process, but no empty files."""
        if self._file.closed:
            return
        self._file.flush()
        if not self.size and sys.platform != "win32":
            self._notes.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)
        self._file.close()


def taken(path: Path) -> DownloadError:
    text = f"`{path.name}` is there already; choose another destination, or {TO_OVERWRITE}"
    return DownloadError(text, code="file_exists")
