"""The signature algorithms, in plain Python, for test keys only: slow, and not constant in time.

Signing is deterministic throughout (PS256 takes its salt from the caller), so that vectors can be
compared byte for byte. Public keys travel as SubjectPublicKeyInfo PEM; private keys exist only in memory.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

HMAC_HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def hmac_tag(algorithm: str, secret: str | bytes, message: bytes) -> bytes:
    key = secret.encode("utf-8") if isinstance(secret, str) else secret
    return hmac.new(key, message, HMAC_HASHES[algorithm]).digest()


# --- DER and PEM ---------------------------------------------------------------------------------

_OID_RSA = bytes.fromhex("06092a864886f70d0101010500")  # rsaEncryption with NULL parameters
_OID_P256 = bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107")  # id-ecPublicKey, prime256v1
_OID_ED25519 = bytes.fromhex("06032b6570")


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def der_integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def der_read(data: bytes) -> tuple[bytes, bytes]:
    """The content of the first element, and what follows it."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    return data[start : start + size], data[start + size :]


def spki_pem(algorithm: bytes, key: bytes) -> str:
    body = base64.b64encode(der(0x30, der(0x30, algorithm) + der(0x03, b"\0" + key))).decode("ascii")
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def spki_read(pem: str) -> tuple[bytes, bytes]:
    """The algorithm identifier and the key bits of a public key in PEM."""
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    sequence, _ = der_read(base64.b64decode(body))
    algorithm, rest = der_read(sequence)
    bits, _ = der_read(rest)
    return algorithm, bits[1:]


def _stream(label: str) -> Iterator[bytes]:
    """Endless 128-byte blocks that depend on nothing but the label."""
    counter = 0
    while True:
        yield hashlib.shake_256(f"sluicegate test key\0{label}\0{counter}".encode()).digest(128)
        counter += 1


# --- RSA (RFC 8017) ------------------------------------------------------------------------------

_SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def _small_primes(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1))]


_SMALL_PRIMES = _small_primes(2000)


def _probably_prime(candidate: int) -> bool:
    """Miller-Rabin with the first 40 primes as bases."""
    if any(candidate % prime == 0 for prime in _SMALL_PRIMES):
        return False
    odd, twos = candidate - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in _SMALL_PRIMES[:40]:
        x = pow(base, odd, candidate)
        if x in (1, candidate - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % candidate
            if x == candidate - 1:
                break
        else:
            return False
    return True


def _prime(label: str, exponent: int) -> int:
    """The first 1024-bit prime of the label's stream whose two top bits are set."""
    for block in _stream(label):
        candidate = int.from_bytes(block, "big") | 3 << 1022 | 1
        if candidate % exponent != 1 and _probably_prime(candidate):
            return candidate
    raise AssertionError("the stream has no end")


@dataclass(frozen=True)
class RsaPublic:
    n: int
    e: int

    def pem(self) -> str:
        return spki_pem(_OID_RSA, der(0x30, der_integer(self.n) + der_integer(self.e)))

    def open(self, signature: bytes) -> bytes | None:
        """The encoded message under a signature of exactly the modulus' length."""
        size = (self.n.bit_length() + 7) // 8
        value = int.from_bytes(signature, "big")
        if len(signature) != size or value >= self.n:
            return None
        return pow(value, self.e, self.n).to_bytes(size, "big")


@dataclass(frozen=True)
class RsaPrivate:
    p: int
    q: int
    e: int = 65537

    @property
    def public(self) -> RsaPublic:
        return RsaPublic(self.p * self.q, self.e)

    def close(self, encoded: bytes) -> bytes:
        """The signature over an encoded message, through the Chinese remainder theorem."""
        value = int.from_bytes(encoded, "big")
        d_p, d_q = pow(self.e, -1, self.p - 1), pow(self.e, -1, self.q - 1)
        s_p, s_q = pow(value, d_p, self.p), pow(value, d_q, self.q)
        signature = s_q + self.q * ((s_p - s_q) * pow(self.q, -1, self.p) % self.p)
        return signature.to_bytes(len(encoded), "big")


@cache
def rsa_key(label: str) -> RsaPrivate:
    return RsaPrivate(_prime(f"{label}/p", 65537), _prime(f"{label}/q", 65537))


def pkcs1_encode(message: bytes, size: int) -> bytes:
    info = _SHA256_DIGEST_INFO + hashlib.sha256(message).digest()
    return b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info


def rs256_sign(key: RsaPrivate, message: bytes) -> bytes:
    return key.close(pkcs1_encode(message, 256))


def rs256_verify(key: RsaPublic, message: bytes, signature: bytes) -> bool:
    size = (key.n.bit_length() + 7) // 8
    return key.open(signature) == pkcs1_encode(message, size)


def _mgf1(seed: bytes, size: int) -> bytes:
    blocks = (hashlib.sha256(seed + at.to_bytes(4, "big")).digest() for at in range((size + 31) // 32))
    return b"".join(blocks)[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def pss_encode(message: bytes, salt: bytes, size: int) -> bytes:
    """EMSA-PSS with SHA-256 for a modulus of a whole number of octets."""
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    block = bytes(size - len(salt) - 32 - 2) + b"\x01" + salt
    masked = bytearray(_xor(block, _mgf1(digest, size - 33)))
    masked[0] &= 0x7F
    return bytes(masked) + digest + b"\xbc"


def ps256_sign(key: RsaPrivate, message: bytes, salt: bytes) -> bytes:
    return key.close(pss_encode(message, salt, 256))


def ps256_verify(key: RsaPublic, message: bytes, signature: bytes) -> bool:
    """RFC 7518 section 3.5: the salt has the length of the hash, so it can be read and the rest rebuilt."""
    encoded = key.open(signature)
    if encoded is None:
        return False
    block = bytearray(_xor(encoded[:-33], _mgf1(encoded[-33:-1], len(encoded) - 33)))
    return pss_encode(message, bytes(block[-32:]), len(encoded)) == encoded


# --- ECDSA on P-256 (FIPS 186-4, RFC 6979) ---------------------------------------------------------

P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_P256_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def _p256_add(left: Point, right: Point) -> Point:
    if left is None or right is None:
        return left or right
    if left[0] == right[0]:
        if (left[1] + right[1]) % P256_P == 0:
            return None
        slope = (3 * left[0] * left[0] - 3) * pow(2 * left[1], -1, P256_P)
    else:
        slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, P256_P)
    x = (slope * slope - left[0] - right[0]) % P256_P
    return x, (slope * (left[0] - x) - left[1]) % P256_P


def _p256_multiply(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = _p256_add(total, point)
        point, scalar = _p256_add(point, point), scalar >> 1
    return total


def _p256_public(point: Point) -> tuple[int, int]:
    if point is None:
        raise ValueError("the point at infinity is no key")
    return point


@dataclass(frozen=True)
class EcPublic:
    x: int
    y: int

    def __post_init__(self) -> None:
        if (self.y**2 - self.x**3 + 3 * self.x - _P256_B) % P256_P:
            raise ValueError("the point is not on the curve")

    def pem(self) -> str:
        return spki_pem(_OID_P256, b"\x04" + self.x.to_bytes(32, "big") + self.y.to_bytes(32, "big"))


@dataclass(frozen=True)
class EcPrivate:
    d: int

    @property
    def public(self) -> EcPublic:
        return EcPublic(*_p256_public(_p256_multiply(self.d, _P256_G)))


@cache
def ec_key(label: str) -> EcPrivate:
    return EcPrivate(int.from_bytes(next(_stream(label)), "big") % (P256_N - 1) + 1)


def _rfc6979_nonces(key: EcPrivate, digest: bytes) -> Iterator[int]:
    reduced = (int.from_bytes(digest, "big") % P256_N).to_bytes(32, "big")
    seed = key.d.to_bytes(32, "big") + reduced
    v, k = b"\x01" * 32, bytes(32)
    for separator in (b"\x00", b"\x01"):
        k = hmac_tag("HS256", k, v + separator + seed)
        v = hmac_tag("HS256", k, v)
    while True:
        v = hmac_tag("HS256", k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < P256_N:
            yield nonce
        k = hmac_tag("HS256", k, v + b"\x00")
        v = hmac_tag("HS256", k, v)


def ecdsa_numbers(key: EcPrivate, message: bytes) -> tuple[int, int]:
    digest = hashlib.sha256(message).digest()
    for nonce in _rfc6979_nonces(key, digest):
        r = _p256_public(_p256_multiply(nonce, _P256_G))[0] % P256_N
        s = pow(nonce, -1, P256_N) * (int.from_bytes(digest, "big") + r * key.d) % P256_N
        if r and s:
            return r, s
    raise AssertionError("the nonces have no end")


def es256_join(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def es256_sign(key: EcPrivate, message: bytes) -> bytes:
    return es256_join(*ecdsa_numbers(key, message))


def es256_verify(key: EcPublic, message: bytes, signature: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not 0 < r < P256_N or not 0 < s < P256_N:
        return False
    inverse = pow(s, -1, P256_N)
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    point = _p256_add(
        _p256_multiply(digest * inverse % P256_N, _P256_G),
        _p256_multiply(r * inverse % P256_N, (key.x, key.y)),
    )
    return point is not None and point[0] % P256_N == r


# --- Ed25519 (RFC 8032) ----------------------------------------------------------------------------

ED_P = 2**255 - 19
ED_L = 2**252 + 27742317777372353535851937790883648493
_ED_D = -121665 * pow(121666, -1, ED_P) % ED_P
_ED_ROOT = pow(2, (ED_P - 1) // 4, ED_P)
Extended = tuple[int, int, int, int]
_ED_IDENTITY: Extended = (0, 1, 1, 0)
_ED_ORDER_2: Extended = (0, ED_P - 1, 1, 0)


def _ed_add(left: Extended, right: Extended) -> Extended:
    a = (left[1] - left[0]) * (right[1] - right[0]) % ED_P
    b = (left[1] + left[0]) * (right[1] + right[0]) % ED_P
    c = 2 * left[3] * right[3] * _ED_D % ED_P
    d = 2 * left[2] * right[2] % ED_P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % ED_P, g * h % ED_P, f * g % ED_P, e * h % ED_P


def _ed_multiply(scalar: int, point: Extended) -> Extended:
    total = _ED_IDENTITY
    while scalar:
        if scalar & 1:
            total = _ed_add(total, point)
        point, scalar = _ed_add(point, point), scalar >> 1
    return total


def _ed_encode(point: Extended) -> bytes:
    inverse = pow(point[2], -1, ED_P)
    x, y = point[0] * inverse % ED_P, point[1] * inverse % ED_P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _ed_decode(data: bytes) -> Extended | None:
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if y >= ED_P:
        return None
    square = (y * y - 1) * pow(_ED_D * y * y + 1, -1, ED_P) % ED_P
    x = pow(square, (ED_P + 3) // 8, ED_P)
    if (x * x - square) % ED_P:
        x = x * _ED_ROOT % ED_P
    if (x * x - square) % ED_P or (x == 0 and sign):
        return None
    x = ED_P - x if x & 1 != sign else x
    return x, y, 1, x * y % ED_P


def _ed_base() -> Extended:
    point = _ed_decode((4 * pow(5, -1, ED_P) % ED_P).to_bytes(32, "little"))
    assert point is not None
    return point


_ED_B = _ed_base()


def _ed_hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ED_L


@dataclass(frozen=True)
class EdPublic:
    key: bytes

    def pem(self) -> str:
        return spki_pem(_OID_ED25519, self.key)


@dataclass(frozen=True)
class EdPrivate:
    seed: bytes

    def expand(self) -> tuple[int, bytes]:
        digest = hashlib.sha512(self.seed).digest()
        scalar = int.from_bytes(digest[:32], "little")
        return scalar & ((1 << 254) - 8) | 1 << 254, digest[32:]

    @property
    def public(self) -> EdPublic:
        return EdPublic(_ed_encode(_ed_multiply(self.expand()[0], _ED_B)))


@cache
def ed_key(label: str) -> EdPrivate:
    return EdPrivate(next(_stream(label))[:32])


def eddsa_sign(key: EdPrivate, message: bytes, torsion: Extended = _ED_IDENTITY) -> bytes:
    scalar, prefix = key.expand()
    nonce = _ed_hash(prefix, message)
    commitment = _ed_encode(_ed_add(_ed_multiply(nonce, _ED_B), torsion))
    challenge = _ed_hash(commitment, key.public.key, message)
    return commitment + ((nonce + challenge * scalar) % ED_L).to_bytes(32, "little")


def eddsa_sign_off_by_torsion(key: EdPrivate, message: bytes) -> bytes:
    """A signature that only a verifier which multiplies by the cofactor would accept."""
    return eddsa_sign(key, message, _ED_ORDER_2)


def eddsa_verify(key: EdPublic, message: bytes, signature: bytes) -> bool:
    """Without a cofactor, and with 0 <= S < L: one message and key, one signature."""
    point = _ed_decode(key.key)
    if len(signature) != 64 or point is None:
        return False
    commitment, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= ED_L:
        return False
    challenge = _ed_hash(commitment, key.key, message)
    minus = (ED_P - point[0], point[1], 1, ED_P - point[3])
    return _ed_encode(_ed_add(_ed_multiply(s, _ED_B), _ed_multiply(challenge, minus))) == commitment


# --- by name ---------------------------------------------------------------------------------------


def verify(algorithm: str, material: str, message: bytes, signature: bytes) -> bool:
    """Check a signature; `material` is the secret's text or the public key's PEM, as in keys.json."""
    if algorithm in HMAC_HASHES:
        return hmac.compare_digest(hmac_tag(algorithm, material, message), signature)
    identifier, key = spki_read(material)
    if algorithm in ("RS256", "PS256") and identifier == _OID_RSA:
        modulus, rest = der_read(der_read(key)[0])
        public = RsaPublic(int.from_bytes(modulus, "big"), int.from_bytes(der_read(rest)[0], "big"))
        check = rs256_verify if algorithm == "RS256" else ps256_verify
        return check(public, message, signature)
    if algorithm == "ES256" and identifier == _OID_P256:
        point = EcPublic(int.from_bytes(key[1:33], "big"), int.from_bytes(key[33:], "big"))
        return es256_verify(point, message, signature)
    if algorithm == "EdDSA" and identifier == _OID_ED25519:
        return eddsa_verify(EdPublic(key), message, signature)
    return False
