"""base64url and percent-encoding, in the one spelling the specification allows for each."""

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes | None:
    """The bytes, or None if the text is not the canonical unpadded spelling of any bytes."""
    if not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if base64url(data) == text else None


def percent_encode(value: str | bytes) -> str:
    """Every byte outside A-Za-z0-9-._~ as an upper-case escape."""
    data = value.encode("utf-8") if isinstance(value, str) else value
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in data)


def form_decode(text: str) -> bytes | None:
    """Decode one name or value of a query: `+` is a space, `%XX` a byte. None on a bad escape."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return None
    return re.sub(
        rb"%([0-9A-Fa-f]{2})",
        lambda escape: bytes([int(escape.group(1), 16)]),
        text.replace("+", " ").encode("ascii"),
    )
