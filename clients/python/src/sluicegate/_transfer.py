"""One download over all its tries: what to ask for, whether the answer fits what is there, whether all is there."""

import hmac
import http.client
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from . import _headers as fields
from ._http import DownloadError, OnAnswer, fetch
from ._part import Kept, Part, source_of, taken

_PIECE = 1 << 16
_WORTH_ANOTHER_TRY = frozenset({429, 502, 503, 504})

Progress = Callable[[int, int | None], object]


@dataclass(frozen=True)
class Downloaded:
    """A whole file. `filename` is the name that was signed, made safe; `resumed`: it came in more than one answer."""

    path: Path
    bytes: int
    filename: str
    type: str
    resumed: bool


class Again(Exception):
    """This try brought no whole file, another one may. `error` is what to raise if there is none."""

    def __init__(self, error: DownloadError, pause: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause


@dataclass(frozen=True)
class _Body:
    """How many bytes of an answer's body to skip, and how many the whole file has."""

    skip: int
    total: int | None


class Transfer:
    """A link, a destination, and what is there of its file."""

    def __init__(
        self, link: str, own: Mapping[str, str], timeout: float, progress: Progress, on_answer: OnAnswer
    ) -> None:
        self._link, self._fields, self._timeout = link, own, timeout
        self._progress, self._on_answer = progress, on_answer
        self._source = source_of(link)
        self._folder = Path()
        self._part: Part | None = None
        self._resumed = False
        self.sha256: bytes | None = None
        self.overwrite = False

    @property
    def have(self) -> int:
        return 0 if self._part is None else self._part.size

    def into_folder(self, folder: Path) -> None:
        self._folder = folder

    def into_file(self, path: Path) -> Part:
        if not self.overwrite and os.path.lexists(path):
            raise taken(path)
        self._part = Part(path)
        return self._part

    def close(self) -> None:
        if self._part is not None:
            self._part.close()

    def run(self) -> Downloaded:
        """One try: the whole file, or Again, or the error that no further try would change."""
        kept = self._usable()
        answer = self._ask(kept)
        if answer is None:
            return self.run()
        with answer:
            name = fields.safe_name(fields.signed_name(answer.headers))
            part = self._part
            if part is None:
                part = self.into_file(self._folder / name)
                begun = self._usable()
                if begun is not None and begun.tag == fields.strong_tag(answer.headers):
                    # An earlier process began with this file, and only the answer told its name.
                    answer.close()
                    return self.run()
            body = self._fit(part, answer, kept)
            self._receive(part, answer, body)
            self._check_length(part, answer, body)
        self._check_digest(part, answer.headers)
        size = part.size
        part.finish(self.overwrite)
        kind = answer.headers.get("content-type", "application/octet-stream")
        return Downloaded(part.final, size, name, kind, self._resumed)

    def _usable(self) -> Kept | None:
        """Of what the bytes are that are there, if one can go on from them."""
        part = self._part
        kept = part.kept() if part is not None and part.size else None
        if part is None or kept is None or kept.source != self._source:
            return None
        if kept.length is not None and part.size >= kept.length:
            # All was there when the process ended. The last byte is asked for again, as there is no empty range.
            part.cut(max(kept.length - 1, 0))
        return kept if part.size else None

    def _ask(self, kept: Kept | None) -> http.client.HTTPResponse | None:
        """The answer; None if the file no longer has what was asked for and all begins anew."""
        own = {} if kept is None else {"Range": f"bytes={self.have}-", "If-Range": kept.tag}
        try:
            return fetch(self._link, self._fields, own, self._timeout, self._on_answer)
        except DownloadError as refusal:
            if refusal.status == 416 and kept is not None and self._part is not None:
                self._part.begin(None)
                return None
            if refusal.status in _WORTH_ANOTHER_TRY:
                raise Again(refusal, refusal.retry_after) from None
            raise
        except (OSError, http.client.HTTPException) as error:
            raise Again(DownloadError(f"there is no answer from the server: {error}", code="unreachable")) from error

    def _fit(self, part: Part, answer: http.client.HTTPResponse, kept: Kept | None) -> _Body:
        """Puts the file where the answer's bytes belong. What does not fit what is there starts from nothing."""
        headers = answer.headers
        coding = headers.get("content-encoding", "identity")
        if coding.lower() != "identity":
            text = f"the file comes coded as `{coding[:40]}`, which was not asked for; have it stored without coding"
            raise DownloadError(text, code="unexpected_answer", status=answer.status)
        if answer.status == 206:
            return self._fit_range(part, headers, kept)
        if answer.status != 200:
            text = f"the server answered with {answer.status}, which is no file"
            raise DownloadError(text, code="unexpected_answer", status=answer.status)
        total = _whole_length(headers)
        tag = fields.strong_tag(headers)
        # As AWS Lambda does, which knows no ranges: the same version of the file, from its beginning.
        if kept is not None and tag == kept.tag and (kept.length is None or total in (None, kept.length)):
            self._resumed = True
            return _Body(part.size, total)
        self._resumed = False
        part.begin(None if tag is None else Kept(self._source, tag, total))
        return _Body(0, total)

    def _fit_range(self, part: Part, headers: Message, kept: Kept | None) -> _Body:
        found = fields.content_range(headers)
        whole = fields.number(headers, "x-sluicegate-length")
        length = fields.number(headers, "content-length")
        said = (found.total if found else None, whole, kept.length if kept else None)
        totals = {total for total in said if total is not None}
        fits = (
            kept is not None
            and found is not None
            and found.first == part.size
            and fields.strong_tag(headers) == kept.tag
            and length in (None, found.last - found.first + 1)
            and len(totals) == 1
        )
        if not fits or kept is None or found is None:
            part.begin(None)
            text = "the server answered with another part of the file than the one that was asked for"
            raise Again(DownloadError(text, code="unexpected_answer", status=206), 0)
        self._resumed = True
        return _Body(0, totals.pop())

    def _receive(self, part: Part, answer: http.client.HTTPResponse, body: _Body) -> None:
        skip, done = body.skip, part.size
        part.seek_end()
        try:
            for data in _pieces(answer):
                fresh = data[skip:]
                skip = max(0, skip - len(data))
                if body.total is not None and done + len(fresh) > body.total:
                    part.begin(None)
                    text = f"the server sent more than the {body.total} bytes that it announced"
                    raise DownloadError(text, code="length_mismatch")
                if fresh:
                    part.write(fresh)
                    done += len(fresh)
                    self._progress(done, body.total)
        finally:
            part.flush()

    def _check_length(self, part: Part, answer: http.client.HTTPResponse, body: _Body) -> None:
        if body.total is not None:
            if part.size != body.total:
                raise Again(_incomplete(part.size, body.total))
            return
        # The last chunk proves the end (RFC 9112 section 8); so does a digest. The end of a connection proves nothing.
        chunked = answer.headers.get("transfer-encoding", "").lower() == "chunked"
        digest = self.sha256 or fields.sha256_of_whole(answer.headers)
        if not chunked and digest is None:
            part.begin(None)
            text = "the server says no length, so nothing tells whether the file is whole; give its sha256"
            raise DownloadError(text, code="incomplete", status=answer.status)

    def _check_digest(self, part: Part, headers: Message) -> None:
        wanted = [digest for digest in (self.sha256, fields.sha256_of_whole(headers)) if digest is not None]
        if not wanted:
            return
        found = part.sha256()
        if all(hmac.compare_digest(found, digest) for digest in wanted):
            return
        part.begin(None)
        text = f"the file's sha-256 is `{found.hex()}`, and should be `{wanted[0].hex()}`; nothing was kept of it"
        error = DownloadError(text, code="digest_mismatch")
        # Perhaps the parts were of two versions under one tag. From nothing, that cannot be.
        raise Again(error, 0) if self._resumed else error


def _whole_length(headers: Message) -> int | None:
    """The whole file's length in a 200; the gateway says it twice where what stands between drops one."""
    known = {fields.number(headers, name) for name in ("content-length", "x-sluicegate-length")} - {None}
    if len(known) > 1:
        raise Again(DownloadError("the server announced two different lengths", code="unexpected_answer", status=200))
    return known.pop() if known else None


def _incomplete(done: int, total: int | None) -> DownloadError:
    of = "" if total is None else f" of {total}"
    return DownloadError(f"the transfer broke off after {done}{of} bytes; try again to go on", code="incomplete")


def _pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it arrives. Only a fault of the connection is worth another try, and none of the disk."""
    while True:
        try:
            data = answer.read1(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            text = f"the transfer broke off: {type(error).__name__}"
            raise Again(DownloadError(text, code="incomplete")) from error
        if not data:
            return
        yield data
