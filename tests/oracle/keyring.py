"""The test keys: read back from keys.json by the verifier, and made here from their names.

Everything is derived from a label, so that the private halves need no place in the repository.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import crypto
from encoding import base64url

NOW = 1_800_000_000  # 2027-01-15 08:00:00 UTC: the time in every vector that does not say otherwise

# --- as a verifier knows them --------------------------------------------------------------------------


@dataclass(frozen=True)
class HmacKey:
    tenant: str
    kid: str
    secret: str
    status: str
    not_before: int | None = None
    not_after: int | None = None

    def may_verify(self, now: int) -> bool:
        begun = self.not_before is None or now >= self.not_before
        ended = self.not_after is not None and now >= self.not_after
        return self.status in ("active", "verify-only") and begun and not ended

    def may_mint(self, now: int) -> bool:
        return self.status == "active" and self.may_verify(now)


@dataclass(frozen=True)
class IssuerKey:
    kid: str
    alg: str
    material: str


@dataclass(frozen=True)
class Issuer:
    tenant: str
    keys: list[IssuerKey]


class KeySet:
    """Every tenant's keys; a key id and a pair of issuer and audience each name one tenant."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._hmac: dict[str, HmacKey] = {}
        self._issuers: dict[tuple[str, str], Issuer] = {}
        for tenant in document["tenants"]:
            for key in tenant["keys"]:
                self._hmac[key["kid"]] = HmacKey(tenant=tenant["tenant"], **key)
            for issuer in tenant["issuers"]:
                keys = [
                    IssuerKey(key["kid"], key["alg"], key.get("secret") or key["public_key_pem"])
                    for key in issuer["keys"]
                ]
                self._issuers[issuer["issuer"], issuer["audience"]] = Issuer(tenant["tenant"], keys)

    def hmac_key(self, kid: str) -> HmacKey | None:
        return self._hmac.get(kid)

    def issuer(self, name: str, audience: str) -> Issuer | None:
        return self._issuers.get((name, audience))


# --- as their owners know them -------------------------------------------------------------------------


def secret(label: str, size: int = 32) -> str:
    """A secret's text for a label: the prefix, then `size` bytes in base64url."""
    return "sgk1_" + base64url(hashlib.shake_256(f"sluicegate test secret\0{label}".encode()).digest(size))


def public_pem(alg: str, kid: str) -> str:
    """The public half of the key that `sign` uses."""
    match alg:
        case "RS256" | "PS256":
            return crypto.rsa_key(kid).public.pem()
        case "ES256":
            return crypto.ec_key(kid).public.pem()
        case "EdDSA":
            return crypto.ed_key(kid).public.pem()
        case _:
            raise ValueError(f"{alg} has no public key")


def sign(alg: str, kid: str, message: bytes) -> bytes:
    """Sign with the key that `alg` and the key's name give, whether or not it is configured."""
    match alg:
        case "HS256" | "HS384" | "HS512":
            return crypto.hmac_tag(alg, issuer_secret(alg, kid), message)
        case "RS256":
            return crypto.rs256_sign(crypto.rsa_key(kid), message)
        case "PS256":
            return crypto.ps256_sign(crypto.rsa_key(kid), message, PSS_SALT)
        case "ES256":
            return crypto.es256_sign(crypto.ec_key(kid), message)
        case "EdDSA":
            return crypto.eddsa_sign(crypto.ed_key(kid), message)
        case _:
            raise ValueError(f"unknown algorithm {alg}")


PSS_SALT = hashlib.sha256(b"sluicegate test salt").digest()


def issuer_secret(alg: str, kid: str) -> str:
    return secret(kid, {"HS256": 32, "HS384": 48, "HS512": 64}[alg])


def _key(kid: str, status: str = "active", **times: int) -> dict[str, str | int]:
    return {"kid": kid, "secret": secret(kid), "status": status, **times}


def _issuer(issuer: str, audience: str, *keys: tuple[str, str]) -> dict[str, Any]:
    entries = []
    for kid, alg in keys:
        shared = alg.startswith("HS")
        material = {"secret": issuer_secret(alg, kid)} if shared else {"public_key_pem": public_pem(alg, kid)}
        entries.append({"kid": kid, "alg": alg, **material})
    return {"issuer": issuer, "audience": audience, "keys": entries}


LONGEST_KID = "kid-of-64-characters".ljust(64, "x")
SHARED_ISSUER = "https://login.shared.example"


def document() -> dict[str, Any]:
    """What keys.json holds."""
    return {
        "tenants": [
            {
                "tenant": "acme",
                "keys": [
                    _key("acme-active"),
                    _key("acme-second"),
                    _key("acme-verify-only", "verify-only"),
                    _key("acme-retired", "retired"),
                    _key("acme-windowed", not_before=NOW - 1000, not_after=NOW + 1000),
                    _key("acme-not-yet", not_before=NOW + 1000),
                    _key("acme-lapsed", not_after=NOW - 1000),
                    _key("0"),
                    _key(LONGEST_KID),
                ],
                "issuers": [
                    *(
                        _issuer(f"https://{alg.lower()}.acme.example", "acme-downloads", (f"acme-{alg.lower()}", alg))
                        for alg in ("HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA")
                    ),
                    _issuer(
                        "https://rotating.acme.example",
                        "acme-downloads",
                        ("rotating-old", "ES256"),
                        ("rotating-new", "EdDSA"),
                    ),
                    _issuer(SHARED_ISSUER, "acme-downloads", ("shared-es256", "ES256")),
                ],
            },
            {
                "tenant": "borealis",
                "keys": [_key("borealis-active"), _key("borealis-verify-only", "verify-only")],
                "issuers": [
                    _issuer("https://hs256.borealis.example", "borealis-downloads", ("borealis-hs256", "HS256")),
                    _issuer("https://es256.borealis.example", "borealis-downloads", ("borealis-es256", "ES256")),
                    _issuer(SHARED_ISSUER, "borealis-downloads", ("shared-es256", "ES256")),
                ],
            },
        ]
    }
