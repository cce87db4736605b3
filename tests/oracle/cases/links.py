"""What link cases are made of: the plain link, ways to change it, and the expectations."""

from collections.abc import Mapping
from dataclasses import dataclass

from cases.mint import URL
from encoding import percent_encode
from keyring import NOW, secret
from links import LINK_NAMES, sign, string_to_sign, write_query

EXP = NOW + 3600
CLIENT = "203.0.113.7"
Values = dict[str, str]


@dataclass(frozen=True)
class Case:
    name: str
    comment: str
    fault: str | None
    query: str
    expect: dict[str, dict[str, object]]
    now: int = NOW
    client: str = CLIENT


def accept(**expected: object) -> dict[str, dict[str, object]]:
    """An acceptance that differs from the plain link's only as given, members in their fixed order."""
    plain: dict[str, object] = {
        "tenant": "acme",
        "kid": "acme-active",
        "url": URL,
        "disposition": "attachment",
        "exp": EXP,
    }
    order = ("tenant", "kid", "url", "filename", "disposition", "id", "exp")
    merged = {**plain, **expected}
    return {"ok": {name: merged[name] for name in order if name in merged}}


def refuse(code: str) -> dict[str, dict[str, object]]:
    stage = "link" if code in ("malformed_link", "missing_credential") else "verify"
    return {"refuse": {"stage": stage, "code": code}}


MALFORMED = refuse("malformed_link")
FORGED = refuse("invalid_signature")


def link(changes: Mapping[str, str | None] | None = None, **more: str | None) -> Values:
    """The plain link with changes (None drops a value), rightly signed over whatever it holds."""
    merged = {"url": URL, "kid": "acme-active", "exp": str(EXP), **(changes or {}), **more}
    values = {name: value for name, value in merged.items() if value is not None}
    if "sig" not in merged:
        values["sig"] = sign(secret(values.get("kid", "acme-active")), string_to_sign(values))
    return values


def altered(values: Values, **changes: str | None) -> Values:
    """A signed link with values changed, added or dropped (None) after it was signed."""
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


def query(**changes: str | None) -> str:
    return write_query(link(changes))


def pieces(values: Values) -> list[str]:
    return write_query(values).split("&")


def respelled(values: Values, **raw: str) -> str:
    """The query with some values in another raw spelling."""
    return "&".join(f"{name}={raw.get(name, percent_encode(values[name]))}" for name in LINK_NAMES if name in values)


PLAIN = query()
