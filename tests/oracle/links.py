"""The link, version 1: parse, canonicalise, mint, verify. Section numbers refer to docs/link-format.md."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from crypto import hmac_tag
from encoding import base64url, base64url_decode, form_decode, percent_encode
from keyring import HmacKey, KeySet
from refusal import Refused, malformed, unproven
from urls import BadUrl, parse_url

Network = IPv4Network | IPv6Network

PREFIX = "sluicegate-link-v1\n"
LINK_NAMES = ("url", "kid", "exp", "nbf", "filename", "disposition", "id", "ip", "sig")
KNOWN_NAMES = frozenset(LINK_NAMES) | {"token"}
REQUIRED_NAMES = ("url", "kid", "exp", "sig")

_CONTROL = re.compile("[\u0000-\u001f\u007f-\u009f]")
_BIDI_OR_BREAK = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Link:
    """A well-formed HMAC link; nothing about it has been proven."""

    values: Mapping[str, str]

    @property
    def string_to_sign(self) -> str:
        return string_to_sign(self.values)


# --- reading -----------------------------------------------------------------------------------------


def read_query(raw: str) -> dict[str, str]:
    """The known parameters of a raw query, decoded."""
    if len(raw) > 8192:
        malformed("the query is longer than 8192 bytes")
    if not all("!" <= character <= "~" for character in raw):
        malformed("the query holds a byte that is not visible ASCII")
    pieces = [piece for piece in raw.split("&") if piece]
    if len(pieces) > 64:
        malformed("the query has more than 64 pieces")
    values: dict[str, str] = {}
    for piece in pieces:
        written_name, _, written_value = piece.partition("=")
        name = _decode_text(written_name)
        if name is None or name not in KNOWN_NAMES:
            continue
        if name in values:
            malformed(f"{name} is given twice")
        value = _decode_text(written_value)
        if value is None or _CONTROL.search(value):
            malformed(f"the value of {name} does not decode to text without control characters")
        values[name] = value
    return values


def _decode_text(written: str) -> str | None:
    decoded = form_decode(written)
    try:
        return None if decoded is None else decoded.decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_link(values: Mapping[str, str]) -> Link:
    """Check presence and the form of every value (sections 1.2 and 1.3)."""
    for name in REQUIRED_NAMES:
        if name not in values:
            malformed(f"{name} is missing")
    for name, value in values.items():
        if not is_well_formed(name, value):
            malformed(f"the value of {name} is malformed")
    return Link(dict(values))


def is_well_formed(name: str, value: str) -> bool:
    match name:
        case "url":
            return is_url(value)
        case "kid":
            return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", value) is not None
        case "exp" | "nbf":
            return re.fullmatch(r"0|[1-9][0-9]{0,11}", value) is not None
        case "filename":
            return is_filename(value)
        case "disposition":
            return value in ("attachment", "inline")
        case "id":
            return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value) is not None
        case "ip":
            return read_network(value) is not None
        case "sig":
            return len(value) == 43 and base64url_decode(value) is not None
        case _:
            return False


def is_url(value: str) -> bool:
    try:
        parse_url(value)
    except BadUrl:
        return False
    return True


def is_filename(value: str) -> bool:
    if not 1 <= len(value.encode("utf-8")) <= 255 or value in (".", ".."):
        return False
    return not (_CONTROL.search(value) or _BIDI_OR_BREAK.search(value) or set(value) & {"/", "\\"})


def read_network(value: str) -> Network | None:
    """An address (as a network of one) or a CIDR, or None if it is not written as the rules say."""
    address, slash, prefix = value.partition("/")
    if "%" in value or (slash and not re.fullmatch(r"0|[1-9][0-9]{0,2}", prefix)):
        return None
    try:
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
            return None
        return ip_network(f"{parsed}/{prefix}" if slash else str(parsed), strict=True)
    except ValueError:
        return None


# --- signing and minting -----------------------------------------------------------------------------


def string_to_sign(values: Mapping[str, str]) -> str:
    lines = [f"{name}={values[name]}\n" for name in sorted(values) if name != "sig"]
    return PREFIX + "".join(lines)


def sign(secret: str | bytes, text: str) -> str:
    return base64url(hmac_tag("HS256", secret, text.encode("utf-8")))


def mint(key: HmacKey, now: int, params: Mapping[str, str]) -> str:
    """The query of a link: the one spelling that a minting library emits."""
    if not key.may_mint(now):
        raise ValueError(f"{key.kid} does not mint")
    values = dict(params, kid=key.kid)
    values["sig"] = sign(key.secret, string_to_sign(values))
    read_link(values)
    return write_query(values)


def write_query(values: Mapping[str, str]) -> str:
    return "&".join(f"{name}={percent_encode(values[name])}" for name in LINK_NAMES if name in values)


# --- verifying ---------------------------------------------------------------------------------------


def verify_link(keys: KeySet, link: Link, now: int, client: str) -> dict[str, str | int]:
    values = link.values
    key = keys.hmac_key(values["kid"])
    if key is None or not key.may_verify(now):
        unproven("no such key, now")
    if not hmac.compare_digest(sign(key.secret, link.string_to_sign), values["sig"]):
        unproven("the signature differs")
    check_times(now, int(values["exp"]), int(values.get("nbf", "0")))
    check_client(values.get("ip"), client)
    return {
        "tenant": key.tenant,
        "kid": key.kid,
        "url": values["url"],
        **({"filename": values["filename"]} if "filename" in values else {}),
        "disposition": values.get("disposition", "attachment"),
        **({"id": values["id"]} if "id" in values else {}),
        "exp": int(values["exp"]),
    }


def check_times(now: int, exp: int, nbf: int) -> None:
    if now >= exp:
        raise Refused("verify", "link_expired", f"{now} is not before {exp}")
    if now < nbf:
        raise Refused("verify", "link_not_yet_valid", f"{now} is before {nbf}")


def check_client(allowed: str | None, client: str) -> None:
    if allowed is None:
        return
    network, address = read_network(allowed), ip_address(client)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if network is None or address not in network:
        raise Refused("verify", "client_not_allowed", f"{client} is not within {allowed}")
