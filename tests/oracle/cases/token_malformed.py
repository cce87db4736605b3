"""Requests with a token that are refused while reading them."""

from collections.abc import Iterator

from cases.links import CLIENT, EXP, MALFORMED, PLAIN, link, pieces, refuse
from cases.mint import URL
from cases.token_good import nested
from cases.tokens import DROP, OTHER, Case, Expectation, as_json, ask, claims, header, scoped, token
from encoding import percent_encode
from tokens import join_parts


def bad_requests() -> Iterator[Case]:
    def bad(name: str, fault: str, query: str, expect: Expectation = MALFORMED, **headers: list[str]) -> Case:
        given = {name.replace("_", "-"): values for name, values in headers.items()}
        return Case(name, "the request is at fault, not the token", fault, query, expect, given)

    text = token()
    nobody = refuse("missing_credential")
    yield bad("missing-no-header", "no credential", "", nobody)
    yield bad("missing-basic-only", "no credential", f"url={percent_encode(URL)}", nobody, authorization=["Basic dTpw"])
    yield bad("missing-other-scheme", "no credential", "", nobody, authorization=[f"Token {text}"])
    yield bad("missing-scheme-run-together", "no credential", "", nobody, authorization=[f"Bearer{text}"])
    yield bad("missing-scheme-absent", "no credential", "", nobody, authorization=[text])
    yield bad("missing-name-in-capitals", "no credential", f"TOKEN={text}", nobody)
    yield bad("missing-name-with-brackets", "no credential", f"token[]={text}", nobody)
    yield bad("two-in-query", "token twice", f"{ask(text)}&{ask(text)}")
    yield bad("two-query-and-bearer", "two tokens", ask(text), authorization=[f"Bearer {text}"])
    yield bad("two-query-and-own-header", "two tokens", ask(text), x_sluicegate_token=[text])
    yield bad(
        "two-bearer-and-own-header", "two tokens", "", authorization=[f"Bearer {text}"], x_sluicegate_token=[text]
    )
    yield bad("two-bearer", "two tokens", "", authorization=[f"Bearer {text}", f"Bearer {text}"])
    yield bad("two-own-headers", "two tokens", "", x_sluicegate_token=[text, text])
    yield bad("two-own-headers-one-empty", "two tokens", "", x_sluicegate_token=[text, ""])
    yield bad("two-joined-by-comma", "a comma in the token", "", x_sluicegate_token=[f"{text}, {text}"])
    yield bad("two-joined-by-comma-bearer", "a comma in the token", "", authorization=[f"Bearer {text}, Bearer {text}"])
    values = {"kid": "acme-active", "exp": str(EXP), "sig": link()["sig"], "nbf": "0", "filename": "a.pdf"}
    for name, value in {**values, "disposition": "inline", "id": "a", "ip": CLIENT}.items():
        yield bad(f"beside-{name}", f"{name} beside a token", f"{ask(text)}&{name}={value}")
    yield bad("beside-link", "a link and a token", f"{PLAIN}&{ask(text)}")
    yield bad("beside-link-bearer", "a link and a token", PLAIN, authorization=[f"Bearer {text}"])
    yield bad("beside-link-own-header", "a link and a token", PLAIN, x_sluicegate_token=[text])
    yield bad("beside-link-empty-own-header", "a link and an empty token", PLAIN, x_sluicegate_token=[""])
    yield bad("beside-filename-bearer", "filename beside a token", "filename=a.pdf", authorization=[f"Bearer {text}"])
    yield bad("beside-url-twice", "url twice", f"{ask(text, URL)}&{pieces(link())[0]}")
    yield bad("beside-url-malformed", "url is malformed", ask(text, "ftp://files.example/a"))
    yield bad("beside-url-userinfo", "url is malformed", ask(scoped("*"), "https://user@files.example/a"))
    yield bad("beside-url-empty", "url is empty", ask(text, ""))
    yield bad("urls-without-url", "the url is nowhere", ask(scoped("*")))
    yield bad("urls-exact-without-url", "even one exact pattern does not supply the url", ask(scoped(URL)))
    yield bad("bearer-empty", "an empty token", "", authorization=["Bearer "])
    yield bad("bearer-alone", "an empty token", "", authorization=["Bearer"])
    yield bad("own-header-empty", "an empty token", "", x_sluicegate_token=[""])
    yield bad("own-header-with-scheme", "a space in the token", "", x_sluicegate_token=[f"Bearer {text}"])
    yield bad("query-empty", "an empty token", "token=")
    yield bad("query-leading-space", "a space in the token", f"token=+{text}")
    yield bad("query-trailing-newline", "a control character", f"token={text}%0A")
    yield bad("query-bad-escape", "a bad escape", f"token={text}%")


def bad_parts() -> Iterator[Case]:
    def bad(name: str, fault: str, text: str) -> Case:
        return Case(
            f"parts-{name}", "not a compact JWS as the rules want it", fault, ask(percent_encode(text)), MALFORMED
        )

    # This header and these claims leave bits unused, and use both characters that the alphabets differ in.
    text = token(claims(a="a ÿ?>? ÿ>?>"))
    head, body, tag = text.split(".")
    yield bad("one", "one part", head)
    yield bad("two", "two parts", f"{head}.{body}")
    yield bad("four", "four parts", f"{text}.{tag}")
    yield bad("four-last-empty", "four parts", f"{text}.")
    yield bad("five", "five parts, as in an encrypted token", f"{head}..{body}.{tag}.{tag}")
    yield bad("only-dots", "three empty parts", "..")
    yield bad("header-empty", "an empty header", f".{body}.{tag}")
    yield bad("claims-empty", "empty claims (detached)", f"{head}..{tag}")
    yield bad("signature-empty", "an empty signature", f"{head}.{body}.")
    unsecured = join_parts(as_json(header("none", kid=DROP)), as_json(claims()))
    yield bad("unsecured", "alg none and an empty signature, as RFC 7519 writes it", f"{unsecured}.")
    for at, name in enumerate(("header", "claims", "signature")):
        parts = [head, body, tag]
        parts[at] += "=" * (-len(parts[at]) % 4 or 4)
        yield bad(f"{name}-padded", "padding", ".".join(parts))
        parts = [head, body, tag]
        parts[at] = _unused_bit_set(parts[at])
        yield bad(f"{name}-unused-bits", "an unused bit set", ".".join(parts))
        parts = [head, body, tag]
        parts[at] = parts[at][:4] + "\n" + parts[at][4:]
        yield bad(f"{name}-newline", "a newline inside", ".".join(parts))
        parts = [head, body, tag]
        parts[at] += "A" * ((1 - len(parts[at])) % 4)
        yield bad(f"{name}-length-1-mod-4", "no bytes have this length", ".".join(parts))
    yield bad("standard-base64", "the standard alphabet", f"{head}.{body.replace('-', '+').replace('_', '/')}.{tag}")
    yield bad("not-base64", "plain JSON as the header", f"{as_json(header())}.{body}.{tag}")
    flattened = as_json({"protected": head, "payload": body, "signature": tag})
    general = as_json({"payload": body, "signatures": [{"protected": head, "signature": tag}]})
    yield bad("json-flattened", "the flattened JSON serialisation", flattened)
    yield bad("json-general", "the general JSON serialisation", general)
    yield bad("paseto", "a token of another make", "v4.public.eyJzdWIiOiJhIn0" + "A" * 64)
    yield bad("macaroon", "a token of another make", "MDAxY2xvY2F0aW9uIGZpbGVzLmV4YW1wbGUK")


def _unused_bit_set(part: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(part) % 4 == 0:
        raise ValueError("no bit of this part is unused")
    return part[:-1] + alphabet[alphabet.index(part[-1]) | 1]


def bad_json() -> Iterator[Case]:
    def bad(name: str, fault: str, body: str | bytes | None = None, head: str | bytes | None = None) -> Case:
        return Case(f"json-{name}", "rightly signed", fault, ask(token(body, head)), MALFORMED)

    body, head = as_json(claims()), as_json(header())
    open_body, open_head = body.removesuffix("}"), head.removesuffix("}")
    for name, text in [
        ("array", "[]"),
        ("string", '"a"'),
        ("number", "1"),
        ("null", "null"),
        ("true", "true"),
        ("blank", " "),
    ]:
        yield bad(f"header-{name}", "the header is no object", head=text)
        yield bad(f"claims-{name}", "the claims are no object", body=text)
    yield bad("claims-in-a-list", "the claims are no object", body=f"[{body}]")
    yield bad("claims-are-a-token", "a nested token", body=token())
    yield bad("duplicate-alg", "alg twice", head=f'{open_head},"alg":"HS256"}}')
    yield bad("duplicate-alg-none-first", "alg twice", head=head.replace('{"alg"', '{"alg":"none","alg"'))
    yield bad("duplicate-kid", "kid twice", head=f'{open_head},"kid":"acme-hs256"}}')
    yield bad("duplicate-exp", "exp twice", body=f'{open_body},"exp":{EXP}}}')
    yield bad("duplicate-url", "url twice", body=f'{open_body},"url":"{OTHER}"}}')
    yield bad("duplicate-escaped", "url twice, once escaped", body=f'{open_body},"\\u0075rl":"{OTHER}"}}')
    yield bad("duplicate-unknown", "an unknown claim twice", body=f'{open_body},"a":1,"a":1}}')
    yield bad("duplicate-nested", "a member twice, inside a claim", body=f'{open_body},"a":[{{"b":1,"b":2}}]}}')
    for name, behind in [
        ("brace", "}"),
        ("object", "{}"),
        ("comma", ","),
        ("nul", "\0"),
        ("text", " x"),
        ("comment", "//"),
    ]:
        yield bad(f"header-then-{name}", "data after the object", head=head + behind)
        yield bad(f"claims-then-{name}", "data after the object", body=body + behind)
    yield bad("trailing-comma", "a comma before the brace", body=f"{open_body},}}")
    yield bad("comment", "a comment", body=f"{open_body}/* */}}")
    yield bad("single-quotes", "single quotes", body=body.replace('"', "'"))
    yield bad("bare-name", "a name without quotes", body=f"{open_body},a:1}}")
    yield bad("cut-short", "no closing brace", body=open_body)
    yield bad("string-unclosed", "no closing quote", body=f'{open_body},"a":"b}}')
    for name, number in [
        ("nan", "NaN"),
        ("infinity", "Infinity"),
        ("minus-infinity", "-Infinity"),
        ("leading-zero", f"0{EXP}"),
        ("plus", f"+{EXP}"),
        ("hexadecimal", "0x6b49d200"),
        ("trailing-dot", f"{EXP}."),
        ("leading-dot", ".5"),
        ("underscore", "1_800_003_600"),
        ("exponent-empty", "1e"),
        ("fullwidth-digit", "１"),
    ]:
        yield bad(f"number-{name}", "not a JSON number", body=body.replace(str(EXP), number))
    yield bad("bom-claims", "a byte order mark", body="\ufeff" + body)
    yield bad("bom-header", "a byte order mark", head="\ufeff" + head)
    yield bad("utf-16", "UTF-16", body=body.encode("utf-16-le"))
    yield bad("utf-32", "UTF-32", body=body.encode("utf-32-le"))
    invalid = open_body.encode() + b',"a":"\xff"}'
    yield bad("invalid-utf8-claims", "a stray byte", body=invalid)
    yield bad("invalid-utf8-header", "a stray byte", head=head.encode().replace(b"JWT", b"JW\xff"))
    yield bad("invalid-utf8-name", "a stray byte in a name", body=open_body.encode() + b',"\xc0\xae":1}')
    yield bad("utf8-surrogate", "an encoded surrogate", body=open_body.encode() + b',"a":"\xed\xa0\x80"}')
    yield bad("utf8-overlong", "an overlong encoding", body=open_body.encode() + b',"a":"\xc0\xaf"}')
    yield bad("lone-high-surrogate", "half a pair", body=f'{open_body},"a":"\\ud83c"}}')
    yield bad("lone-low-surrogate", "half a pair", body=f'{open_body},"a":"\\udf89"}}')
    yield bad("bad-escape", "no such escape", body=f'{open_body},"a":"\\x41"}}')
    yield bad("raw-newline", "a control character in a string", body=f'{open_body},"a":"\n"}}')
    yield bad("raw-nul", "a control character in a string", body=f'{open_body},"a":"\0"}}')
    yield bad("65-levels", "65 levels", body=nested(65))
    yield bad("1000-levels", "1000 levels", body=nested(1000))
    yield bad("header-1000-levels", "1000 levels", head=f'{open_head},"a":{"[" * 999}{"]" * 999}}}')
