"""Tokens that are proven, and still not enough: time, place and scope."""

from collections.abc import Iterator

from cases.links import CLIENT, refuse
from cases.mint import URL
from cases.tokens import DROP, OTHER, PREFIX, Case, ask, claims, header, of_algorithm, scoped, token, with_signature
from keyring import NOW


def outside() -> Iterator[Case]:
    """Proven, and still not enough: time, place and scope."""

    def bad(name: str, code: str, fault: str, text: str, url: str | None = None, client: str = CLIENT) -> Case:
        return Case(name, "rightly signed", fault, ask(text, url), refuse(code), {}, NOW, client)

    yield bad("expired-at-exp", "link_expired", "now = exp", token(claims(exp=NOW)))
    yield bad("expired-long-ago", "link_expired", "exp in the past", token(claims(exp=NOW - 86400)))
    yield bad("expired-at-zero", "link_expired", "exp = 0", token(claims(exp=0)))
    yield bad("expired-es256", "link_expired", "now = exp", of_algorithm("ES256", exp=NOW))
    yield bad("not-yet-one-second", "link_not_yet_valid", "now = nbf - 1", token(claims(nbf=NOW + 1)))
    yield bad("not-yet-for-long", "link_not_yet_valid", "nbf is years away", token(claims(nbf=10**12 - 1)))
    yield bad("client-outside", "client_not_allowed", "the client is outside", token(claims(ip="192.0.2.0/24")))
    yield bad(
        "client-v6-outside",
        "client_not_allowed",
        "the client is outside",
        token(claims(ip=CLIENT)),
        client="2001:db8::7",
    )

    def uncovered(name: str, fault: str, text: str, url: str | None) -> Case:
        return bad(f"scope-{name}", "url_not_allowed", fault, text, url)

    none, exact, below = token(claims(url=DROP)), token(), scoped(PREFIX)
    yield uncovered("none", "no scope", none, None)
    yield uncovered("none-with-url", "no scope", none, URL)
    yield uncovered(
        "names-in-capitals", "no scope: URL and Urls are unknown", token(claims(url=DROP, URL=URL, Urls=["*"])), URL
    )
    for name, url in [
        ("other-file", OTHER),
        ("other-host", URL.replace("files.", "evil.")),
        ("other-scheme", URL.replace("https", "http")),
        ("other-port", URL.replace(".example", ".example:8443")),
        ("slash-added", URL + "/"),
        ("query-added", URL + "?a=b"),
        ("empty-query-added", URL + "?"),
        ("path-case", URL.replace("reports", "Reports")),
        ("path-escaped", URL.replace("reports", "%72eports")),
    ]:
        yield uncovered(f"url-{name}", "the query's url is not the token's", exact, url)
        if name != "other-file":
            yield uncovered(f"urls-exact-{name}", "no pattern covers the url", scoped(URL), url)
    for name, url in [
        ("sibling", "https://files.example/reports-secret/a"),
        ("without-slash", "https://files.example/reports"),
        ("above", "https://files.example/a"),
        ("root", "https://files.example/"),
        ("host-longer", "https://files.example.evil.example/reports/a"),
        ("host-prefixed", "https://evilfiles.example/reports/a"),
        ("sub-domain", "https://a.files.example/reports/a"),
        ("other-scheme", "http://files.example/reports/a"),
        ("other-port", "https://files.example:8443/reports/a"),
        ("http-on-443", "http://files.example:443/reports/a"),
        ("path-case", "https://files.example/Reports/a"),
        ("dot-segments", "https://files.example/reports/../a"),
        ("escaped-dot-segments", "https://files.example/reports/%2e%2E/a"),
        ("half-escaped-dot-segments", "https://files.example/reports/.%2e/a"),
        ("in-query", "https://files.example/?/reports/a"),
        ("path-doubled-slash", "https://files.example//reports/a"),
    ]:
        yield uncovered(f"urls-prefix-{name}", "no pattern covers the url", below, url)
    yield uncovered(
        "urls-none-of-three",
        "no pattern covers the url",
        scoped(OTHER, "https://a.example/*", "http://files.example/*"),
        URL,
    )


def order() -> Iterator[Case]:
    """Two faults each, on purpose: which one is reported is part of the specification."""

    def both(name: str, fault: str, text: str, code: str, url: str | None = None) -> Case:
        return Case(f"order-{name}", "two faults, to fix which one shows", fault, ask(text, url), refuse(code))

    def forge(text: str) -> str:
        return with_signature(text, bytes(32))

    yield both(
        "structure-before-signature", "duplicate member and forged", forge(token('{"a":1,"a":1}')), "malformed_link"
    )
    yield both("missing-url-before-signature", "urls without url, and forged", forge(scoped("*")), "malformed_link")
    yield both("signature-before-expiry", "forged and expired", forge(token(claims(exp=0))), "invalid_signature")
    yield both("signature-before-scope", "forged and not covered", forge(token()), "invalid_signature", OTHER)
    yield both(
        "header-before-expiry", "crit and expired", token(claims(exp=0), header(crit=["x"])), "invalid_signature"
    )
    yield both("claims-before-expiry", "bad jti and expired", token(claims(exp=0, jti="a/b")), "invalid_signature")
    yield both("expiry-before-nbf", "expired and not yet valid", token(claims(exp=NOW, nbf=NOW + 1)), "link_expired")
    yield both("expiry-before-scope", "expired and not covered", token(claims(exp=NOW)), "link_expired", OTHER)
    yield both(
        "nbf-before-client",
        "not yet valid, from elsewhere",
        token(claims(nbf=NOW + 1, ip="192.0.2.1")),
        "link_not_yet_valid",
    )
    yield both(
        "client-before-scope",
        "from elsewhere and not covered",
        token(claims(ip="192.0.2.1")),
        "client_not_allowed",
        OTHER,
    )
