"""Links that are refused while reading them.

A malformed value carries the right signature over its decoded text, so that nothing else is at fault.
"""

import base64
from collections.abc import Callable, Iterator

from cases.links import (
    CLIENT,
    EXP,
    MALFORMED,
    PLAIN,
    Case,
    altered,
    link,
    pieces,
    query,
    refuse,
)
from cases.mint import ALL, LONGEST_FILENAME, LONGEST_URL, URL
from encoding import percent_encode
from keyring import NOW, secret
from links import LINK_NAMES, sign, string_to_sign, write_query


def missing() -> Iterator[Case]:
    nobody = refuse("missing_credential")
    for name, raw in [
        ("empty-query", ""),
        ("only-separators", "&&&"),
        ("only-utm", "utm_source=mail"),
        ("only-url", f"url={percent_encode(URL)}"),
        ("no-kid-exp-sig", write_query(altered(link(ALL), kid=None, exp=None, sig=None))),
        ("credential-names-in-capitals", PLAIN.replace("kid=", "KID=").replace("exp=", "EXP=").replace("sig=", "SIG=")),
        ("semicolons-throughout", PLAIN.replace("&", ";")),
    ]:
        yield Case(f"missing-{name}", "no credential at all", "none of kid, exp, sig, token", raw, nobody)
    for name in ("url", "kid", "exp", "sig"):
        raw = write_query(link({name: None}))
        yield Case(f"missing-{name}", "some required parameters, not all", f"{name} is absent", raw, MALFORMED)
    for name in ("kid", "exp", "sig"):
        raw = write_query({"url": URL, name: link()[name]})
        yield Case(
            f"missing-all-but-{name}", "some required parameters, not all", f"only url and {name}", raw, MALFORMED
        )
    for name in LINK_NAMES:
        raw = write_query(link(ALL, **{name: ""}))
        yield Case(f"empty-{name}", "present and empty is not absent", f"{name} is empty", raw, MALFORMED)
    no_equals = PLAIN + "&filename"
    yield Case("empty-filename-without-equals", "no = is an empty value", "filename is empty", no_equals, MALFORMED)


def structure() -> Iterator[Case]:
    def bad(name: str, fault: str, raw: str, comment: str = "") -> Case:
        return Case(name, comment or "the query itself is at fault", fault, raw, MALFORMED)

    for name, piece in zip(LINK_NAMES, pieces(link(ALL)), strict=True):
        yield bad(f"duplicate-{name}", f"{name} twice, with equal values", f"{write_query(link(ALL))}&{piece}")
    other = percent_encode("https://files.example/other")
    yield bad("duplicate-url-other-last", "url twice", f"{PLAIN}&url={other}", "neither the first nor the last wins")
    yield bad("duplicate-url-other-first", "url twice", f"url={other}&{PLAIN}", "neither the first nor the last wins")
    yield bad("duplicate-escaped-name", "url twice", f"{PLAIN}&%75rl={other}", "names are compared decoded")
    yield bad("duplicate-exp-empty", "exp twice", f"{PLAIN}&exp", "an empty repetition is a repetition")
    yield bad("65-pieces", "65 pieces", PLAIN + "&x" * 61)
    yield bad("8193-bytes", "8193 bytes", (PLAIN + "&utm=").ljust(8193, "x"))
    yield bad("raw-space", "a space in the raw query", PLAIN + "&utm=a b")
    yield bad("raw-tab", "a tab in the raw query", PLAIN + "&utm=a\tb")
    yield bad("raw-newline", "a newline in the raw query", PLAIN + "&utm=a\nb")
    yield bad("raw-delete", "U+007F in the raw query", PLAIN + "&utm=a\x7fb")
    yield bad("raw-non-ascii", "a non-ASCII byte in the raw query", PLAIN + "&utm=é")
    yield bad("url-brackets", "url is absent", PLAIN.replace("url=", "url[]="), "url[] is not url")
    yield bad("url-in-capitals", "url is absent", PLAIN.replace("url=", "URL="), "names are case-sensitive")
    yield bad("exp-case-changed", "exp is absent", PLAIN.replace("exp=", "Exp="), "names are case-sensitive")
    yield bad("sig-after-semicolon", "sig is absent", PLAIN.replace("&kid=", "&utm=;kid="), "; separates nothing")


def decoding() -> Iterator[Case]:
    for name, spelling, fault in [
        ("escape-cut-short", "a%2", "an escape of one digit"),
        ("escape-without-digits", "a%", "an escape of no digit"),
        ("escape-not-hexadecimal", "a%zzb", "an escape that is not hexadecimal"),
        ("escape-with-sign", "a%+1b", "an escape that is not hexadecimal"),
        ("escape-unicode-style", "a%u0041", "an escape that is not hexadecimal"),
        ("utf8-stray-byte", "a%FF", "invalid UTF-8"),
        ("utf8-latin1", "caf%E9", "invalid UTF-8"),
        ("utf8-overlong-slash", "a%C0%AFb", "an overlong encoding"),
        ("utf8-surrogate", "a%ED%A0%80", "an encoded surrogate"),
        ("utf8-above-10ffff", "a%F4%90%80%80", "beyond U+10FFFF"),
        ("utf8-cut-short", "a%E2%82", "a truncated sequence"),
    ]:
        yield Case(name, "a known value must decode", fault, f"{PLAIN}&filename={spelling}", MALFORMED)
    for name, character in [
        ("nul", "\0"),
        ("tab", "\t"),
        ("newline", "\n"),
        ("carriage-return", "\r"),
        ("escape", "\x1b"),
        ("unit-separator", "\x1f"),
        ("delete", "\x7f"),
        ("next-line", "\x85"),
        ("last-c1", "\x9f"),
    ]:
        fault = f"U+{ord(character):04X} in filename"
        yield Case(f"control-{name}", "no control characters", fault, query(filename=f"a{character}b"), MALFORMED)
    yield Case(
        "control-newline-makes-a-line",
        "the string to sign equals that of filename=a and id=b",
        "U+000A in filename",
        write_query(altered(link(filename="a", id="b"), filename="a\nid=b", id=None)),
        MALFORMED,
    )
    yield Case("control-newline-in-url", "no control characters", "U+000A in url", query(url=URL + "\n"), MALFORMED)
    yield Case("control-nul-in-kid", "no control characters", "U+0000 in kid", query(kid="acme-active\0"), MALFORMED)
    yield Case("control-newline-in-sig", "no control characters", "U+000A in sig", PLAIN + "%0A", MALFORMED)


_BAD_VALUES: dict[str, list[tuple[str, str]]] = {
    "url": [
        ("relative", "/reports/2026.pdf"),
        ("protocol-relative", "//files.example/a"),
        ("no-scheme", "files.example/a"),
        ("ftp", "ftp://files.example/a"),
        ("file", "file:///etc/passwd"),
        ("data", "data:text/plain,a"),
        ("javascript", "javascript://files.example/%0aalert(1)"),
        ("one-slash", "https:/files.example/a"),
        ("no-slash", "https:files.example/a"),
        ("three-slashes", "https:///files.example/a"),
        ("only-scheme", "https://"),
        ("no-host-but-query", "https://?a"),
        ("no-host-but-port", "https://:443/a"),
        ("leading-space", " https://files.example/a"),
        ("trailing-space", "https://files.example/a "),
        ("inner-space", "https://files.example/a b"),
        ("no-break-space", "https://files.example/a\u00a0b"),
        ("ideographic-space", "https://files.example/a\u3000b"),
        ("byte-order-mark-first", "\ufeffhttps://files.example/a"),
        ("fragment", "https://files.example/a#b"),
        ("empty-fragment", "https://files.example/a#"),
        ("userinfo", "https://user@files.example/a"),
        ("userinfo-password", "https://user:pass@files.example/a"),
        ("userinfo-empty", "https://@files.example/a"),
        ("userinfo-as-host", "https://files.example@evil.example/a"),
        ("escape-in-host", "https://fil%65s.example/a"),
        ("escaped-at", "https://files.example%40evil.example/a"),
        ("backslash-in-host", "https://files.example\\@evil.example/a"),
        ("backslash-in-path", "https://files.example/a\\b"),
        ("backslashes-for-slashes", "https:\\\\files.example\\a"),
        ("trailing-dot", "https://files.example./a"),
        ("only-dot", "https://./a"),
        ("caret-in-host", "https://files^.example/a"),
        ("pipe-in-host", "https://a|b.example/"),
        ("angle-in-host", "https://<files>.example/a"),
        ("ipv4-octal", "http://0177.0.0.1/a"),
        ("ipv4-hex", "http://0x7f.0.0.1/a"),
        ("ipv4-integer", "http://2130706433/a"),
        ("ipv4-hex-integer", "http://0x7f000001/a"),
        ("ipv4-short", "http://127.1/a"),
        ("ipv4-leading-zero", "http://198.051.100.7/a"),
        ("ipv4-too-large", "http://256.0.0.1/a"),
        ("ipv4-five", "http://1.2.3.4.5/a"),
        ("ipv4-trailing-dot", "http://127.0.0.1./a"),
        ("ipv4-fullwidth", "http://１２７.0.0.1/a"),
        ("ipv4-circled", "http://①②⑦.0.0.1/a"),
        ("ipv4-ideographic-dots", "http://127。0。0。1/a"),
        ("last-label-a-number", "http://files.123/a"),
        ("last-label-hex", "http://files.0x/a"),
        ("ipv6-zone", "http://[fe80::1%25eth0]/a"),
        ("ipv6-raw-zone", "http://[fe80::1%eth0]/a"),
        ("ipv6-unclosed", "http://[::1/a"),
        ("ipv6-no-brackets", "http://2001:db8::1/a"),
        ("ipv6-garbage", "http://[1:2:3]/a"),
        ("ipv6-empty", "http://[]/a"),
        ("ipv4-in-brackets", "http://[127.0.0.1]/a"),
        ("ipv6-then-text", "http://[::1]x/a"),
        ("port-empty", "https://files.example:/a"),
        ("port-zero", "https://files.example:0/a"),
        ("port-65536", "https://files.example:65536/a"),
        ("port-leading-zero", "https://files.example:0443/a"),
        ("port-name", "https://files.example:https/a"),
        ("port-negative", "https://files.example:-1/a"),
        ("two-ports", "https://files.example:80:443/a"),
        ("4097-bytes", LONGEST_URL + "a"),
    ],
    "kid": [
        ("in-capitals", "ACME-ACTIVE"),
        ("one-capital", "acme-Active"),
        ("leading-dot", ".acme"),
        ("leading-dash", "-acme"),
        ("leading-underscore", "_acme"),
        ("trailing-space", "acme-active "),
        ("path", "../../etc/passwd"),
        ("slash", "acme/active"),
        ("sql", "x' or '1'='1"),
        ("cyrillic-look-alike", "асme-active"),
        ("colon", "acme:active"),
        ("65-characters", "a" * 65),
    ],
    "exp": [
        ("leading-zero", f"0{EXP}"),
        ("two-zeros", "00"),
        ("plus", f"+{EXP}"),
        ("minus", "-1"),
        ("minus-zero", "-0"),
        ("decimal", f"{EXP}.0"),
        ("trailing-dot", f"{EXP}."),
        ("exponent", "18e8"),
        ("hexadecimal", "0x6b49d200"),
        ("leading-space", f" {EXP}"),
        ("trailing-space", f"{EXP} "),
        ("junk", f"{EXP}junk"),
        ("underscore", "1_800_003_600"),
        ("comma", "1,800,003,600"),
        ("thirteen-digits", "1800003600000"),
        ("overflow-i64", "9223372036854775808"),
        ("overflow-u64", str(2**64 + EXP)),
        ("infinity", "Infinity"),
        ("nan", "NaN"),
        ("never", "never"),
        ("null", "null"),
        ("iso-8601", "2027-01-15T09:00:00Z"),
        ("arabic-indic-digits", str(EXP).translate({48 + n: 0x660 + n for n in range(10)})),
        ("fullwidth-digits", str(EXP).translate({48 + n: 0xFF10 + n for n in range(10)})),
        ("two-times", f"{EXP},{EXP}"),
    ],
    "nbf": [
        ("leading-zero", f"0{NOW}"),
        ("minus", "-1"),
        ("decimal", f"{NOW}.0"),
        ("junk", f"{NOW}junk"),
        ("thirteen-digits", "1" * 13),
    ],
    "filename": [
        ("slash", "a/b.pdf"),
        ("parent-path", "../b.pdf"),
        ("backslash", "a\\b.pdf"),
        ("dot", "."),
        ("dot-dot", ".."),
        ("256-bytes", LONGEST_FILENAME + "x"),
        ("256-bytes-in-64-characters", "🎉" * 64),
        ("arabic-letter-mark", "a\u061cb"),
        ("left-to-right-mark", "a\u200eb"),
        ("right-to-left-mark", "a\u200fb"),
        ("line-separator", "a\u2028b"),
        ("paragraph-separator", "a\u2029b"),
        ("left-to-right-embedding", "a\u202ab"),
        ("right-to-left-override", "a\u202efdp.exe"),
        ("left-to-right-isolate", "a\u2066b"),
        ("pop-directional-isolate", "a\u2069b"),
    ],
    "disposition": [
        ("in-capitals", "Attachment"),
        ("other", "form-data"),
        ("with-parameter", "inline; filename=x"),
        ("space", "inline "),
    ],
    "id": [
        ("65-characters", "a" * 65),
        ("slash", "a/b"),
        ("space", "a b"),
        ("colon", "a:b"),
        ("tilde", "a~b"),
        ("non-ascii", "ордер"),
    ],
    "ip": [
        ("leading-zero", "203.0.113.07"),
        ("three-numbers", "203.0.113"),
        ("integer", "3405803783"),
        ("too-large", "203.0.113.256"),
        ("hexadecimal", "0xcb.0.113.7"),
        ("port", "203.0.113.7:80"),
        ("host-name", "files.example"),
        ("list", "203.0.113.7,203.0.113.8"),
        ("leading-space", " 203.0.113.7"),
        ("brackets", "[2001:db8::7]"),
        ("zone", "fe80::7%eth0"),
        ("mapped", f"::ffff:{CLIENT}"),
        ("mapped-in-hex", "::ffff:cb00:7107"),
        ("mapped-network", "::ffff:0:0/96"),
        ("prefix-leading-zero", "203.0.113.0/024"),
        ("prefix-empty", "203.0.113.0/"),
        ("prefix-33", "203.0.113.7/33"),
        ("prefix-129", "2001:db8::7/129"),
        ("prefix-negative", "203.0.113.0/-1"),
        ("prefix-as-mask", "203.0.113.0/255.255.255.0"),
        ("host-bits", "203.0.113.7/24"),
        ("host-bits-v6", "2001:db8::7/32"),
        ("two-slashes", "203.0.113.0/24/24"),
        ("short-network", "203.0.113/24"),
        ("ipv6-two-gaps", "2001::db8::7"),
        ("any", "*"),
    ],
}


def bad_values() -> Iterator[Case]:
    for name, spellings in _BAD_VALUES.items():
        for label, value in spellings:
            comment = "rightly signed; only the spelling is at fault"
            values = link({name: value, "sig": ""})
            values["sig"] = sign(secret("acme-active"), string_to_sign(values))
            yield Case(f"{name}-{label}", comment, f"{name} is malformed", write_query(values), MALFORMED)


def bad_tag_spellings() -> Iterator[Case]:
    # This id makes a tag whose standard spelling has both + and /, so that no spelling is another's by accident.
    values = link(id=_id_where(lambda tag: "-" in tag and "_" in tag))
    tag = values["sig"]
    data = base64.urlsafe_b64decode(tag + "=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for name, spelling, fault in [
        ("42-characters", tag[:-1], "the last character is missing"),
        ("half", tag[:22], "half the tag"),
        ("44-characters", tag + "A", "one character too many"),
        ("twice", tag + tag, "the tag twice"),
        ("padded", tag + "=", "padding"),
        ("standard-base64", base64.b64encode(data).decode().rstrip("="), "the standard alphabet"),
        ("standard-base64-padded", base64.b64encode(data).decode(), "the standard alphabet and padding"),
        ("hexadecimal", data.hex(), "hexadecimal"),
        ("base32", base64.b32encode(data).decode(), "base32"),
        ("leading-space", " " + tag, "a leading space"),
        ("trailing-space", tag + " ", "a trailing space"),
        ("other-alphabet", tag[:-2] + "~" + tag[-1], "a character outside the alphabet"),
        ("trailing-bit-1", tag[:-1] + alphabet[alphabet.index(tag[-1]) | 1], "the lowest unused bit set"),
        ("trailing-bit-2", tag[:-1] + alphabet[alphabet.index(tag[-1]) | 2], "the second unused bit set"),
        ("trailing-bits-both", tag[:-1] + alphabet[alphabet.index(tag[-1]) | 3], "both unused bits set"),
        ("prefixed", "v1=" + tag, "a version in front"),
    ]:
        comment = "the right tag in a spelling that is not the one"
        yield Case(f"sig-{name}", comment, fault, write_query(altered(values, sig=spelling)), MALFORMED)


def _id_where(suits: Callable[[str], bool]) -> str:
    """The first id whose plain link has a suitable tag."""
    return next(name for number in range(1000) if suits(link(id=(name := f"id-{number}"))["sig"]))
