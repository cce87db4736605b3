"""Tokens in order but for the signature itself."""

import base64
import hashlib
import hmac
from collections.abc import Iterator

import crypto
import keyring
from cases.tokens import (
    DROP,
    OTHER,
    Case,
    as_json,
    claims,
    forged,
    header,
    numbers,
    of_algorithm,
    signature,
    signing_input,
    token,
    with_signature,
)
from encoding import base64url
from keyring import PSS_SALT, secret


def bad_signatures() -> Iterator[Case]:
    def bad(name: str, fault: str, text: str) -> Case:
        return forged(f"sig-{name}", fault, text, "not what the key's holder signed")

    text = token()
    message, right = signing_input(text), signature(text)
    key = secret("acme-hs256").encode()
    head, body, tag = text.split(".")
    yield bad(
        "claims-altered", "url changed after signing", f"{head}.{base64url(as_json(claims(url=OTHER)).encode())}.{tag}"
    )
    yield bad(
        "claims-respelled",
        "white space added after signing",
        f"{head}.{base64url((as_json(claims()) + ' ').encode())}.{tag}",
    )
    yield bad(
        "header-altered", "typ dropped after signing", f"{base64url(as_json(header(typ=DROP)).encode())}.{body}.{tag}"
    )
    for name, fault, forgery in [
        ("zero", "32 zero bytes", bytes(32)),
        ("one-byte", "one byte", b"\0"),
        ("half", "the first 16 bytes", right[:16]),
        ("31-bytes", "one byte short", right[:-1]),
        ("33-bytes", "one byte more", right + b"\0"),
        ("flipped", "a bit flipped", right[:-1] + bytes([right[-1] ^ 1])),
        ("hexadecimal", "hexadecimal", right.hex().encode()),
        ("empty-key", "HMAC with the empty key", hmac.digest(b"", message, "sha256")),
        ("hash", "SHA-256(key, message)", hashlib.sha256(key + message).digest()),
        ("sha512-truncated", "HMAC-SHA-512, first 32 bytes", hmac.digest(key, message, "sha512")[:32]),
        (
            "key-decoded",
            "the secret's decoded bytes as key",
            hmac.digest(base64.urlsafe_b64decode(key[5:] + b"="), message, "sha256"),
        ),
        ("claims-only", "only the claims signed", hmac.digest(key, body.encode(), "sha256")),
        (
            "decoded-parts",
            "the decoded parts signed",
            hmac.digest(key, f"{as_json(header())}.{as_json(claims())}".encode(), "sha256"),
        ),
        ("link-key", "a link key of the tenant", hmac.digest(secret("acme-active").encode(), message, "sha256")),
        (
            "other-issuer-key",
            "another issuer's key",
            hmac.digest(keyring.issuer_secret("HS384", "acme-hs384").encode(), message, "sha256"),
        ),
    ]:
        yield bad(f"hs256-{name}", fault, with_signature(text, forgery))
    for alg in ("HS384", "HS512"):
        other = of_algorithm(alg)
        material = keyring.issuer_secret(alg, f"acme-{alg.lower()}")
        tag256 = crypto.hmac_tag("HS256", material, signing_input(other))
        yield bad(f"{alg.lower()}-truncated", "the first 32 bytes", with_signature(other, signature(other)[:32]))
        yield bad(f"{alg.lower()}-of-hs256", "HMAC-SHA-256 with its key", with_signature(other, tag256))
    link_text = f"sluicegate-link-v1\n{message.decode()}".encode()
    yield bad("hs256-link-prefix", "signed as a link is", with_signature(text, hmac.digest(key, link_text, "sha256")))


def bad_rsa() -> Iterator[Case]:
    def bad(name: str, fault: str, text: str, tag: bytes) -> Case:
        return forged(f"sig-{name}", fault, with_signature(text, tag), "not what the key's holder signed")

    text, key = of_algorithm("RS256"), crypto.rsa_key("acme-rs256")
    message, n = signing_input(text), key.public.n
    digest = hashlib.sha256(message).digest()
    info = crypto.pkcs1_encode(message, 256)[-51:]
    right = signature(text)
    sha1 = bytes.fromhex("3021300906052b0e03021a05000414") + hashlib.sha1(message).digest()
    sha512 = bytes.fromhex("3051300d060960864801650304020305000440") + hashlib.sha512(message).digest()
    without_null = bytes.fromhex("302f300b0609608648016503040201" + "0420") + digest

    def padded(content: bytes, kind: bytes = b"\x01") -> bytes:
        return b"\x00" + kind + b"\xff" * (253 - len(content)) + b"\x00" + content

    for name, fault, encoded in [
        ("sha1", "PKCS #1 with SHA-1", padded(sha1)),
        ("sha512", "PKCS #1 with SHA-512", padded(sha512)),
        ("bare-digest", "no DigestInfo", padded(digest)),
        ("without-null", "a DigestInfo without NULL", padded(without_null)),
        ("block-type-2", "encryption padding", padded(info, b"\x02")),
        (
            "short-padding",
            "eight bytes of padding, and the rest behind the digest",
            (b"\x00\x01" + b"\xff" * 8 + b"\x00" + info).ljust(256, b"\x00"),
        ),
        ("padding-byte", "a padding byte that is not FF", b"\x00\x01\xff\xfe" + padded(info)[4:]),
        ("padding-first-byte", "the first byte is not 0", b"\x01" + padded(info)[1:]),
    ]:
        tag = key.close(encoded) if int.from_bytes(encoded, "big") < n else key.close(bytes(256))
        yield bad(f"rs256-{name}", fault, text, tag)
    for name, fault, tag in [
        ("zero", "zero", bytes(256)),
        ("one", "one", bytes(255) + b"\x01"),
        ("n", "the modulus", n.to_bytes(256, "big")),
        ("n-minus-1", "the modulus less one", (n - 1).to_bytes(256, "big")),
        ("257-bytes", "a zero byte in front", b"\0" + right),
        ("255-bytes", "the last byte missing", right[:-1]),
        ("negated", "the modulus less the signature", (n - int.from_bytes(right, "big")).to_bytes(256, "big")),
        ("little-endian", "least byte first", right[::-1]),
        ("plain", "the encoded message, not signed", crypto.pkcs1_encode(message, 256)),
        ("other-key", "another RSA key", crypto.rs256_sign(crypto.rsa_key("acme-ps256"), message)),
    ]:
        yield bad(f"rs256-{name}", fault, text, tag)
    small = next(
        t
        for t in (of_algorithm("RS256", jti=f"j{i}") for i in range(99))
        if int.from_bytes(signature(t), "big") + n < 2**2048
    )
    overflow = (int.from_bytes(signature(small), "big") + n).to_bytes(256, "big")
    yield bad("rs256-plus-n", "the signature plus the modulus", small, overflow)
    text, key = of_algorithm("PS256"), crypto.rsa_key("acme-ps256")
    message = signing_input(text)
    for size in (0, 20, 31, 33, 64):
        salt = (PSS_SALT * 2)[:size]
        yield bad(
            f"ps256-salt-of-{size}", f"a salt of {size} bytes, not 32", text, crypto.ps256_sign(key, message, salt)
        )
    encoded = crypto.pss_encode(message, PSS_SALT, 256)
    yield bad("ps256-trailer", "the last byte is not BC", text, key.close(encoded[:-1] + b"\xcc"))
    yield bad(
        "ps256-digest",
        "a bit of the digest flipped",
        text,
        key.close(encoded[:-2] + bytes([encoded[-2] ^ 1]) + b"\xbc"),
    )
    yield bad("ps256-zero", "zero", text, bytes(256))
    yield bad("ps256-257-bytes", "a zero byte in front", text, b"\0" + signature(text))
    yield bad(
        "ps256-other-key", "another RSA key", text, crypto.ps256_sign(crypto.rsa_key("acme-rs256"), message, PSS_SALT)
    )


def bad_curves() -> Iterator[Case]:
    def bad(name: str, fault: str, text: str, tag: bytes) -> Case:
        return forged(f"sig-{name}", fault, with_signature(text, tag), "not what the key's holder signed")

    text, n, join = of_algorithm("ES256"), crypto.P256_N, crypto.es256_join
    message = signing_input(text)
    r, s = numbers(text)
    der = crypto.der(0x30, crypto.der_integer(r) + crypto.der_integer(s))
    for name, fault, tag in [
        ("r-zero", "r = 0", join(0, s)),
        ("s-zero", "s = 0", join(r, 0)),
        ("both-zero", "r = s = 0 (CVE-2022-21449)", join(0, 0)),
        ("r-n", "r = n", join(n, s)),
        ("s-n", "s = n", join(r, n)),
        ("both-n", "r = s = n", join(n, n)),
        ("both-one", "r = s = 1", join(1, 1)),
        ("r-negated", "n - r", join(n - r, s)),
        ("s-plus-1", "s + 1", join(r, s + 1)),
        ("swapped", "s before r", join(s, r)),
        ("r-largest", "r = 2^256 - 1", join(2**256 - 1, s)),
        ("der", "DER", der),
        ("63-bytes", "63 bytes", join(r, s)[:-1]),
        ("65-bytes", "65 bytes", join(r, s) + b"\0"),
        ("s-in-33-bytes", "a zero byte before s", join(r, s)[:32] + b"\0" + join(r, s)[32:]),
        ("66-bytes", "each number in 33 bytes", b"\0" + r.to_bytes(32, "big") + b"\0" + s.to_bytes(32, "big")),
        ("32-bytes", "r alone", join(r, s)[:32]),
        ("little-endian", "least byte first", join(r, s)[:32][::-1] + join(r, s)[32:][::-1]),
        (
            "hashed-twice",
            "the digest signed as a message",
            crypto.es256_sign(crypto.ec_key("acme-es256"), hashlib.sha256(message).digest()),
        ),
        ("other-key", "another P-256 key", crypto.es256_sign(crypto.ec_key("rotating-old"), message)),
        ("other-tenant", "another tenant's key", crypto.es256_sign(crypto.ec_key("borealis-es256"), message)),
    ]:
        yield bad(f"es256-{name}", fault, text, tag)
    text, key = of_algorithm("EdDSA"), crypto.ed_key("acme-eddsa")
    message, right = signing_input(text), signature(of_algorithm("EdDSA"))
    commitment, scalar = right[:32], int.from_bytes(right[32:], "little")
    identity = (1).to_bytes(32, "little")
    for name, fault, tag in [
        ("s-plus-l", "S + L", commitment + (scalar + crypto.ED_L).to_bytes(32, "little")),
        ("s-plus-2l", "S + 2L", commitment + (scalar + 2 * crypto.ED_L).to_bytes(32, "little")),
        ("s-high-bit", "the highest bit of S set", right[:-1] + bytes([right[-1] | 0x80])),
        ("s-zero", "S = 0", commitment + bytes(32)),
        ("zero", "64 zero bytes", bytes(64)),
        ("r-identity", "R the identity, S = 0", identity + bytes(32)),
        ("r-sign", "the sign of R flipped", commitment[:31] + bytes([commitment[31] ^ 0x80]) + right[32:]),
        ("63-bytes", "63 bytes", right[:-1]),
        ("65-bytes", "65 bytes", right + b"\0"),
        ("swapped", "S before R", right[32:] + commitment),
        ("prehashed", "the message's SHA-512 signed", crypto.eddsa_sign(key, hashlib.sha512(message).digest())),
        ("small-order-added", "R plus a point of order 2", crypto.eddsa_sign_off_by_torsion(key, message)),
        ("other-key", "another Ed25519 key", crypto.eddsa_sign(crypto.ed_key("rotating-new"), message)),
    ]:
        yield bad(f"eddsa-{name}", fault, text, tag)
