"""What the fields of a download's answer say: length, range, validator, digest, file name, when to ask again."""

import base64
import binascii
import os
import re
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):(?:;[^,]*)?", re.ASCII)
# RFC 6266 section 4.1: a token, a quoted string with escapes, or (filename*) an extended value.
_PARAMETER = re.compile(r';\s*([a-z0-9!#$&+.^_`|~-]+\*?)\s*=\s*("(?:[^"\\]|\\.)*"|[^";,\s]*)', re.IGNORECASE)
_UNSEEN = re.compile("[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_WINDOWS_MARKS = re.compile('[<>:"|?*]')
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# Under such names lies what is unfinished, and who says of what it is a part.
_UNFINISHED = re.compile(r"\.(part|part\.json|part\.etag|new)\Z", re.IGNORECASE)
_LONGEST_NAME = 255


class Range(NamedTuple):
    """A Content-Range (RFC 9110 section 14.4): first and last byte, and the whole length if the answer says it."""

    first: int
    last: int
    total: int | None


def number(headers: Message, name: str) -> int | None:
    """A count of bytes. What stands twice with different values, or is no number, is no length."""
    values = {value.strip() for value in headers.get_all(name, [])}
    if len(values) != 1:
        return None
    text = values.pop()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def strong_tag(headers: Message) -> str | None:
    """The entity tag, if it compares strongly (RFC 9110 section 8.8.3)."""
    tag = headers.get("etag", "")
    return tag if _STRONG_TAG.fullmatch(tag) else None


def content_range(headers: Message) -> Range | None:
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None:
        return None
    first, last, total = int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
    return Range(first, last, total) if first <= last and (total is None or last < total) else None


def sha256_of_whole(headers: Message) -> bytes | None:
    """The digest of the whole file in Repr-Digest (RFC 9530 section 3), which also a partial answer carries."""
    for member in ",".join(headers.get_all("repr-digest", [])).split(","):
        if match := _DIGEST.fullmatch(member.strip()):
            try:
                return base64.b64decode(match[1], validate=True)
            except binascii.Error:
                return None
    return None


def retry_after(headers: Message) -> float | None:
    """Seconds to wait (RFC 9110 section 10.2.3), also where a date says so."""
    text = (headers.get("retry-after") or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def signed_name(headers: Message) -> str | None:
    """The name in Content-Disposition: filename* (RFC 8187) before filename (RFC 6266 section 4.3)."""
    found = {name.lower(): value for name, value in _PARAMETER.findall(headers.get("content-disposition", ""))}
    charset, _, rest = found.get("filename*", "").partition("'")
    if charset.lower() == "utf-8":
        try:
            return unquote_to_bytes(rest.partition("'")[2]).decode("utf-8")
        except UnicodeDecodeError:
            pass
    plain = found.get("filename")
    if plain is None:
        return None
    return re.sub(r"\\(.)", r"\1", plain[1:-1]) if plain.startswith('"') else plain


def safe_name(name: str | None, *, windows: bool = os.name == "nt") -> str:
    """A name that stays in its folder, shows on a terminal as it is, is no hidden file, and no unfinished one."""
    text = _UNSEEN.sub("", re.split(r"[/\\]", name or "")[-1]).strip()
    if windows:
        text = _WINDOWS_MARKS.sub("_", text).rstrip(". ")
        text = "_" + text if _WINDOWS_DEVICES.fullmatch(text) else text
    if not text.strip("."):
        return "download"
    if text.startswith("."):
        text = "_" + text[1:]
    text = _shortened(text)
    return _UNFINISHED.sub(r"_\1", text)


def _shortened(name: str) -> str:
    """Within what file systems take; the extension stays."""
    if len(name.encode("utf-8")) <= _LONGEST_NAME:
        return name
    stem, extension = os.path.splitext(name)
    if len(extension.encode("utf-8")) > 16:
        stem, extension = name, ""
    room = _LONGEST_NAME - len(extension.encode("utf-8"))
    return stem.encode("utf-8")[:room].decode("utf-8", "ignore") + extension
