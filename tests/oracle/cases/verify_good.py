"""Links that are accepted: every spelling and every value that the specification allows."""

from collections.abc import Iterator

from cases.links import CLIENT, EXP, PLAIN, Case, accept, link, pieces, query, respelled
from cases.mint import ALL, LONGEST_FILENAME, LONGEST_URL, PRESIGNED, URL
from encoding import percent_encode
from keyring import LONGEST_KID, NOW
from links import write_query


def good_spellings() -> Iterator[Case]:
    everything = accept(filename=ALL["filename"], disposition="inline", id=ALL["id"])
    all_values = link(ALL)

    def good(name: str, comment: str, raw: str, expect: dict[str, dict[str, object]] | None = None) -> Case:
        return Case(f"ok-{name}", comment, None, raw, expect or accept())

    yield good("plain", "the four required parameters", PLAIN)
    yield good("every-parameter", "all nine", write_query(all_values), everything)
    yield good("reversed-order", "order carries no meaning", "&".join(reversed(pieces(all_values))), everything)
    yield good("sig-first", "order carries no meaning", "&".join(sorted(pieces(all_values), reverse=True)), everything)
    lower = write_query(all_values).replace("%3A", "%3a").replace("%2F", "%2f")
    yield good("lower-case-escapes", "escapes may use a-f", lower, everything)
    plus = write_query(all_values).replace("%20", "+")
    yield good("plus-for-space", "+ is a space", plus, everything)
    bare = respelled(link(), url=URL)
    yield good("url-hardly-escaped", ": and / need no escape", bare)
    yield good(
        "everything-escaped",
        "escaping more than needed changes nothing",
        respelled(
            link(), **{name: "".join(f"%{byte:02X}" for byte in value.encode()) for name, value in link().items()}
        ),
    )
    yield good("escaped-name", "names are decoded too", PLAIN.replace("url=", "%75r%6C="))
    own_query = "https://files.example/get?id=7;v=2&kid=other&a=b=c"
    yield good(
        "equals-in-value",
        "only the first = splits",
        respelled(link(url=own_query), url=percent_encode(own_query).replace("%3D", "=").replace("%3B", ";")),
        accept(url=own_query),
    )
    yield good("utm-source", "an unknown name is ignored", PLAIN + "&utm_source=mail&utm_medium=a%20b")
    yield good("fbclid-in-front", "an unknown name is ignored", "fbclid=IwAR0&" + PLAIN)
    yield good("unknown-without-value", "an unknown name is ignored", PLAIN + "&debug")
    yield good("unknown-twice", "only known names are unique", PLAIN + "&utm_source=a&utm_source=b")
    yield good("unknown-with-bad-escape", "an ignored value is not decoded", PLAIN + "&utm_source=%zz%")
    yield good("unknown-with-invalid-utf8", "an ignored value is not decoded", PLAIN + "&utm_source=%FF%00%0A")
    yield good("name-with-bad-escape", "a name that does not decode is unknown", PLAIN + "&ur%6=x&sig%=y")
    yield good("name-with-invalid-utf8", "a name that does not decode is unknown", PLAIN + "&url%FF=x")
    yield good("name-with-trailing-nul", "url followed by U+0000 is not url", PLAIN + "&url%00=x")
    yield good("empty-name", "the empty name is unknown", PLAIN + "&=x&==")
    yield good("empty-pieces", "empty pieces are skipped", "&&" + PLAIN.replace("&", "&&&") + "&")
    yield good("other-case-beside", "names are case-sensitive", PLAIN + "&URL=x&Sig=y&EXP=0&Kid=z&TOKEN=t")
    yield good("brackets-beside", "url[] is not url", PLAIN + "&url[]=https://evil.example/&exp%5B%5D=0")
    yield good("spaced-name-beside", "' url' is not url", PLAIN + "&+url=x&url+=y")
    yield good("semicolon-is-no-separator", "; is part of the unknown value", PLAIN + "&utm=a;sig=b;url=c")
    yield good("64-pieces", "the most pieces", PLAIN + "&x" * 60)
    yield good("64-pieces-and-empty-ones", "empty pieces are not counted", PLAIN + "&x" * 60 + "&" * 100)
    yield good("8192-bytes", "the longest query", (PLAIN + "&utm=").ljust(8192, "x"))


def good_values() -> Iterator[Case]:
    def good(name: str, comment: str, now: int = NOW, client: str = CLIENT, **changes: str) -> Case:
        shown: dict[str, object] = {
            key: changes[key] for key in ("url", "kid", "filename", "disposition", "id") if key in changes
        }
        expect = accept(**shown, exp=int(changes.get("exp", EXP)))
        return Case(f"ok-{name}", comment, None, query(**changes), expect, now, client)

    yield good("url-http", "whether http is allowed is the policy's affair", url="http://files.example/a")
    yield good("url-scheme-in-capitals", "the scheme has no case", url="HTTPS://files.example/a")
    yield good("url-host-in-capitals", "signed and granted as written", url="https://FILES.example/a")
    yield good("url-without-path", "the path is then /", url="https://files.example")
    yield good("url-query-without-path", "the path is then /", url="https://files.example?a=b")
    yield good("url-port", "a port", url="https://files.example:8443/a")
    yield good("url-port-highest", "a port", url="https://files.example:65535/a")
    yield good("url-ipv4", "its canonical form", url="http://198.51.100.7/a")
    yield good("url-ipv6", "in brackets", url="https://[2001:db8::1]/a")
    yield good("url-ipv6-other-spelling", "any RFC 4291 spelling", url="https://[2001:0DB8:0:0::1]:8443/a")
    yield good("url-ipv6-dotted-tail", "any RFC 4291 spelling", url="https://[64:ff9b::198.51.100.7]/a")
    yield good("url-host-with-digits", "the last label is no number", url="https://127.0.0.1.example/a")
    yield good("url-idna-host", "non-ASCII hosts are allowed", url="https://bücher.example/a")
    yield good("url-cyrillic-path", "non-ASCII paths are allowed", url="https://files.example/отчёт.pdf")
    yield good("url-dot-segments", "allowed; resolved by the URL parser", url="https://files.example/a/../b")
    yield good("url-odd-escapes", "escapes in the path are the upstream's", url="https://files.example/%zz%2F%23?%")
    yield good("url-at-in-path", "@ is barred from the authority only", url="https://files.example/@user/a@b?c@d")
    yield good("url-presigned-s3", "a query of its own", url=PRESIGNED)
    yield good("url-of-4096-bytes", "the longest url", url=LONGEST_URL)
    yield good("kid-one-character", "the shortest key id", kid="0")
    yield good("kid-of-64-characters", "the longest key id", kid=LONGEST_KID)
    yield good("key-second", "a tenant has several keys", kid="acme-second")
    yield good("key-verify-only", "verifies, though it no longer mints", kid="acme-verify-only")
    yield good("key-windowed", "within not_before and not_after", kid="acme-windowed")
    yield good("key-from-not-before-on", "not_before is the first good second", NOW - 1000, kid="acme-windowed")
    yield good("key-last-second", "not_after is the first bad second", NOW + 999, kid="acme-windowed")
    yield good("exp-one-second-left", "now < exp", exp=str(NOW + 1))
    yield good("exp-largest", "twelve digits; a policy may cap it", exp="9" * 12)
    yield good("nbf-now", "now >= nbf", nbf=str(NOW))
    yield good("nbf-zero", "0 is a time", nbf="0")
    yield good("disposition-inline", "one of two", disposition="inline")
    yield good("disposition-attachment", "one of two, and the default", disposition="attachment")
    yield good("id-of-64-characters", "the longest id", id="Az09._-".ljust(64, "x"))
    yield good("filename-cyrillic", "UTF-8", filename="Отчёт за 2026 год.pdf")
    yield good("filename-chinese", "UTF-8", filename="年度报告.pdf")
    yield good("filename-emoji", "zero-width joiners are allowed", filename="👩‍👩‍👧.mp4")
    yield good("filename-delimiters", "data, not syntax", filename='a&sig=b;c="d"+100%25?#.pdf')
    yield good("filename-of-255-bytes", "the longest", filename=LONGEST_FILENAME)
    yield good("filename-three-dots", "neither . nor ..", filename="...")
    yield good("ip-v4", "the very address", ip=CLIENT)
    yield good("ip-v4-network", "within", ip="203.0.113.0/24")
    yield good("ip-v4-network-of-one", "within", ip=f"{CLIENT}/32")
    yield good("ip-v4-everyone", "within", ip="0.0.0.0/0")
    yield good("ip-v6", "compared as an address, not as text", client="2001:db8::7", ip="2001:0DB8:0::7")
    yield good("ip-v6-network", "within", client="2001:db8:1::7", ip="2001:db8::/32")
    yield good(
        "ip-client-mapped", "an IPv4-mapped client is an IPv4 client", client=f"::ffff:{CLIENT}", ip="203.0.113.0/24"
    )
    borealis = query(kid="borealis-active")
    yield Case(
        "ok-other-tenant", "the key names the tenant", None, borealis, accept(tenant="borealis", kid="borealis-active")
    )
