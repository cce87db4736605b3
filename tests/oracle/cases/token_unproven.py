"""Tokens whose header, names, key or claims refuse them, however right the signature."""

import base64
import hmac
from collections.abc import Iterator
from typing import Any

import crypto
from cases.links import CLIENT, EXP, FORGED
from cases.mint import URL
from cases.tokens import (
    DROP,
    Case,
    Object,
    as_json,
    ask,
    changed,
    claims,
    forged,
    header,
    signed,
    token,
)
from encoding import base64url, percent_encode
from keyring import NOW, SHARED_ISSUER, public_pem, secret
from tokens import join_parts


def bad_headers() -> Iterator[Case]:
    def bad(name: str, fault: str, **changes: Any) -> Case:
        return forged(f"header-{name}", fault, token(head=header(**changes)))

    for alg in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "noNe",
        " none",
        "none ",
        "non\u00e9",
        "null",
        "",
        "hs256",
        "Hs256",
        "HS256 ",
        " HS256",
        "HMAC",
        "HS",
        "HS1",
    ):
        label = percent_encode(alg).replace("%", "x") or "empty"
        yield bad(f"alg-{label}", "alg is not the key's", alg=alg)
    for name, value in [
        ("null", None),
        ("number", 256),
        ("list", ["HS256"]),
        ("object", {"a": "HS256"}),
        ("false", False),
    ]:
        yield bad(f"alg-of-type-{name}", "alg is no string", alg=value)
        yield bad(f"kid-of-type-{name}", "kid is no string", kid=value)
        yield bad(f"typ-of-type-{name}", "typ is no string", typ=value)
    yield bad("alg-absent", "no alg", alg=DROP)
    yield forged("header-empty", "no alg", token(head="{}"))
    for alg in (
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "ES256",
        "ES256K",
        "ES384",
        "EdDSA",
        "Ed25519",
        "dir",
        "A128KW",
        "RSA1_5",
    ):
        yield bad(f"alg-{alg}", "alg is not the key's", alg=alg)
    extra: dict[str, Any] = {
        "crit-exp": {"crit": ["exp"]},
        "crit-b64": {"crit": ["b64"], "b64": True},
        "crit-empty": {"crit": []},
        "crit-unknown": {"crit": ["x"], "x": 1},
        "crit-null": {"crit": None},
        "b64-true": {"b64": True},
        "b64-false": {"b64": False},
        "zip": {"zip": "DEF"},
        "jku": {"jku": "https://evil.example/jwks.json"},
        "x5u": {"x5u": "https://evil.example/cert.pem"},
        "x5c": {"x5c": ["MIIB"]},
        "x5t": {"x5t": "AAAA"},
        "x5t-s256": {"x5t#S256": "AAAA"},
        "enc": {"enc": "A128GCM"},
        "cty-nested": {"cty": "JWT"},
        "epk": {"epk": {"kty": "EC"}},
        "p2c": {"p2c": 2**31 - 1, "p2s": "AAAA"},
        "exp-replicated": {"exp": EXP},
        "url": {"url": URL},
        "unknown": {"x": 1},
        "alg-in-capitals": {"ALG": "HS256"},
        "jwk": {"jwk": {"kty": "oct", "k": base64url(b"evil")}},
        "empty-name": {"": 1},
    }
    for name, members in extra.items():
        yield bad(f"extra-{name}", "a header member beyond alg, typ and kid", **members)
    for typ in ("", "at+jwt", "JOSE", "JWE", "dpop+jwt", "logout+jwt", "application/jwt", "JWT ", "id_token"):
        yield bad(f"typ-{percent_encode(typ).replace('%', 'x') or 'empty'}", "another type of token", typ=typ)
    kids = {
        "empty": "",
        "unknown": "nobody",
        "in-capitals": "ACME-HS256",
        "trailing-space": "acme-hs256 ",
        "trailing-nul": "acme-hs256\0",
        "path": "../../../dev/null",
        "sql": "x' UNION SELECT 'secret",
        "url": "https://evil.example/key",
        "command": "key;id",
        "of-a-link": "acme-active",
        "of-another-issuer": "acme-hs384",
        "of-another-tenant": "borealis-hs256",
        "of-4096-characters": "k" * 4096,
        "dunder-proto": "__proto__",
        "number-as-text": "0",
    }
    for name, kid in kids.items():
        yield bad(f"kid-{name}", "not a key of this issuer", kid=kid)
    rotating = claims(iss="https://rotating.acme.example")
    text = signed("ES256", "rotating-old", rotating, header("ES256", kid=DROP))
    yield forged("header-kid-absent-of-two", "no kid, and the issuer has two keys", text)
    text = signed("ES256", "rotating-old", rotating, header("ES256", "rotating-new"))
    yield forged("header-kid-of-the-other-key", "signed with one key, naming the other", text)
    text = signed("EdDSA", "rotating-new", rotating, header("EdDSA", "rotating-old"))
    yield forged("header-alg-of-the-other-key", "the algorithm of the issuer's other key", text)


def confused() -> Iterator[Case]:
    """Algorithm confusion: a public key, known to all, used as an HMAC secret; and keys used across families."""
    for alg in ("RS256", "PS256", "ES256", "EdDSA"):
        kid = f"acme-{alg.lower()}"
        pem = public_pem(alg, kid).encode()
        bits = crypto.spki_read(pem.decode())[1]
        secrets = {
            "pem": pem,
            "pem-stripped": pem.strip(),
            "pem-crlf": pem.replace(b"\n", b"\r\n"),
            "der": base64.b64decode(b"".join(pem.splitlines()[1:-1])),
            "key-bits": bits,
        }
        for name, material in secrets.items():
            text = join_parts(as_json(header("HS256", kid)), as_json(claims(alg)))
            tag = base64url(hmac.digest(material, text.encode(), "sha256"))
            fault = f"HS256 with the {alg} public key as its secret"
            yield forged(f"confused-hs256-{alg.lower()}-{name}", fault, f"{text}.{tag}", "the classic")
            if name == "pem":
                text = join_parts(as_json(header(alg, kid)), as_json(claims(alg)))
                tag = base64url(hmac.digest(material, text.encode(), "sha256"))
                yield forged(
                    f"confused-tag-{alg.lower()}",
                    f"an HMAC under alg {alg}",
                    f"{text}.{tag}",
                    "the classic, relabelled",
                )
    for used, configured in (("PS256", "RS256"), ("RS256", "PS256")):
        kid = f"acme-{configured.lower()}"
        text = signed(used, kid, claims(configured), header(used, kid))
        yield forged(
            f"confused-{used.lower()}-for-{configured.lower()}", f"a {used} token, right but for the policy", text
        )
        text = signed(used, kid, claims(configured), header(configured, kid))
        yield forged(f"confused-{used.lower()}-as-{configured.lower()}", f"{used} under the name {configured}", text)
    for used in ("HS384", "HS512"):
        text = join_parts(as_json(header(used)), as_json(claims()))
        tag = base64url(crypto.hmac_tag(used, secret("acme-hs256"), text.encode()))
        yield forged(f"confused-{used.lower()}-for-hs256", f"{used} with the HS256 key", f"{text}.{tag}")
        text = join_parts(as_json(header()), as_json(claims()))
        tag = base64url(crypto.hmac_tag(used, secret("acme-hs256"), text.encode()))
        yield forged(f"confused-{used.lower()}-as-hs256", f"{used} under the name HS256", f"{text}.{tag}")


def bad_identity() -> Iterator[Case]:
    def bad(name: str, fault: str, **changes: Any) -> Case:
        return forged(name, fault, token(claims(**changes)))

    types: list[tuple[str, Any]] = [("null", None), ("number", 1), ("object", {}), ("true", True)]
    iss = "https://hs256.acme.example"
    for name, value in [*types, ("list", [iss])]:
        yield bad(f"iss-of-type-{name}", "iss is no string", iss=value)
    for name, value in [
        ("absent", DROP),
        ("empty", ""),
        ("unknown", "https://evil.example"),
        ("trailing-slash", iss + "/"),
        ("in-capitals", iss.upper()),
        ("http", iss.replace("https", "http")),
        ("leading-space", " " + iss),
        ("longer", iss + ".evil.example"),
        ("of-other-key", "https://hs384.acme.example"),
        ("of-other-tenant", "https://hs256.borealis.example"),
    ]:
        yield bad(f"iss-{name}", "iss names no configured pair", iss=value)
    for name, value in types:
        yield bad(f"aud-of-type-{name}", "aud is no string or list", aud=value)
    for name, value in [
        ("absent", DROP),
        ("empty", ""),
        ("other", "billing"),
        ("in-capitals", "ACME-DOWNLOADS"),
        ("trailing-space", "acme-downloads "),
        ("of-other-tenant", "borealis-downloads"),
        ("prefix", "acme"),
        ("comma-list", "acme-downloads,billing"),
        ("star", "*"),
        ("list-empty", []),
        ("list-of-others", ["billing", "mail"]),
        ("list-with-number", ["acme-downloads", 1]),
        ("list-with-null", [None, "acme-downloads"]),
        ("list-nested", [["acme-downloads"]]),
        ("list-of-9", ["acme-downloads", *"abcdefgh"]),
    ]:
        yield bad(f"aud-{name}", "aud names no configured pair", aud=value)
    both = claims(iss=SHARED_ISSUER, aud=["acme-downloads", "borealis-downloads"])
    text = signed("ES256", "shared-es256", both, header("ES256", "shared-es256"))
    yield forged("aud-of-two-tenants", "two configured pairs", text)
    body = claims(iss="https://hs256.borealis.example", aud="borealis-downloads")
    yield forged("key-of-other-tenant", "acme's key under borealis' issuer", token(body, header(kid="borealis-hs256")))
    text = signed("HS256", "borealis-hs256", claims(), header())
    yield forged("key-of-other-tenant-reversed", "borealis' key under acme's issuer", text)
    body = claims(iss=SHARED_ISSUER, aud="borealis-downloads")
    text = signed("ES256", "acme-es256", body, header("ES256", "acme-es256"))
    yield forged("key-of-tenant-under-shared-issuer", "acme's own key under the shared issuer", text)


def bad_claims() -> Iterator[Case]:
    def bad(name: str, fault: str, body: Object | str, url: str | None = None) -> Case:
        return Case(name, "rightly signed", fault, ask(token(body), url), FORGED)

    types: list[tuple[str, Any]] = [("null", None), ("object", {}), ("list", ["x"]), ("true", True)]
    yield bad("exp-absent", "no exp", claims(exp=DROP))
    for claim in ("exp", "nbf", "iat"):
        good = EXP if claim == "exp" else NOW - 60
        for name, value in [
            *types,
            ("string", str(good)),
            ("negative", -1),
            ("13-digits", good * 1000),
            ("2-64", 2**64 + good),
        ]:
            yield bad(f"{claim}-{name}", f"{claim} is no integer of 0 to 12 nines", claims(**{claim: value}))
        for name, written in [
            ("decimal", f"{good}.0"),
            ("fraction", f"{good}.5"),
            ("exponent", "1e9"),
            ("minus-zero", "-0"),
            ("huge", "1" * 400),
        ]:
            body = as_json(changed(claims(), {claim: 7777})).replace("7777", written)
            yield bad(f"{claim}-{name}", f"{claim} is no integer of 0 to 12 nines", body)
    for claim in ("filename", "disposition", "ip", "jti", "url"):
        for name, value in [*types, ("number", 1), ("empty", "")]:
            yield bad(f"{claim}-{name}", f"{claim} is not as a link's", claims(**{claim: value}))
    for claim, name, text in [
        ("filename", "slash", "a/b"),
        ("filename", "dot-dot", ".."),
        ("filename", "newline", "a\nb"),
        ("filename", "bidi", "a\u202egpj.exe"),
        ("filename", "256-bytes", "a" * 256),
        ("disposition", "in-capitals", "INLINE"),
        ("disposition", "other", "form-data"),
        ("ip", "two-addresses", "203.0.113.7,192.0.2.1"),
        ("ip", "host-bits", "203.0.113.7/24"),
        ("ip", "mapped", f"::ffff:{CLIENT}"),
        ("jti", "65-characters", "a" * 65),
        ("jti", "slash", "a/b"),
        ("url", "relative", "/a"),
        ("url", "ftp", "ftp://files.example/a"),
        ("url", "userinfo", "https://user@files.example/"),
        ("url", "fragment", URL + "#a"),
        ("url", "space", URL + " "),
        ("url", "integer-host", "http://2130706433/"),
        ("url", "star", "*"),
        ("url", "newline", URL + "\n"),
        ("url", "inner-tab", URL.replace("reports", "re\tports")),
        ("url", "c1-control", URL + "\u0085"),
        ("url", "4097-bytes", URL.ljust(4097, "a")),
    ]:
        yield bad(f"{claim}-{name}", f"{claim} is not as a link's", claims(**{claim: text}))
    yield bad("scope-url-and-urls", "two scopes", claims(urls=[URL]), URL)
    yield bad("scope-url-and-urls-null", "two scopes", claims(urls=None), URL)
    for name, value in [
        *types[:2],
        *types[3:],
        ("string", "*"),
        ("number", 1),
        ("empty", []),
        ("65", ["*"] * 65),
        ("with-number", ["*", 1]),
        ("nested", [["*"]]),
    ]:
        yield bad(f"urls-{name}", "urls is not 1 to 64 strings", claims(url=DROP, urls=value), URL)
    for name, pattern in [
        ("empty", ""),
        ("space-star", " *"),
        ("two-stars", "**"),
        ("star-host", "https://*"),
        ("star-host-slash", "https://*/"),
        ("star-host-path", "https://*/*"),
        ("star-label", "https://*.example/*"),
        ("star-scheme", "*://files.example/*"),
        ("star-port", "https://files.example:*/*"),
        ("star-suffix", "https://files.example/*.pdf"),
        ("star-in-segment", "https://files.example/reports*"),
        ("star-after-host", "https://files.example*"),
        ("star-in-middle", "https://files.example/*/2026.pdf"),
        ("star-twice", "https://files.example/*/*"),
        ("star-double", "https://files.example/**"),
        ("query", URL + "?a=b"),
        ("query-star", URL + "?*"),
        ("query-before-star", "https://files.example/?a/*"),
        ("empty-query", URL + "?"),
        ("newline", URL + "\n"),
        ("tab-before-star", "https://files.example/\t*"),
        ("fragment", URL + "#a"),
        ("no-scheme", "files.example/*"),
        ("ftp", "ftp://files.example/*"),
        ("relative", "/reports/*"),
        ("userinfo", "https://user@files.example/*"),
        ("escape-in-host", "https://files%2Eexample/*"),
        ("trailing-dot", "https://files.example./*"),
        ("no-host", "https:///*"),
        ("port-zero", "https://files.example:0/*"),
        ("short-ipv4", "http://127.1/*"),
    ]:
        yield bad(f"pattern-{name}", "a malformed pattern", claims(url=DROP, urls=[pattern]), URL)
    yield bad(
        "pattern-bad-after-good",
        "one malformed pattern among good ones",
        claims(url=DROP, urls=[URL, "https://*"]),
        URL,
    )
