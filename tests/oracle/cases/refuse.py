"""refuse.json: options that no library signs, each with one fault, and the option that has it.

`deep` says what beyond the text it takes to see the fault: `ipv6` an IPv6 parser, `idna` the mapping of IDNA
(UTS #46), false nothing.
"""

from collections.abc import Iterator

from cases.mint import EXP, LONGEST_FILENAME, LONGEST_URL, URL
from keyring import NOW

Options = dict[str, object]
Case = dict[str, object]

_URLS = {
    "empty": "",
    "relative": "/reports/2026.pdf",
    "protocol-relative": "//files.example/a",
    "no-scheme": "files.example/a",
    "ftp": "ftp://files.example/a",
    "one-slash": "https:/files.example/a",
    "three-slashes": "https:///files.example/a",
    "no-host-but-query": "https://?a",
    "no-host-but-port": "https://:443/a",
    "leading-space": " https://files.example/a",
    "inner-space": "https://files.example/a b",
    "no-break-space": "https://files.example/a\u00a0b",
    "ideographic-space": "https://files.example/a\u3000b",
    "tab-in-host": "https://fi\tles.example/a",
    "newline": URL + "\n",
    "delete": "https://files.example/a\x7f",
    "next-line": "https://files.example/a\x85",
    "fragment": "https://files.example/a#b",
    "empty-fragment": "https://files.example/a#",
    "userinfo": "https://user@files.example/a",
    "userinfo-password": "https://user:pass@files.example/a",
    "userinfo-empty": "https://@files.example/a",
    "escape-in-host": "https://fil%65s.example/a",
    "backslash-in-host": "https://files.example\\@evil.example/a",
    "backslash-in-path": "https://files.example/a\\b",
    "caret-in-host": "https://files^.example/a",
    "pipe-in-host": "https://a|b.example/",
    "angle-in-host": "https://<files>.example/a",
    "host-ending-in-a-dot": "https://files.example./a",
    "host-of-a-dot": "https://./a",
    "port-empty": "https://files.example:/a",
    "port-zero": "https://files.example:0/a",
    "port-65536": "https://files.example:65536/a",
    "port-leading-zero": "https://files.example:0443/a",
    "port-name": "https://files.example:https/a",
    "port-signed": "https://files.example:+80/a",
    "two-ports": "https://files.example:80:443/a",
    "ipv4-hex": "http://0x7f.1/a",
    "ipv4-short": "http://127.1/a",
    "ipv4-integer": "http://2130706433/a",
    "ipv4-leading-zero": "http://010.0.0.1/a",
    "ipv4-too-large": "http://256.0.0.1/a",
    "ipv4-five": "http://1.2.3.4.5/a",
    "last-label-a-number": "http://files.123/a",
    "last-label-hex": "http://files.0xA/a",
    "ipv6-zone": "http://[fe80::1%25eth0]/a",
    "ipv6-unclosed": "http://[::1/a",
    "ipv6-no-brackets": "http://2001:db8::1/a",
    "ipv6-then-text": "http://[::1]x/a",
    "4097-bytes": LONGEST_URL + "a",
    "4097-bytes-in-fewer-characters": "https://files.example/" + "я" * 2037 + "a",
    # 3022 bytes, but 9030 when encoded.
    "query-over-8192-bytes": "https://files.example/" + "я" * 1500,
}
_DEEP_URLS = {
    "ipv6": {
        "three-groups": "http://[1:2:3]/a",
        "empty": "http://[]/a",
        "ipv4-in-brackets": "http://[127.0.0.1]/a",
        "two-gaps": "http://[2001::db8::1]/a",
        "nine-groups": "http://[1:2:3:4:5:6:7:8:9]/a",
        "ipv4-leading-zero": "http://[::ffff:127.0.0.01]/a",
    },
    "idna": {
        "ideographic-dot-last": "https://files.example\u3002/a",
        "fullwidth-ipv4": "http://１２７.0.0.1/a",
        "ideographic-dots-ipv4": "http://127\u30020\u30020\u30021/a",
        "only-a-soft-hyphen": "https://\u00ad/a",
    },
}
_FILENAMES = {
    "empty": "",
    "slash": "a/b.pdf",
    "parent-path": "../b.pdf",
    "backslash": "a\\b.pdf",
    "dot": ".",
    "dot-dot": "..",
    "nul": "a\0b",
    "newline": "a\nid=b",
    "delete": "a\x7fb",
    "last-c1": "a\x9fb",
    "256-bytes": LONGEST_FILENAME + "x",
    "256-bytes-in-64-characters": "🎉" * 64,
    "arabic-letter-mark": "a\u061cb",
    "left-to-right-mark": "a\u200eb",
    "line-separator": "a\u2028b",
    "right-to-left-override": "a\u202efdp.exe",
    "right-to-left-isolate": "a\u2067b",
    "pop-directional-isolate": "a\u2069b",
    "number": 7,
}
_IDS = {
    "empty": "",
    "65-characters": "a" * 65,
    "slash": "a/b",
    "space": "a b",
    "tilde": "a~b",
    "non-ascii": "ордер",
    "newline": "a\n",
    "number": 7,
}
_DISPOSITIONS = {
    "empty": "",
    "in-capitals": "Attachment",
    "other": "form-data",
    "with-parameter": "inline; filename=x",
    "boolean": True,
}
_IPS = {
    "empty": "",
    "host-bits": "203.0.113.7/24",
    "prefix-leading-zero": "203.0.113.0/024",
    "prefix-empty": "203.0.113.0/",
    "prefix-33": "203.0.113.7/33",
    "prefix-as-mask": "203.0.113.0/255.255.255.0",
    "leading-zero": "203.0.113.07",
    "three-numbers": "203.0.113",
    "too-large": "203.0.113.256",
    "zone": "fe80::7%eth0",
    "brackets": "[2001:db8::7]",
    "host-name": "files.example",
    "list": "203.0.113.7,203.0.113.8",
    "number": 7,
}
_DEEP_IPS = {
    "mapped": "::ffff:203.0.113.7",
    "mapped-in-hex": "::ffff:cb00:7107",
    "mapped-network": "::ffff:0:0/96",
    "host-bits-v6": "2001:db8::7/32",
    "prefix-129": "2001:db8::7/129",
    "ipv6-two-gaps": "2001::db8::7",
}
_TIMES = {
    "exp": {
        "13-digits": 1_000_000_000_000,
        "negative": -1,
        "fraction": 1_800_003_600.5,
        "string": EXP,
        "boolean": True,
    },
    "not_before": {
        "13-digits": 1_000_000_000_000,
        "negative": -1,
        "fraction": 0.5,
        "string": "0",
        "boolean": False,
    },
    "expires_in": {
        "zero": 0,
        "negative": -3600,
        "fraction": 0.5,
        "string": "1h",
        "boolean": True,
        # now + expires_in has 13 digits
        "beyond-the-last-moment": 998_200_000_000,
    },
    "align_to": {
        "zero": 0,
        "negative": -300,
        "fraction": 1.5,
        "string": "300",
        "boolean": True,
        "13-digits": 1_000_000_000_000,
    },
}
_KIDS = {
    "empty": "",
    "in-capitals": "ACME-ACTIVE",
    "leading-dot": ".acme",
    "leading-dash": "-acme",
    "space": "acme active",
    "slash": "acme/active",
    "newline": "acme-active\n",
    "cyrillic-look-alike": "асme-active",
    "65-characters": "a" * 65,
}
_SECRETS = {
    "empty": "",
    "31-bytes": "sgk1_0123456789abcdefghijklmnop",
    "9-different-bytes": "012345678" * 8,
    "one-byte-repeated": "a" * 64,
    "newline-at-its-end": "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\n",
    "tab": "sgk1_0123456789abcdefghij\tklmnopqrstuvwxyzABCDEFG",
    "next-line": "sgk1_0123456789abcdefghij\x85klmnopqrstuvwxyzABCDEFG",
}


def _case(name: str, parameter: str, options: Options, deep: str | bool = False, **signer: str) -> Case:
    return {"name": name, "kid": "acme-active", **signer, "options": options, "parameter": parameter, "deep": deep}


def _urls() -> Iterator[Case]:
    yield _case("url-absent", "url", {})
    yield _case("url-number", "url", {"url": 7})
    for name, url in _URLS.items():
        yield _case(f"url-{name}", "url", {"url": url})
    for deep, urls in _DEEP_URLS.items():
        for name, url in urls.items():
            yield _case(f"url-{deep}-{name}", "url", {"url": url}, deep)
    long = {"url": "https://files.example/" + "я" * 1280, "filename": "я" * 127}
    yield _case("query-over-8192-bytes-with-filename", "url", long)


def _texts() -> Iterator[Case]:
    for parameter, values in {"filename": _FILENAMES, "id": _IDS, "disposition": _DISPOSITIONS, "ip": _IPS}.items():
        for name, value in values.items():
            yield _case(f"{parameter}-{name}", parameter, {"url": URL, parameter: value})
    for name, value in _DEEP_IPS.items():
        yield _case(f"ip-{name}", "ip", {"url": URL, "ip": value}, "ipv6")


def _times() -> Iterator[Case]:
    for parameter, values in _TIMES.items():
        for name, value in values.items():
            yield _case(f"{parameter}-{name}", parameter, {"url": URL, parameter: value})
    both = {"url": URL, "exp": NOW + 3600, "expires_in": 3600}
    yield _case("exp-together-with-expires-in", "exp", both)
    # The next multiple has 13 digits.
    beyond = {"url": URL, "exp": 999_999_999_999, "align_to": 300}
    yield _case("align_to-beyond-the-last-moment", "align_to", beyond)


def _signers() -> Iterator[Case]:
    for name, kid in _KIDS.items():
        yield _case(f"kid-{name}", "kid", {"url": URL}, kid=kid, secret_of="acme-active")
    for name, secret in _SECRETS.items():
        yield _case(f"secret-{name}", "secret", {"url": URL}, secret=secret)


def vectors() -> list[Case]:
    unknown = _case("unknown-option", "file_name", {"url": URL, "file_name": "a.pdf"})
    return [*_urls(), *_texts(), *_times(), unknown, *_signers()]
