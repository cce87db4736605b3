"""mint.json: decoded values in, exact bytes out."""

from keyring import LONGEST_KID, NOW, HmacKey, KeySet
from links import mint, read_query, string_to_sign

EXP = str(NOW + 3600)
URL = "https://files.example/reports/2026.pdf"
PRESIGNED = (
    "https://bucket.s3.eu-central-1.amazonaws.com/team%20a/Q4%2B1.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAEXAMPLE%2F20270115%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20270115T080000Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)
LONGEST_URL = "https://files.example/".ljust(4096, "a")
LONGEST_FILENAME = "я" * 125 + "a.pdf"
ALL = {
    "url": URL,
    "exp": EXP,
    "nbf": str(NOW - 60),
    "filename": "Annual report 2026.pdf",
    "disposition": "inline",
    "id": "order-4711_A.b",
    "ip": "203.0.113.0/24",
}

Case = tuple[str, str, dict[str, str]]

_URLS = [
    ("url-plain", URL),
    ("url-without-path", "https://files.example"),
    ("url-with-port", "http://files.example:8080/a"),
    ("url-with-its-own-query", "https://files.example/get?id=7&kid=other&sig=none&name=a+b%20c"),
    ("url-presigned-s3", PRESIGNED),
    ("url-with-percent-escapes", "https://files.example/100%25%20%D0%BF.bin"),
    ("url-with-cyrillic-path", "https://files.example/отчёт/итог.pdf"),
    ("url-with-idna-host", "https://bücher.example/a"),
    ("url-with-ipv6-host", "https://[2001:db8::1]:8443/a"),
    ("url-with-every-reserved-character", "https://files.example/!$&'()*+,;=:@-._~/a?b[]=c|d"),
    ("url-of-4096-bytes", LONGEST_URL),
]
_FILENAMES = [
    ("filename-ascii", "report.pdf"),
    ("filename-space", "annual report.pdf"),
    ("filename-cyrillic", "Отчёт за 2026 год.pdf"),
    ("filename-chinese", "年度报告.pdf"),
    ("filename-arabic", "تقرير.pdf"),
    ("filename-emoji", "🎉👩‍👩‍👧 party.mp4"),
    ("filename-double-quotes", 'the "final" one.pdf'),
    ("filename-single-quotes", "it's final.pdf"),
    ("filename-semicolon", "a; filename=b.pdf"),
    ("filename-percent", "100%25 sure.pdf"),
    ("filename-plus", "a+b.pdf"),
    ("filename-ampersand", "a&sig=b.pdf"),
    ("filename-equals", "a=b==.pdf"),
    ("filename-hash-and-question-mark", "who?#1.pdf"),
    ("filename-unreserved-and-not", "-._~!*'()[]{}|^`<>$,:@.pdf"),
    ("filename-decomposed", "cafe\u0301.pdf"),
    ("filename-composed", "caf\u00e9.pdf"),
    ("filename-one-byte", "a"),
    ("filename-of-255-bytes", LONGEST_FILENAME),
    ("filename-three-dots", "..."),
]
_OTHERS = [
    ("nbf-zero", {"nbf": "0"}),
    ("nbf-now", {"nbf": str(NOW)}),
    ("exp-largest", {"exp": "9" * 12}),
    ("disposition-attachment", {"disposition": "attachment"}),
    ("disposition-inline", {"disposition": "inline"}),
    ("id-one-character", {"id": "0"}),
    ("id-of-64-characters", {"id": "Az09._-".ljust(64, "x")}),
    ("ip-v4", {"ip": "203.0.113.7"}),
    ("ip-v4-network", {"ip": "203.0.113.0/24"}),
    ("ip-v6", {"ip": "2001:db8::7"}),
    ("ip-v6-network", {"ip": "2001:db8::/32"}),
    ("every-parameter", ALL),
]


def cases() -> list[Case]:
    base = {"url": URL, "exp": EXP}
    found: list[Case] = [(name, "acme-active", {**base, "url": url}) for name, url in _URLS]
    found += [(name, "acme-active", {**base, "filename": filename}) for name, filename in _FILENAMES]
    found += [(name, "acme-active", {**base, **params}) for name, params in _OTHERS]
    found += [
        ("kid-one-character", "0", base),
        ("kid-of-64-characters", LONGEST_KID, base),
        ("kid-within-its-window", "acme-windowed", base),
        ("kid-of-another-tenant", "borealis-active", base),
    ]
    return found


def vectors(keys: KeySet) -> list[dict[str, object]]:
    return [_vector(name, _key(keys, kid), params) for name, kid, params in cases()]


def _key(keys: KeySet, kid: str) -> HmacKey:
    key = keys.hmac_key(kid)
    if key is None:
        raise ValueError(f"no key {kid}")
    return key


def _vector(name: str, key: HmacKey, params: dict[str, str]) -> dict[str, object]:
    query = mint(key, NOW, params)
    return {
        "name": name,
        "params": params,
        "kid": key.kid,
        "string_to_sign": string_to_sign({**params, "kid": key.kid}),
        "sig": read_query(query)["sig"],
        "query": query,
    }
