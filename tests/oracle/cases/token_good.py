"""Tokens that are accepted: every carrier, algorithm, member and scope."""

import json
from collections.abc import Iterator

import crypto
from cases.links import CLIENT, MALFORMED, PLAIN, accept
from cases.mint import URL
from cases.tokens import (
    DROP,
    OTHER,
    PREFIX,
    Case,
    Expectation,
    Object,
    as_json,
    ask,
    changed,
    claims,
    granted,
    header,
    numbers,
    of_algorithm,
    scoped,
    signed,
    token,
    with_signature,
)
from encoding import percent_encode
from keyring import NOW, SHARED_ISSUER


def good_algorithms() -> Iterator[Case]:
    for alg in ("HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDSA"):
        kid = f"acme-{alg.lower()}"
        yield Case(f"ok-{alg.lower()}", f"signed with {alg}", None, ask(of_algorithm(alg)), granted(kid=kid))
    body = changed(claims(), {"iss": "https://rotating.acme.example"})
    for alg, kid in (("ES256", "rotating-old"), ("EdDSA", "rotating-new")):
        text = signed(alg, kid, body, header(alg, kid))
        yield Case(f"ok-{kid}", "one of an issuer's two keys", None, ask(text), granted(kid=kid))
    text = of_algorithm("ES256")
    r, s = numbers(text)
    low, high = sorted((s, crypto.P256_N - s))
    for name, value in (("low", low), ("high", high)):
        query = ask(with_signature(text, crypto.es256_join(r, value)))
        yield Case(f"ok-es256-{name}-s", "s and n - s are both right", None, query, granted(kid="acme-es256"))
    for tenant, audience in (("acme", "acme-downloads"), ("borealis", "borealis-downloads")):
        body = claims(iss=SHARED_ISSUER, aud=audience)
        text = signed("ES256", "shared-es256", body, header("ES256", "shared-es256"))
        expect = granted(tenant=tenant, kid="shared-es256")
        yield Case(f"ok-shared-issuer-{tenant}", "the audience picks the tenant", None, ask(text), expect)
    body = claims(iss="https://hs256.borealis.example", aud="borealis-downloads")
    text = signed("HS256", "borealis-hs256", body, header(kid="borealis-hs256"))
    expect = granted(tenant="borealis", kid="borealis-hs256")
    yield Case("ok-other-tenant", "the issuer names the tenant", None, ask(text), expect)


def good_carriers() -> Iterator[Case]:
    def good(name: str, comment: str, query: str = "", expect: Expectation | None = None, **headers: str) -> Case:
        given = {name.replace("_", "-"): [value] for name, value in headers.items()}
        return Case(f"ok-{name}", comment, None, query, expect or granted(), given)

    text = token()
    url = f"url={percent_encode(URL)}"
    yield good("bearer", "in Authorization", authorization=f"Bearer {text}")
    yield good("bearer-lower-case", "the scheme has no case", authorization=f"bearer {text}")
    yield good("bearer-in-capitals", "the scheme has no case", authorization=f"BEARER {text}")
    yield good("bearer-spaces", "any number of spaces", authorization=f"Bearer   {text}")
    yield good("bearer-and-url", "url beside a token in a header", url, authorization=f"Bearer {text}")
    yield good("own-header", "in x-sluicegate-token", x_sluicegate_token=text)
    yield good("own-header-and-url", "url beside a token in a header", url, x_sluicegate_token=text)
    yield good("own-header-white-space", "optional white space is trimmed", x_sluicegate_token=f" {text}\t")
    yield good("query-and-basic", "another scheme is no credential here", ask(text), authorization="Basic dTpw")
    sigv4 = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20270115/eu-central-1/lambda/aws4_request"
    yield good("own-header-and-sigv4", "as behind an edge", authorization=sigv4, x_sluicegate_token=text)
    yield good("link-and-basic", "a link, and no token", PLAIN, accept(), authorization="Basic dTpw")
    yield good("link-and-sigv4", "a link, and no token", PLAIN, accept(), authorization=sigv4)
    yield good("utm-source", "unknown names are ignored", f"utm_source=mail&{ask(text)}&token%5B%5D=x&Token=y")
    yield good("token-escaped", "the value is decoded", ask(text).replace(".", "%2E"))
    basic_and_bearer = {"authorization": ["Basic dTpw", f"Bearer {text}"]}
    yield Case("ok-basic-and-bearer", "one of the two is a token", None, "", granted(), basic_and_bearer)
    for size, expect, fault in ((8192, granted(), None), (8193, MALFORMED, "8193 characters")):
        query_less = {"x-sluicegate-token": [_of_size(size)]}
        yield Case(f"{'bad' if fault else 'ok'}-{size}-characters", "8192 at most", fault, "", expect, query_less)


def _of_size(size: int) -> str:
    """A rightly signed token of exactly so many characters."""
    for spaces in range(3):  # base64url skips every fourth length; white space in the header moves the sum
        for padding in range(size // 2, size):
            text = token(claims(pad="x" * padding), as_json(header()) + " " * spaces)
            if len(text) >= size:
                break
        if len(text) == size:
            return text
    raise ValueError(f"no token has {size} characters")


def good_members() -> Iterator[Case]:
    def good(name: str, comment: str, text: str, now: int = NOW, client: str = CLIENT, **expected: object) -> Case:
        return Case(f"ok-{name}", comment, None, ask(text), granted(**expected), {}, now, client)

    yield good("no-kid", "the issuer has one key", token(head=header(kid=DROP)))
    yield good("no-typ", "typ is optional", token(head=header(typ=DROP)))
    for typ in ("jwt", "Jwt", "sluicegate+jwt", "SluiceGate+JWT"):
        yield good(f"typ-{typ}", "typ has no case", token(head=header(typ=typ)))
    yield good("aud-list", "one audience as a list", token(claims(aud=["acme-downloads"])))
    yield good("aud-others-too", "one of them is configured", token(claims(aud=["billing", "acme-downloads"])))
    eight = [*(f"audience-{number}" for number in range(7)), "acme-downloads"]
    yield good("aud-8", "the longest list", token(claims(aud=eight)))
    yield good("aud-twice", "twice the same is one", token(claims(aud=["acme-downloads"] * 2)))
    foreign = token(claims(aud=["acme-downloads", "borealis-downloads"]))
    yield good("aud-of-other-tenant-too", "this issuer has no pair with the second", foreign)
    yield good("exp-one-second-left", "now < exp", token(claims(exp=NOW + 1)), exp=NOW + 1)
    yield good("exp-largest", "twelve digits", token(claims(exp=10**12 - 1)), exp=10**12 - 1)
    yield good("nbf-now", "now >= nbf", token(claims(nbf=NOW)))
    yield good("nbf-zero", "0 is a time", token(claims(nbf=0)))
    yield good("iat-in-the-future", "iat is checked for its form only", token(claims(iat=NOW + 9999)))
    named = token(claims(filename="Отчёт.pdf", disposition="inline", jti="order-4711", ip="203.0.113.0/24"))
    yield good(
        "every-claim", "all that have a meaning", named, filename="Отчёт.pdf", disposition="inline", id="order-4711"
    )
    yield good("ip-v6", "the client's address", token(claims(ip="2001:db8::/32")), client="2001:db8::7")
    unknown: Object = {"sub": "user-1", "scope": None, "roles": [{"a": 1.5}, {"a": -2e3}], "kid": 7, "sig": ["x"]}
    yield good("unknown-claims", "ignored, whatever they are", token(claims(**unknown)))
    spaced = json.dumps(claims(), indent=2) + "\n"
    yield good(
        "json-white-space", "JSON's white space is no data", token(f" {spaced}", "\t" + as_json(header()) + "\r\n")
    )
    escaped = as_json(claims()).replace("url", "\\u0075rl").replace("/", "\\/")
    yield good("json-escapes", "members are compared decoded", token(escaped))
    backwards = as_json(dict(reversed(claims().items())))
    yield good("json-other-order", "order carries no meaning", token(backwards))
    yield good("json-equal-names-apart", "unique within one object", token(claims(a={"exp": 1}, b={"exp": 2})))
    yield good("json-64-levels", "the deepest nesting", token(nested(64)))
    pair = as_json(claims(filename="PAIR")).replace("PAIR", "\\ud83c\\udf89.pdf")
    yield good("json-surrogate-pair", "one character in two escapes", token(pair), filename="🎉.pdf")


def nested(levels: int) -> str:
    return as_json(claims()).removesuffix("}") + f',"deep":{"[" * (levels - 1)}{"]" * (levels - 1)}}}'


def good_scopes() -> Iterator[Case]:
    def good(name: str, comment: str, text: str, url: str = URL) -> Case:
        return Case(f"ok-{name}", comment, None, ask(text, url), granted(url=url))

    plain = token()
    yield good("url-in-both", "they agree", plain)
    yield good("url-host-case", "equal after parsing", plain, URL.replace("files", "FILES"))
    yield good("url-default-port", "equal after parsing", plain, URL.replace(".example", ".example:443"))
    yield good("url-dot-segments", "equal after parsing", plain, URL.replace("/reports", "/a/%2E./reports/."))
    yield good(
        "url-non-ascii",
        "equal after parsing",
        token(claims(url="https://files.example/%C3%BC")),
        "https://files.example/ü",
    )
    yield good("url-with-star", "a star in url is a character", token(claims(url=URL + "?a=*")), URL + "?a=*")
    yield good("urls-star", "any url that the policy allows", scoped("*"), "http://anywhere.example:8080/a?b=c")
    yield good("urls-exact", "without a star: this url", scoped(URL))
    yield good("urls-prefix", "a path below", scoped(PREFIX))
    yield good("urls-prefix-deep", "a path far below", scoped(PREFIX), "https://files.example/reports/a/b/c?d=e*")
    yield good("urls-prefix-itself", "the prefix with nothing more", scoped(PREFIX), "https://files.example/reports/")
    yield good("urls-prefix-host-case", "compared after parsing", scoped("HTTPS://FILES.example:443/reports/*"))
    yield good("urls-root", "a whole origin", scoped("https://files.example/*"), "https://files.example")
    yield good("urls-port", "its port", scoped("https://files.example:8443/*"), "https://files.example:8443/a")
    yield good("urls-ipv6", "an address", scoped("https://[2001:db8::1]/*"), "https://[2001:DB8:0::1]/a")
    yield good("urls-second", "one match is enough", scoped(OTHER, PREFIX))
    many = [f"https://files.example/{number}/*" for number in range(63)]
    yield good("urls-64", "the longest list", scoped(*many, URL))
