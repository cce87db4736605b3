"""What token cases are made of: the plain token, ways to change it, and the expectations."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keyring
from cases.links import CLIENT, EXP, FORGED, accept
from cases.mint import URL
from encoding import base64url, base64url_decode, percent_encode
from keyring import NOW
from tokens import join_parts

Expectation = dict[str, dict[str, object]]
Object = dict[str, Any]

OTHER = "https://files.example/reports/2025.pdf"
PREFIX = "https://files.example/reports/*"


@dataclass(frozen=True)
class Case:
    name: str
    comment: str
    fault: str | None
    query: str
    expect: Expectation
    headers: Mapping[str, list[str]] = field(default_factory=dict)
    now: int = NOW
    client: str = CLIENT


DROP: Any = object()  # as a member's value: leave the member out


def changed(base: Object, changes: Mapping[str, Any]) -> Object:
    return {name: value for name, value in {**base, **changes}.items() if value is not DROP}


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def header(alg: str = "HS256", kid: str = "acme-hs256", **changes: Any) -> Object:
    return changed({"alg": alg, "typ": "JWT", "kid": kid}, changes)


def claims(alg: str = "HS256", **changes: Any) -> Object:
    issuer = f"https://{alg.lower()}.acme.example"
    return changed({"iss": issuer, "aud": "acme-downloads", "exp": EXP, "url": URL}, changes)


def scoped(*urls: object) -> str:
    """A plain token with the scope `urls`."""
    return token(claims(url=DROP, urls=list(urls)))


def token(body: Object | str | bytes | None = None, head: Object | str | bytes | None = None) -> str:
    """A token of the plain HS256 issuer, rightly signed, with these claims and this header."""
    return signed("HS256", "acme-hs256", claims() if body is None else body, header() if head is None else head)


def signed(alg: str, kid: str, body: Object | str | bytes, head: Object | str | bytes) -> str:
    """A token rightly signed by the named key, whatever its claims and header say."""
    signing_input = join_parts(_text(head), _text(body))
    return f"{signing_input}.{base64url(keyring.sign(alg, kid, signing_input.encode()))}"


def of_algorithm(alg: str, **changes: Any) -> str:
    """The plain token of the issuer that uses one algorithm."""
    kid = f"acme-{alg.lower()}"
    return signed(alg, kid, claims(alg, **changes), header(alg, kid))


def with_signature(text: str, signature: bytes) -> str:
    return f"{text.rpartition('.')[0]}.{base64url(signature)}"


def signing_input(text: str) -> bytes:
    return text.rpartition(".")[0].encode()


def signature(text: str) -> bytes:
    data = base64url_decode(text.rpartition(".")[2])
    assert data is not None
    return data


def _text(part: Object | str | bytes) -> str | bytes:
    return as_json(part) if isinstance(part, dict) else part


def ask(text: str, url: str | None = None) -> str:
    return f"token={text}" + ("" if url is None else f"&url={percent_encode(url)}")


def granted(**expected: object) -> Expectation:
    return accept(**{"kid": "acme-hs256", **expected})


def forged(name: str, fault: str, text: str, comment: str = "rightly signed") -> Case:
    return Case(name, comment, fault, ask(text), FORGED)


def numbers(text: str) -> tuple[int, int]:
    data = signature(text)
    return int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
