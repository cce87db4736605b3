"""Well-formed links that are refused while verifying them."""

import base64
import hashlib
import hmac
from collections.abc import Iterator

from cases.links import (
    CLIENT,
    EXP,
    FORGED,
    Case,
    Values,
    altered,
    link,
    query,
    refuse,
)
from cases.mint import ALL, URL
from encoding import base64url, percent_encode
from keyring import NOW, secret
from links import PREFIX, sign, string_to_sign, write_query


def bad_keys() -> Iterator[Case]:
    def bad(name: str, comment: str, kid: str, now: int = NOW) -> Case:
        return Case(f"key-{name}", comment, f"the key is {comment}", query(kid=kid), FORGED, now)

    yield bad("unknown", "configured nowhere", "nobody")
    yield bad("unknown-suffix", "a configured id with more behind it", "acme-active-2")
    yield bad("unknown-prefix", "the start of a configured id", "acme")
    yield bad("a-tenant", "a tenant's name, not a key's", "borealis")
    yield bad("of-an-issuer", "an issuer's, which signs tokens only", "acme-hs256")
    yield bad("dunder-proto", "constructor, a name that objects have anyway", "constructor")
    yield bad("retired", "retired", "acme-retired")
    yield bad("not-yet", "not yet valid", "acme-not-yet")
    yield bad("lapsed", "no longer valid", "acme-lapsed")
    yield bad("just-before-its-window", "one second from valid", "acme-windowed", NOW - 1001)
    yield bad("at-not-after", "no longer valid from this second on", "acme-windowed", NOW + 1000)


def forged_tags() -> Iterator[Case]:
    values = link(filename="a b.pdf")
    text = string_to_sign(values).encode()
    key = secret("acme-active").encode()

    def tag(digest: bytes) -> str:
        return base64url(digest)

    def mac(secret_key: bytes, message: bytes) -> str:
        return tag(hmac.digest(secret_key, message, "sha256"))

    lines = text.decode().splitlines(keepends=True)
    encoded = "".join(f"{name}={percent_encode(values[name])}\n" for name in sorted(values) if name != "sig")
    right = base64.urlsafe_b64decode(values["sig"] + "=")
    for name, forged, fault in [
        ("all-zero", tag(bytes(32)), "32 zero bytes"),
        ("all-ones", tag(b"\xff" * 32), "32 bytes of ones"),
        ("first-bit-flipped", tag(bytes([right[0] ^ 0x80]) + right[1:]), "the first bit is wrong"),
        ("last-bit-flipped", tag(right[:-1] + bytes([right[-1] ^ 1])), "the last bit is wrong"),
        ("first-half-right", tag(right[:16] + bytes(16)), "the second half is wrong"),
        ("case-swapped", values["sig"][:-1].swapcase() + values["sig"][-1], "the letters' case is swapped"),
        ("hash-of-key-and-message", tag(hashlib.sha256(key + text).digest()), "SHA-256(key, message)"),
        ("hash-of-message-and-key", tag(hashlib.sha256(text + key).digest()), "SHA-256(message, key)"),
        ("hash-without-key", tag(hashlib.sha256(text).digest()), "SHA-256(message)"),
        ("empty-key", mac(b"", text), "HMAC with the empty key"),
        ("zero-key", mac(bytes(32), text), "HMAC with a key of zeros (the empty key, padded)"),
        ("key-id-as-key", mac(b"acme-active", text), "HMAC with the key id as the key"),
        ("key-decoded", mac(base64.urlsafe_b64decode(key[5:] + b"="), text), "HMAC with the secret's decoded bytes"),
        ("key-without-prefix", mac(key[5:], text), "HMAC with the secret without sgk1_"),
        ("key-with-newline", mac(key + b"\n", text), "HMAC with the secret and a newline"),
        ("key-hashed", mac(hashlib.sha256(key).digest(), text), "HMAC with the secret's hash"),
        ("key-in-capitals", mac(key.upper(), text), "HMAC with the secret in capitals"),
        ("key-and-message-swapped", mac(text, key), "HMAC with key and message swapped"),
        ("sha512-truncated", tag(hmac.digest(key, text, "sha512")[:32]), "HMAC-SHA-512, first 32 bytes"),
        ("sha384-truncated", tag(hmac.digest(key, text, "sha384")[:32]), "HMAC-SHA-384, first 32 bytes"),
        ("sha512-256", tag(hmac.digest(key, text, "sha512_256")), "HMAC-SHA-512/256"),
        ("sha3-256", tag(hmac.digest(key, text, "sha3_256")), "HMAC-SHA3-256"),
        ("sha1-padded", tag(hmac.digest(key, text, "sha1") + bytes(12)), "HMAC-SHA-1, padded"),
        ("twice-hashed", tag(hashlib.sha256(right).digest()), "SHA-256 of the right tag"),
        ("reversed", tag(right[::-1]), "the right tag, last byte first"),
        ("key-of-same-tenant", mac(secret("acme-second").encode(), text), "another key of the tenant"),
        ("key-of-other-tenant", mac(secret("borealis-active").encode(), text), "another tenant's key"),
        ("key-retired", mac(secret("acme-retired").encode(), text), "the tenant's retired key"),
        ("text-without-last-newline", mac(key, text[:-1]), "no newline after the last line"),
        ("text-with-extra-newline", mac(key, text + b"\n"), "an empty line at the end"),
        ("text-with-crlf", mac(key, text.replace(b"\n", b"\r\n")), "lines end in CR LF"),
        ("text-without-version", mac(key, text[len(PREFIX) :]), "no version line"),
        ("text-of-version-2", mac(key, text.replace(b"-v1", b"-v2")), "another version line"),
        ("text-unsorted", mac(key, "".join([lines[0], *reversed(lines[1:])]).encode()), "lines in another order"),
        ("text-joined-by-ampersand", mac(key, "&".join(line.rstrip() for line in lines[1:]).encode()), "joined by &"),
        ("text-without-names", mac(key, "".join(line.partition("=")[2] for line in lines[1:]).encode()), "values only"),
        ("text-of-encoded-values", mac(key, (PREFIX + encoded).encode()), "values signed percent-encoded"),
        ("text-in-utf-16", mac(key, text.decode().encode("utf-16-le")), "UTF-16"),
        ("text-empty", mac(key, b""), "nothing signed"),
        ("text-url-only", mac(key, values["url"].encode()), "only the url signed"),
        ("text-with-empty-values", mac(key, (text.decode() + "id=\n").encode()), "an absent id signed as empty"),
    ]:
        yield Case(f"forged-{name}", "a tag of the right form", fault, write_query(altered(values, sig=forged)), FORGED)
    everything = write_query(altered(link(ALL), sig=link()["sig"]))
    yield Case("forged-of-another-link", "a tag of the right form", "the tag of the plain link", everything, FORGED)
    unknown = sign(secret("acme-active"), string_to_sign({**altered(link(), sig=None), "utm_source": "mail"}))
    raw = write_query(altered(link(), sig=unknown)) + "&utm_source=mail"
    yield Case("forged-text-with-unknown-name", "a tag of the right form", "an unknown name signed", raw, FORGED)


def altered_values() -> Iterator[Case]:
    def bad(name: str, fault: str, before: Values, **changes: str | None) -> Case:
        comment = "signed, then changed into another well-formed link"
        return Case(f"altered-{name}", comment, fault, write_query(altered(before, **changes)), FORGED)

    whole = link(ALL)
    yield bad("url-other-file", "another file", link(), url="https://files.example/reports/2025.pdf")
    yield bad("url-other-host", "another host", link(), url=URL.replace("files.example", "evil.example"))
    yield bad("url-prefix-kept", "a longer path", link(), url=URL + "/more")
    yield bad("url-query-added", "a query added", link(), url=URL + "?a=b")
    yield bad("url-host-case", "equal after parsing, not as text", link(), url=URL.replace("files", "FILES"))
    yield bad(
        "url-default-port", "equal after parsing, not as text", link(), url=URL.replace(".example", ".example:443")
    )
    yield bad("url-dot-segment", "equal after parsing, not as text", link(), url=URL.replace("/reports", "/./reports"))
    yield bad("url-path-escaped", "equal to most servers, not as text", link(), url=URL.replace("r", "%72"))
    yield bad("url-escape-case", "%2f became %2F", link(url=URL + "%2f"), url=URL + "%2F")
    yield bad("url-decoded-twice", "%25 became %", link(url=URL + "%2541"), url=URL + "%41")
    yield bad("url-scheme", "https became http", link(), url=URL.replace("https", "http"))
    yield bad("kid-same-tenant", "another key of the tenant named", link(), kid="acme-second")
    yield bad("kid-other-tenant", "another tenant's key named", link(), kid="borealis-active")
    yield bad("exp-later", "one second longer", link(), exp=str(EXP + 1))
    yield bad("exp-digit-added", "a digit added", link(), exp=f"{EXP}0")
    yield bad("nbf-added", "nbf added", link(), nbf="0")
    yield bad("nbf-dropped", "nbf dropped", whole, nbf=None)
    yield bad("nbf-earlier", "nbf changed", whole, nbf=str(NOW - 61))
    yield bad("filename-added", "filename added", link(), filename="a.exe")
    yield bad("filename-dropped", "filename dropped", whole, filename=None)
    yield bad("filename-changed", "filename changed", whole, filename="Annual report 2026.exe")
    yield bad("filename-normalised", "NFD became NFC", link(filename="cafe\u0301.pdf"), filename="caf\u00e9.pdf")
    yield bad("filename-plus-to-space", "+ became a space", link(filename="a+b"), filename="a b")
    yield bad("filename-trimmed", "a trailing space dropped", link(filename="a.pdf "), filename="a.pdf")
    yield bad("disposition-added", "even the default, written out, is signed", link(), disposition="attachment")
    yield bad("disposition-dropped", "even the default is signed", link(disposition="attachment"), disposition=None)
    yield bad("disposition-changed", "attachment became inline", link(disposition="attachment"), disposition="inline")
    yield bad("id-added", "id added", link(), id="a")
    yield bad("id-dropped", "a revocable link made irrevocable", whole, id=None)
    yield bad("id-changed", "id changed", whole, id="order-4712_A.b")
    yield bad("ip-added", "ip added", link(), ip=CLIENT)
    yield bad("ip-dropped", "ip dropped", whole, ip=None)
    yield bad("ip-widened", "ip widened", whole, ip="203.0.0.0/16")
    yield bad("ip-spelling", "the same network in other digits", link(ip="2001:db8::/32"), ip="2001:DB8::/32")
    yield bad(
        "moved-between-exp-and-url",
        "a digit moved to the next line's value",
        link(url=URL + "6"),
        url=URL,
        exp=f"{EXP}6",
    )
    yield bad(
        "moved-from-filename-to-id", "text moved between values", link(filename="ab", id="c"), filename="a", id="bc"
    )
    yield bad("moved-from-id-to-filename", "a value under another name", link(id="a"), id=None, filename="a")
    yield bad("moved-from-nbf-to-exp", "times swapped", link(nbf=str(NOW - 9)), nbf=str(EXP), exp=str(NOW - 9))
    yield bad("moved-line-into-url", "a line's text moved into a value", link(nbf="1"), nbf=None, url=f"{URL}nbf=1")


def late() -> Iterator[Case]:
    def bad(name: str, code: str, fault: str, client: str = CLIENT, now: int = NOW, **changes: str) -> Case:
        comment = "the signature is right"
        return Case(name, comment, fault, query(**changes), refuse(code), now, client)

    yield bad("expired-at-exp", "link_expired", "now = exp", exp=str(NOW))
    yield bad("expired-a-second-ago", "link_expired", "now = exp + 1", exp=str(NOW - 1))
    yield bad("expired-at-zero", "link_expired", "exp = 0", exp="0")
    yield bad("expired-in-milliseconds-of-now", "link_expired", "now is far past exp", now=NOW * 1000)
    yield bad("not-yet-one-second", "link_not_yet_valid", "now = nbf - 1", nbf=str(NOW + 1))
    yield bad("not-yet-for-long", "link_not_yet_valid", "nbf is years away", nbf="9" * 12)
    outside = "the client is outside"
    yield bad("client-other-v4", "client_not_allowed", outside, client="203.0.113.8", ip=CLIENT)
    yield bad("client-below-network", "client_not_allowed", outside, client="203.0.112.255", ip="203.0.113.0/24")
    yield bad("client-above-network", "client_not_allowed", outside, client="203.0.114.0", ip="203.0.113.0/24")
    yield bad("client-other-v6", "client_not_allowed", outside, client="2001:db8::8", ip="2001:db8::7")
    yield bad("client-v6-for-v4", "client_not_allowed", outside, client="2001:db8::7", ip="0.0.0.0/0")
    yield bad("client-v4-for-v6", "client_not_allowed", outside, ip="::/0")
    yield bad("client-mapped-for-v6", "client_not_allowed", outside, client=f"::ffff:{CLIENT}", ip="::/0")
    yield bad("client-mapped-outside", "client_not_allowed", outside, client="::ffff:203.0.113.8", ip=CLIENT)
    yield bad("client-compatible-is-v6", "client_not_allowed", outside, client=f"::{CLIENT}", ip=CLIENT)


def order() -> Iterator[Case]:
    """Two faults each, on purpose: which one is reported is part of the specification."""

    def both(name: str, fault: str, raw: str, code: str, client: str = CLIENT) -> Case:
        return Case(f"order-{name}", "two faults, to fix which one shows", fault, raw, refuse(code), NOW, client)

    past, zero = str(NOW - 1), base64url(bytes(32))
    yield both("malformed-before-signature", "malformed and forged", query(exp="01", sig=zero), "malformed_link")
    yield both("signature-before-expiry", "forged and expired", query(exp=past, sig=zero), "invalid_signature")
    yield both("key-before-expiry", "unknown key and expired", query(kid="nobody", exp=past), "invalid_signature")
    yield both(
        "retired-before-expiry", "retired key and expired", query(kid="acme-retired", exp=past), "invalid_signature"
    )
    yield both("expiry-before-nbf", "expired and not yet valid", query(exp=past, nbf=str(NOW + 1)), "link_expired")
    yield both("expiry-before-client", "expired, from elsewhere", query(exp=past, ip="192.0.2.1"), "link_expired")
    early = query(nbf=str(NOW + 1), ip="192.0.2.1")
    yield both("nbf-before-client", "not yet valid, from elsewhere", early, "link_not_yet_valid")
    yield both("duplicate-before-missing", "url twice and no credential", "url=a&url=b", "malformed_link")
    yield both("decoding-before-missing", "a bad escape and no credential", "url=%zz", "malformed_link")
    yield both("missing-before-form", "a malformed url and no credential", "url=ftp://x", "missing_credential")
