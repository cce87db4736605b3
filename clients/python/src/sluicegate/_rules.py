"""The rules for what a link says (docs/link-format.md, section 2) but for `url`, and the error that names a fault."""

import ipaddress
import math
import re
from typing import Any

LAST_MOMENT = 999_999_999_999

CONTROL = re.compile("[\u0000-\u001f\u007f-\u009f]")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_KID = re.compile("[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile("[A-Za-z0-9._-]{1,64}")
_PREFIX = re.compile("0|[1-9][0-9]{0,2}")
_SECRET_PREFIX = "sgk1_"
_SECRET = re.compile(_SECRET_PREFIX + "[A-Za-z0-9_-]*")
# Shorter ones stand in texts by chance, and are no secrets for the gateway either.
_SHORTEST_KNOWN = 8
_LONGEST_QUOTE = 80
_MOMENTS = ("exp", "not_before")


class MintError(ValueError):
    """No link was made. `parameter` is the option at fault, such as `"filename"`."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(reason)
        self.parameter = parameter


def fault(parameter: str, value: object, advice: str) -> MintError:
    """The error for a value: which option, what was given, what to write instead."""
    return MintError(parameter, f"{parameter} {quote(value)}: {advice}")


def quote(value: object) -> str:
    """A value as errors show it: in backticks, cut short, no secret, nothing in it that moves a terminal's cursor."""
    text = masked(_written(value))
    if len(text) > _LONGEST_QUOTE:
        text = text[:_LONGEST_QUOTE] + "…"
    # What cannot be printed is escaped; that includes bidirectional marks and lone surrogates.
    return "`" + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text) + "`"


def masked(text: str) -> str:
    """What has the form of a secret is not shown, wherever it was given."""
    return _SECRET.sub(_SECRET_PREFIX + "…", text)


def holds(value: object, secret: object) -> bool:
    """Whether a value has this secret in it."""
    text, known = _written(value), plain(secret)
    if known is None or len(known) < _SHORTEST_KNOWN:
        return False
    # As it stands in what Python writes of a list, or of bytes.
    return any(form in text for form in (known, repr(known)[1:-1], repr(known.encode("utf-8", "replace"))[2:-1]))


def plain(value: Any) -> str | None:
    """The characters of a text. A class of the caller may say others when it is written out, such as an Enum does."""
    return str.__str__(value) if issubclass(type(value), str) else None


def _written(value: object) -> str:
    if (text := plain(value)) is not None:
        return text
    try:
        return plain(repr(value)) or ""
    except Exception:
        # An int of thousands of digits has no text, and a class of the caller may have none.
        return f"({type(value).__name__})"


def read_text(parameter: str, value: object) -> str:
    """A text that has bytes in UTF-8 and no control character."""
    text = plain(value)
    if text is None:
        raise fault(parameter, value, f"this is of type {type(value).__name__}; write a str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise fault(parameter, text, "it holds half a surrogate pair; write valid Unicode text") from None
    if CONTROL.search(text):
        raise fault(parameter, text, "it holds a control character; leave that out")
    return text


def read_number(parameter: str, value: object, least: int) -> int:
    """A whole number of seconds. True and False are none, although Python counts them as such."""
    if not issubclass(type(value), int) or type(value) is bool:
        raise fault(parameter, value, f"this is of type {type(value).__name__}; write whole seconds as an int")
    number = int.__int__(value)  # type: ignore[arg-type]
    # Thirteen digits, as the milliseconds of any time from 2001 on have.
    if parameter in _MOMENTS and LAST_MOMENT < number <= 10 * LAST_MOMENT + 9:
        raise fault(parameter, value, "that looks like milliseconds; divide by 1000")
    if not least <= number <= LAST_MOMENT:
        raise fault(parameter, value, f"write whole seconds from {least} to {LAST_MOMENT}")
    return number


def read_moment(now: Any) -> int:
    """The clock's time in whole seconds."""
    try:
        seconds = math.floor(now)
    except (TypeError, ValueError, OverflowError):
        raise fault("now", now, "the clock gives no time; have it give Unix seconds, as time.time does") from None
    return read_number("now", seconds, 0)


def read_kid(value: object) -> str:
    if (plain(value) or "").startswith(_SECRET_PREFIX):
        # It is not quoted, as it may be the secret itself.
        raise MintError("kid", "kid: this looks like a secret; write the key's id here and the secret after it")
    text = read_text("kid", value)
    if not _KID.fullmatch(text):
        raise fault(
            "kid",
            text,
            "write 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit",
        )
    return text


def read_secret(value: object) -> bytes:
    """The key's bytes. No message shows any of them."""
    advice = "make one with `sluicegate keys new`"
    text = plain(value)
    if text is None:
        raise MintError("secret", f"secret: this is of type {type(value).__name__}; write a str")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise MintError("secret", "secret: it holds half a surrogate pair; write valid Unicode text") from None
    if CONTROL.search(text):
        reason = "it holds a control character; store it as one line of text and leave out the line break at its end"
        raise MintError("secret", f"secret: {reason}")
    if len(data) < 32:
        raise MintError("secret", f"secret: it is shorter than 32 bytes; {advice}")
    if len(set(data)) < 10:
        raise MintError("secret", f"secret: it repeats a few characters; {advice}")
    return data


def read_filename(value: object) -> str:
    text = read_text("filename", value)
    if not 1 <= len(text.encode("utf-8")) <= 255:
        raise fault("filename", text, "write 1 to 255 bytes of UTF-8")
    if "/" in text or "\\" in text or text in (".", ".."):
        raise fault("filename", text, "this is a path; write a file name without folders")
    if _DIRECTION.search(text):
        raise fault("filename", text, "it holds a character that turns the text direction; leave that out")
    return text


def read_disposition(value: object) -> str:
    text = read_text("disposition", value)
    if text not in ("attachment", "inline"):
        raise fault("disposition", text, "write `attachment` or `inline`")
    return text


def read_id(value: object) -> str:
    text = read_text("id", value)
    if not _ID.fullmatch(text):
        raise fault("id", text, "write 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`")
    return text


def read_ip(value: object) -> str:
    text = read_text("ip", value)
    advice = "write an IPv4 or IPv6 address, or a network such as `203.0.113.0/24` with zero host bits"
    address, slash, prefix = text.partition("/")
    # ipaddress takes zones, net masks and prefixes with leading zeros; the format does not.
    if "%" in text or (slash and not _PREFIX.fullmatch(prefix)):
        raise fault("ip", text, advice)
    try:
        network = ipaddress.ip_network(text)
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise fault("ip", text, advice) from None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        mapped = parsed.ipv4_mapped if network.num_addresses == 1 else "203.0.113.0/24"
        raise fault("ip", text, f"this is IPv4 written as IPv6; write IPv4, such as `{mapped}`")
    return text
