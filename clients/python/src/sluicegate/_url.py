"""The rules for `url` (docs/link-format.md, section 2, rules 1 to 5), and for the gateway's own base.

What takes the mapping of IDNA to see is left to the gateway.
"""

import ipaddress
import re

from ._rules import CONTROL, MintError, fault, plain, quote

_MAX_BYTES = 4096
_SCHEME = re.compile("https?://", re.IGNORECASE)
_WHITE_SPACE = re.compile("[\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_PORT = re.compile("[1-9][0-9]{0,4}")
# WHATWG URL, section 3.5: forbidden host code points that no earlier rule has caught.
_FORBIDDEN_IN_HOST = frozenset("<>^|")
# WHATWG URL, section 3.5, "ends in a number": then a parser reads the whole host as IPv4.
_NUMBER = re.compile("[0-9]+|0[xX][0-9a-fA-F]*")
_USERINFO = re.compile("^([^:/?#]*:?//)[^/?#]*@")


def read_url(value: object) -> str:
    """The upstream file."""
    if plain(value) == "":
        raise _fault("url", "", "write an absolute URL that begins with `https://` or `http://`")
    return _read("url", value)


def read_base(value: object) -> str:
    """Where the gateway is: scheme, host and port, to which `/?` and the query are added."""
    base = _read("base", value)
    scheme = _SCHEME.match(base)
    rest = base[scheme.end() :] if scheme else base
    authority, _, path = rest.partition("/")
    if path or "?" in authority:
        raise _fault("base", base, "leave out what follows the host, since links begin with `/?`")
    return base.removesuffix("/")


def _fault(parameter: str, text: str, advice: str) -> MintError:
    # A user name may come with a password, and a query with another system's signature.
    shown = _USERINFO.sub(r"\1…@", text)
    head, mark, _ = shown.partition("?")
    return MintError(parameter, f"{parameter} {quote(head + ('?…' if mark else ''))}: {advice}")


def _read(parameter: str, value: object) -> str:
    text = plain(value)
    if text is None:
        raise fault(parameter, value, f"this is of type {type(value).__name__}; write a str")
    if advice := _fault_of_text(text):
        raise _fault(parameter, text, advice)
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise _fault(parameter, text, "write an absolute URL that begins with `https://` or `http://`")
    authority = re.split("[/?]", text[scheme.end() :], maxsplit=1)[0]
    if advice := _fault_of_authority(authority):
        raise _fault(parameter, text, advice)
    return text


def _fault_of_text(text: str) -> str | None:
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "it holds half a surrogate pair; write valid Unicode text"
    if size > _MAX_BYTES:
        return f"it is longer than {_MAX_BYTES} bytes; write a shorter one"
    if _WHITE_SPACE.search(text) or CONTROL.search(text):
        return "it holds white space or a control character; write that percent-encoded"
    if "\\" in text:
        return "it holds a backslash; write `/`, or `%5C` in a path"
    if "#" in text:
        return "it has a fragment; leave out `#` and what follows"
    return None


def _fault_of_authority(authority: str) -> str | None:
    if not authority:
        return "it names no host; write one after `//`"
    if "@" in authority:
        return "it has a user name or password; leave that out"
    if "%" in authority:
        return "write the host without percent-encoding"
    match = _HOST_AND_PORT.fullmatch(authority)
    if match is None:
        return "write the host and at most one port; an IPv6 address stands in brackets"
    host, port = match.groups()
    if port is not None and not (_PORT.fullmatch(port) and int(port) <= 65535):
        return "write a port from 1 to 65535 without leading zeros"
    if not host:
        return "it names no host; write one before `:`"
    return _fault_of_host(host)


def _fault_of_host(host: str) -> str | None:
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return "write an IPv6 address in the brackets, such as `[2001:db8::1]`"
        return None
    if host.endswith("."):
        return "write the host without a dot at its end"
    if set(host) & _FORBIDDEN_IN_HOST:
        return "the host holds a character that no host name has; leave that out"
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            # It takes nothing but four decimal numbers without leading zeros.
            ipaddress.IPv4Address(host)
        except ValueError:
            return "write an IPv4 host as four decimal numbers without leading zeros"
    return None
