"""One request in, one verdict out: which credential it carries, and whether that one holds."""

from collections.abc import Mapping, Sequence

from keyring import KeySet
from links import read_link, read_query, verify_link
from refusal import Refused, malformed
from tokens import check_request, read_token, verify_token

Headers = Mapping[str, Sequence[str]]


def judge(keys: KeySet, query: str, headers: Headers, now: int, client: str) -> dict[str, object]:
    """The `expect` member of a vector, as this oracle sees it."""
    try:
        return {"ok": _admit(keys, query, headers, now, client)}
    except Refused as refused:
        return {"refuse": {"stage": refused.stage, "code": refused.code}}


def _admit(keys: KeySet, query: str, headers: Headers, now: int, client: str) -> dict[str, str | int]:
    values = read_query(query)
    presented = presented_tokens(values, headers)
    if not presented:
        if not {"kid", "exp", "sig"} & set(values):
            raise Refused("link", "missing_credential", "neither signature nor token")
        return verify_link(keys, read_link(values), now, client)
    if len(presented) > 1 or set(values) - {"url", "token"}:
        malformed("a token stands alone, or beside url")
    token = read_token(presented[0])
    check_request(token, values.get("url"))
    return verify_token(keys, token, values.get("url"), now, client)


def presented_tokens(values: Mapping[str, str], headers: Headers) -> list[str]:
    """Every token of a request, from wherever it may come."""
    found = [values["token"]] if "token" in values else []
    found += [value.strip(" \t") for value in headers.get("x-sluicegate-token", ())]
    for value in headers.get("authorization", ()):
        scheme, _, credential = value.strip(" \t").partition(" ")
        if scheme.lower() == "bearer":
            found.append(credential.strip(" "))
    return found
