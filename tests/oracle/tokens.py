"""The token: a compact JWS that stands in for kid, exp and sig. Sections refer to docs/link-format.md."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import crypto
import links
from encoding import base64url, base64url_decode
from keyring import Issuer, IssuerKey, KeySet
from refusal import Refused, malformed, unproven
from urls import BadUrl, Url, parse_url

MAX_CHARACTERS = 8192
MAX_DEPTH = 64
_HEADER_MEMBERS = {"alg", "typ", "kid"}
_TYPES = {"jwt", "sluicegate+jwt"}
_AS_PARAMETER = {"url": "url", "filename": "filename", "disposition": "disposition", "ip": "ip", "jti": "id"}

Object = dict[str, Any]


class Whole(int):
    """A JSON number written as an integer that fits a time: `0` or `[1-9][0-9]{0,11}`."""


@dataclass(frozen=True)
class Token:
    """A structurally sound token; nothing about it has been proven."""

    header: Object
    claims: Object
    signing_input: str
    signature: bytes


# --- reading -----------------------------------------------------------------------------------------


def read_token(text: str) -> Token:
    if len(text) > MAX_CHARACTERS:
        malformed("the token is too long")
    parts = text.split(".")
    if len(parts) != 3 or "" in parts:
        malformed("a token has three parts, none empty")
    header, claims, signature = (base64url_decode(part) for part in parts)
    if header is None or claims is None or signature is None:
        malformed("a part is not canonical base64url")
    return Token(read_object(header), read_object(claims), f"{parts[0]}.{parts[1]}", signature)


def read_object(data: bytes) -> Object:
    try:
        text = data.decode("utf-8")
        _check_depth(text)
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=lambda written: Whole(written) if links.is_well_formed("exp", written) else -1.0,
            parse_float=lambda _: -1.0,  # not an integer, whatever its value
            parse_constant=_no_constant,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no unpaired surrogate
    except ValueError as error:
        malformed(f"not a JSON object in UTF-8: {error}")
    if not isinstance(value, dict):
        malformed("not a JSON object")
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for mark in re.findall(r'[\[{}\]]|"(?:[^"\\]|\\.)*"', text, re.DOTALL):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_constant(written: str) -> NoReturn:
    raise ValueError(f"{written} is not JSON")


def check_request(token: Token, url: str | None) -> None:
    """What a token asks of the query beside it (section 2.2)."""
    if url is not None and not links.is_url(url):
        malformed("the value of url is malformed")
    if url is None and "urls" in token.claims and "url" not in token.claims:
        malformed("a token with urls needs the url in the query")


# --- verifying ---------------------------------------------------------------------------------------


def verify_token(keys: KeySet, token: Token, url: str | None, now: int, client: str) -> dict[str, str | int]:
    issuer = _find_issuer(keys, token.claims)
    key = _find_key(issuer, token.header)
    if not crypto.verify(key.alg, key.material, token.signing_input.encode("ascii"), token.signature):
        unproven("the signature is wrong")
    claims = token.claims
    _check_claims(claims)
    links.check_times(now, claims["exp"], claims.get("nbf", 0))
    links.check_client(claims.get("ip"), client)
    return {
        "tenant": issuer.tenant,
        "kid": key.kid,
        "url": _granted_url(claims, url),
        **({"filename": claims["filename"]} if "filename" in claims else {}),
        "disposition": claims.get("disposition", "attachment"),
        **({"id": claims["jti"]} if "jti" in claims else {}),
        "exp": int(claims["exp"]),
    }


def _find_issuer(keys: KeySet, claims: Object) -> Issuer:
    iss, aud = claims.get("iss"), claims.get("aud")
    audiences: Any = [aud] if isinstance(aud, str) else aud
    if not isinstance(iss, str) or not _is_list_of_strings(audiences, 8):
        unproven("iss is a string, aud one string or 1 to 8 of them")
    found = [issuer for audience in set(audiences) if (issuer := keys.issuer(iss, audience))]
    if len(found) != 1:
        unproven("iss and aud do not name exactly one configured pair")
    return found[0]


def _is_list_of_strings(value: object, limit: int) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= limit:
        return False
    return all(isinstance(item, str) for item in value)


def _find_key(issuer: Issuer, header: Object) -> IssuerKey:
    if extra := set(header) - _HEADER_MEMBERS:
        unproven(f"header members beyond alg, typ and kid: {sorted(extra)}")
    typ = header.get("typ", "JWT")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        unproven("not this type of token")
    if "kid" in header:
        candidates = [key for key in issuer.keys if key.kid == header["kid"]]
    else:
        candidates = issuer.keys
    if len(candidates) != 1 or header.get("alg") != candidates[0].alg:
        unproven("no such key of this issuer, or not its algorithm")
    return candidates[0]


def _check_claims(claims: Object) -> None:
    """The form of every claim that has a meaning here (section 2.4)."""
    if "exp" not in claims:
        unproven("exp is missing")
    for name in ("exp", "nbf", "iat"):
        if name in claims and not isinstance(claims[name], Whole):
            unproven(f"{name} is not an integer that fits a time")
    for claim, parameter in _AS_PARAMETER.items():
        value = claims.get(claim)
        if claim in claims and not (isinstance(value, str) and links.is_well_formed(parameter, value)):
            unproven(f"{claim} is malformed")
    if "urls" in claims:
        if "url" in claims or not _is_list_of_strings(claims["urls"], 64):
            unproven("the scope is url, or urls with 1 to 64 strings")
        for pattern in claims["urls"]:
            _read_pattern(pattern)


def _read_pattern(pattern: str) -> tuple[str, Url | None]:
    """The kind of a pattern (`any`, `under`, `exact`) and the url it is about."""
    if pattern == "*":
        return "any", None
    prefix = pattern.removesuffix("*") if pattern.endswith("/*") else pattern
    try:
        url = parse_url(prefix)
    except BadUrl as error:
        unproven(f"a pattern is malformed: {error}")
    if set(prefix) & {"*", "?"}:
        unproven("a pattern has no query, and a star only after its last slash")
    return ("exact" if prefix == pattern else "under"), url


def _granted_url(claims: Object, url: str | None) -> str:
    """The url that both the token and the query cover, as written (section 2.5)."""
    if "url" in claims:
        if url is None or parse_url(url) == parse_url(claims["url"]):
            return claims["url"] if url is None else url
    elif url is not None and any(_covers(pattern, parse_url(url)) for pattern in claims.get("urls", [])):
        return url
    raise Refused("verify", "url_not_allowed", "the token does not cover the url")


def _covers(pattern: str, url: Url) -> bool:
    kind, scope = _read_pattern(pattern)
    if scope is None:
        return True
    return url.is_under(scope) if kind == "under" else url == scope


# --- minting -----------------------------------------------------------------------------------------


def join_parts(header: str | bytes, claims: str | bytes) -> str:
    """The signing input of two parts given as text, or as bytes where they are no text."""
    parts = (part.encode("utf-8") if isinstance(part, str) else part for part in (header, claims))
    return ".".join(base64url(part) for part in parts)
