"""One request for a file: over http or https, through the proxies of the environment, redirects followed with care.

Certificates are verified against the system's roots, or those that SSL_CERT_FILE and SSL_CERT_DIR name. HTTP_PROXY,
HTTPS_PROXY and NO_PROXY count as in urllib.
"""

import functools
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from ._headers import retry_after
from ._rules import quote

_LONGEST_PROBLEM = 65_536
# What the download itself must say.
_OWN_FIELDS = frozenset({"range", "if-range", "accept-encoding", "host", "connection"})


class DownloadError(Exception):
    """There is no file, or not the whole one.

    `code` is the problem document's, such as `"link_expired"`; `"http_"` and the status where there is none; or one of
    this library: `"unreachable"`, `"untrusted_certificate"`, `"incomplete"`, `"length_mismatch"`,
    `"digest_mismatch"`, `"unexpected_answer"`, `"file_exists"`, `"busy"`. clients/README.md has what they mean.
    `status`, `detail`, `request_id` and `retry_after` (seconds) are set where an answer says them.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str,
        status: int | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after


OnAnswer = Callable[[int, Message], object]


def check_link(link: str) -> str:
    """Refuses what urllib would read as a file of this machine, among others. The link itself is never quoted."""
    parts = urlsplit(link)
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch("[!-~]+", link):
        raise ValueError("the link is no http or https URL; write the whole link, percent-encoded")
    return link


def check_fields(headers: Mapping[str, str] | None) -> dict[str, str]:
    fields = dict(headers or {})
    for name in fields:
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"header {quote(name)}: the download sets this itself; leave it out")
    return fields


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows, but takes no field of the caller to another origin, and never leaves https."""

    max_redirections = 5

    def __init__(self, private: Mapping[str, str]) -> None:
        self._private = frozenset(name.capitalize() for name in private)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if new is None:
            return None
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https"):
            text = "the answer leads to something else than http and https; ask for a link that stays there"
            raise DownloadError(text, code="unexpected_answer", status=code)
        if before.scheme == "https" and after.scheme != "https":
            text = "the answer leads from https to http; ask for a link that stays on https"
            raise DownloadError(text, code="unexpected_answer", status=code)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            for name in self._private:
                new.remove_header(name)
        return new


@functools.lru_cache(maxsize=1)
def _roots() -> ssl.SSLContext:
    """Reading the system's certificates takes as long as a small download, so it is done once."""
    return ssl.create_default_context()


def fetch(
    link: str, fields: Mapping[str, str], own: Mapping[str, str], timeout: float, on_answer: OnAnswer
) -> http.client.HTTPResponse:
    """The answer to GET, with any status below 300; DownloadError for any other, OSError if there is none.

    `fields` are the caller's, `own` the download's.
    """
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_roots()), _Redirects(fields))
    request = urllib.request.Request(link, headers={**fields, **own, "Accept-Encoding": "identity"})
    try:
        answer: http.client.HTTPResponse = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as refusal:
        with refusal:
            on_answer(refusal.code, refusal.headers)
            raise _refused(refusal, timeout) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            text = f"the server's certificate is not trusted: {error.reason.verify_message}"
            raise DownloadError(text, code="untrusted_certificate") from None
        if isinstance(error.reason, OSError):
            raise error.reason from None
        raise OSError(str(error.reason)) from None
    on_answer(answer.status, answer.headers)
    return answer


def _body(refusal: Any, patience: float) -> bytes:
    """What comes of a refusal's body within `patience` seconds, which end a server that sends it byte by byte too."""
    end, body = time.monotonic() + patience, b""
    while len(body) < _LONGEST_PROBLEM and time.monotonic() < end:
        piece = refusal.read1(_LONGEST_PROBLEM - len(body))
        if not piece:
            break
        body += piece
    return body


def _refused(refusal: urllib.error.HTTPError, patience: float) -> DownloadError:
    """The problem document (RFC 9457) as an error; a refusal without one is told by its status."""
    try:
        document = json.loads(_body(refusal.fp, patience))
    except (ValueError, OSError, http.client.HTTPException, RecursionError):
        document = None
    if not isinstance(document, dict):
        document = {}
    code, title, detail, request_id = (_text(document.get(key)) for key in ("code", "title", "detail", "request_id"))
    reason = ": ".join(part for part in (title, detail) if part)
    text = f"the download was refused with {refusal.code} `{code or 'no code'}`" + (f": {reason}" if reason else "")
    return DownloadError(
        text,
        code=code or f"http_{refusal.code}",
        status=refusal.code,
        detail=detail,
        request_id=request_id or _text(refusal.headers.get("x-request-id")),
        retry_after=retry_after(refusal.headers),
    )


def _text(value: object) -> str | None:
    """A server's text as it may stand in an error: short, and nothing in it that moves a terminal's cursor."""
    if not isinstance(value, str):
        return None
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value[:500])
