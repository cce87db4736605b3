"""Verifies SigV4A signatures from the secret alone, as AWS describes them
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html): nothing of it is asked of a
library that signs.
"""

import datetime
import hashlib
import hmac
import re
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

SERVICE = "cloudfront-keyvaluestore"
ALGORITHM = "AWS4-ECDSA-P256-SHA256"
# FIPS 186, P-256.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SKEW = datetime.timedelta(minutes=5)


class Refused(Exception):
    """An error of the service: status, kind, message."""


def public_key(key_id, secret):
    """The key pair that a secret stands for: a KDF in counter mode (NIST SP 800-108) with HMAC-SHA256."""
    for counter in range(1, 255):
        context = key_id.encode() + bytes([counter])
        fixed = ALGORITHM.encode() + b"\x00" + context + (256).to_bytes(4, "big")
        digest = hmac.digest(b"AWS4A" + secret.encode(), (1).to_bytes(4, "big") + fixed, "sha256")
        candidate = int.from_bytes(digest, "big")
        if candidate <= ORDER - 2:
            return ec.derive_private_key(candidate + 1, ec.SECP256R1()).public_key()
    raise AssertionError("no key")


def encode(text):
    return urllib.parse.quote(text, safe="-_.~")


def canonical(method, target, headers, signed, body):
    """The canonical request; the path as it came is encoded once more, which every service but S3 wants."""
    path, _, query = target.partition("?")
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    pairs = sorted((encode(urllib.parse.unquote(k)), encode(urllib.parse.unquote(v))) for k, _, v in pairs)
    return "\n".join(
        [
            method,
            urllib.parse.quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(','.join(headers.get_all(name, [])).split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )


def verify(users, method, target, headers, body):
    """Refuses what is not signed by one of the users, now, for this service, with all that decides."""

    def wrong(why):
        return Refused(403, "InvalidSignatureException", f"The request signature does not match: {why}")

    found = re.fullmatch(
        rf"{ALGORITHM} Credential=([^/]+)/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]+)",
        headers.get("authorization", ""),
    )
    if not found:
        raise wrong("no SigV4A authorization")
    key_id, scope, signed, signature = found.groups()
    if key_id not in users:
        raise Refused(403, "UnrecognizedClientException", "The security token in the request is invalid")
    secret, token = users[key_id]
    when = headers.get("x-amz-date", "")
    if scope != f"{when[:8]}/{SERVICE}/aws4_request":
        raise wrong("scope")
    moment = datetime.datetime.strptime(when, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs(datetime.datetime.now(datetime.timezone.utc) - moment) > SKEW:
        raise wrong("time")
    if headers.get("x-amz-region-set") != "*" or headers.get("x-amz-security-token") != token:
        raise wrong("region set or session token")
    signed = signed.split(";")
    must = {"host", "if-match", "content-type"} | {name.lower() for name in headers if name.lower().startswith("x-amz-")}
    if not {name for name in must if name in headers} <= set(signed) or signed != sorted(signed):
        raise wrong("signed headers")
    request = canonical(method, target, headers, signed, body)
    to_sign = "\n".join([ALGORITHM, when, scope, hashlib.sha256(request.encode()).hexdigest()])
    try:
        key = public_key(key_id, secret)
        key.verify(bytes.fromhex(signature), to_sign.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise wrong("signature") from None
