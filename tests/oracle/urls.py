"""The value of `url`: what may be written, and when two writings name the same resource.

This is not a WHATWG parser. It covers what the specification's own rules and the vectors need, and the
vectors stay away from what it does not know (exotic IDNA above all).
"""

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from encoding import percent_encode

# Control characters, Unicode White_Space, and two marks.
_FORBIDDEN = re.compile("[\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\\\\#]")
_IDEOGRAPHIC_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
_FORBIDDEN_IN_HOST = frozenset(" #%/:<>?@[\\]^|")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PATH_ESCAPES = frozenset(' "#<>?`{}')
_QUERY_ESCAPES = frozenset(" \"#<>'")


class BadUrl(ValueError):
    """The text breaks a rule for url values."""


@dataclass(frozen=True)
class Url:
    """A url in normal form: equal when the WHATWG serialisations are equal."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None

    def is_under(self, prefix: "Url") -> bool:
        """Whether `prefix`, whose path ends in a slash, covers this url."""
        origins = (self.scheme, self.host, self.port) == (prefix.scheme, prefix.host, prefix.port)
        return origins and self.path.startswith(prefix.path)


def parse_url(text: str) -> Url:
    if not 1 <= len(text.encode("utf-8")) <= 4096:
        raise BadUrl("a url has 1 to 4096 bytes")
    if bad := _FORBIDDEN.search(text):
        raise BadUrl(f"a url holds no {bad.group()!r}")
    scheme = re.match(r"(https?)://", text, re.ASCII | re.IGNORECASE)
    if scheme is None:
        raise BadUrl("a url begins with http:// or https://")
    match = re.match(r"([^/?]*)([^?]*)(?:\?(.*))?", text[scheme.end() :], re.DOTALL)
    assert match is not None
    authority, path, query = match.groups()
    name = scheme.group(1).lower()
    host, port = _parse_authority(authority, _DEFAULT_PORTS[name])
    return Url(name, host, port, _normal_path(path), None if query is None else _escape(query, _QUERY_ESCAPES))


def _parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    if not authority or set(authority) & {"@", "%"}:
        raise BadUrl("the authority is a host and at most a port, without escapes")
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", authority)
    if match is None:
        raise BadUrl("the authority has stray colons or brackets")
    host, port = match.groups()
    if port is not None and not (re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) <= 65535):
        raise BadUrl("a port is 1 to 65535")
    return _normal_host(host), default_port if port is None else int(port)


def _normal_host(host: str) -> str:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1]).compressed}]"
        except AddressValueError as error:
            raise BadUrl("not an IPv6 address") from error
    mapped = unicodedata.normalize("NFKC", host.translate(_IDEOGRAPHIC_DOTS)).lower()
    try:
        ascii_host = mapped if mapped.isascii() else mapped.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise BadUrl("not an internationalised host name") from error
    if not ascii_host or ascii_host.endswith(".") or set(ascii_host) & _FORBIDDEN_IN_HOST:
        raise BadUrl("not a host name")
    if _ends_in_number(ascii_host):
        _require_dotted_decimal(host)
    return ascii_host


def _ends_in_number(host: str) -> bool:
    """What makes a WHATWG parser read a host as an IPv4 address."""
    last = host.rpartition(".")[2]
    return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last) is not None


def _require_dotted_decimal(host: str) -> None:
    try:
        if str(IPv4Address(host)) == host:
            return
    except AddressValueError:
        pass
    raise BadUrl("an IPv4 address is written as four decimal numbers without leading zeros")


def _normal_path(path: str) -> str:
    segments: list[str] = []
    written = path.split("/")[1:] or [""]
    for at, segment in enumerate(written):
        dots = re.sub("%2e", ".", segment, flags=re.IGNORECASE)
        if dots == "..":
            segments = segments[:-1]
        if dots not in (".", ".."):
            segments.append(_escape(segment, _PATH_ESCAPES))
        elif at == len(written) - 1:
            segments.append("")
    return "/" + "/".join(segments)


def _escape(text: str, escapes: frozenset[str]) -> str:
    return "".join(
        percent_encode(character) if ord(character) > 0x7E or character in escapes else character for character in text
    )
