"""The unfinished file beside its destination: `<name>.part`, and `<name>.part.json`, which says of what it is a part.

Both survive the process, so that another one goes on where this one ended. The second holds no link and no signature.
It is written before the first and removed after it: a `.part` without one is another's file, and is left as it is.
"""

import hashlib
import json
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ._http import DownloadError
from ._rules import quote

if sys.platform != "win32":
    import fcntl

_PIECE = 1 << 20
_LONGEST_NAME = 255
# The command line says it in its own words.
TO_OVERWRITE = "give overwrite=True"
_LONGEST_NOTE = 1 << 16
# No following of links: in a shared folder, another user may have put one there.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


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
            found = self._found(self._path)
            if found is None:
                # The note before the file, so that the file is ours whenever this process ends.
                self._note(None)
            elif not _is_ours(found, links=2):
                raise _foreign(self._path)
            try:
                fresh = os.O_CREAT | os.O_EXCL if found is None else 0
                opened = os.open(self._path, os.O_RDWR | _FLAGS | fresh, 0o666)
            except (FileExistsError, FileNotFoundError):
                continue  # Another process made it or took it away meanwhile.
            file = os.fdopen(opened, "r+b")
            try:
                if self._locked(file):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _locked(self, file: Any) -> bool:
        """Whether the open file is ours alone; False: to be opened anew."""
        self._lock(file)
        # Another process may have moved it to its place between the two calls.
        now, found = os.fstat(file.fileno()), self._found(self._path)
        if found is None or not os.path.samestat(now, found):
            return False
        if self._read_note() is None:
            raise _foreign(self._path)
        if _is_ours(now):
            return True
        final = self._found(self.final)
        if final is None or not os.path.samestat(now, final) or not _is_ours(now, links=2):
            raise _foreign(self._path)
        # An earlier process ended between giving the whole file its name and taking this one away.
        self._path.unlink()
        return False

    def _lock(self, file: Any) -> None:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"`{self.final.name}` is being downloaded by another process; wait for its end"
                raise DownloadError(text, code="busy") from None

    @staticmethod
    def _found(path: Path) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def kept(self) -> Kept | None:
        """What is said about the bytes that are there; None if they are of no use."""
        notes = self._read_note()
        return Kept(**notes) if notes is not None and notes["tag"] is not None else None

    def _read_note(self) -> dict[str, Any] | None:
        """The note, if it is one of this library."""
        try:
            with os.fdopen(os.open(self._notes, os.O_RDONLY | _FLAGS | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
                if not _is_ours(os.fstat(file.fileno())):
                    return None
                notes = json.loads(file.read(_LONGEST_NOTE))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(notes, dict) or notes.keys() != {"source", "tag", "length"}:
            return None
        source, tag, length = notes["source"], notes["tag"], notes["length"]
        named = isinstance(source, str) and re.fullmatch("[0-9a-f]{64}|", source) is not None
        fits = (tag is None or isinstance(tag, str)) and (length is None or type(length) is int)
        return notes if named and fits else None

    def begin(self, kept: Kept | None) -> None:
        """Starts from nothing. The bytes go before the note, so that no note ever vouches for other bytes."""
        self.cut(0)
        self._note(kept)

    def _note(self, kept: Kept | None) -> None:
        """Says of what the bytes are a part; None: that they are of this library, and of no use."""
        if self._found(self._notes) is not None and self._read_note() is None:
            raise _foreign(self._notes)
        notes = {"source": "", "tag": None, "length": None} if kept is None else vars(kept)
        # One name for each note, so that what a process leaves that ends here is used, not kept for ever.
        fresh = self._notes.with_name(f".sluicegate-{hashlib.sha256(self._notes.name.encode('utf-8')).hexdigest()[:32]}")
        with self._draft(fresh) as file:
            try:
                file.truncate(0)
                json.dump(notes, file)
                file.flush()
                if sys.platform == "win32":
                    file.close()  # Windows renames no open file.
                os.replace(fresh, self._notes)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise

    def _draft(self, path: Path) -> Any:
        """The next note, open and locked against other processes, which write theirs under the same name."""
        while True:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | _FLAGS | getattr(os, "O_NONBLOCK", 0), 0o666)
            file = os.fdopen(opened, "w")
            try:
                if not _is_ours(os.fstat(opened)):
                    raise _foreign(path)
                self._lock(file)
                found = self._found(path)
                if sys.platform == "win32" or (found is not None and os.path.samestat(os.fstat(opened), found)):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # Another process gave it the note's name meanwhile.

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
            self._path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)
        self._file.close()


def taken(path: Path) -> DownloadError:
    text = f"`{path.name}` is there already; choose another destination, or {TO_OVERWRITE}"
    return DownloadError(text, code="file_exists")


def _is_ours(found: os.stat_result, links: int = 1) -> bool:
    """A plain file of this user, under no more names than its own, since what is written shows under all of them."""
    own = sys.platform == "win32" or found.st_uid == os.geteuid()
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= links and own


def _foreign(path: Path) -> DownloadError:
    reason = "is there, and is no unfinished download of this library"
    text = f"{quote(path.name)} {reason}; move it away, or choose another destination"
    return DownloadError(text, code="file_exists")
