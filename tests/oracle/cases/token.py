"""token.json: requests that carry a token, good ones and those with a fault.

Every expectation is written by hand; the verifier has to arrive at it by itself. A token with a fault is
otherwise in order: a forbidden header member, for one, is covered by a right signature.
"""

from cases import token_good, token_malformed, token_scope, token_signatures, token_unproven
from cases.tokens import Case
from encoding import base64url_decode
from gate import presented_tokens
from links import read_query
from refusal import Refused


def cases() -> list[Case]:
    groups = (
        token_good.good_algorithms,
        token_good.good_carriers,
        token_good.good_members,
        token_good.good_scopes,
        token_malformed.bad_requests,
        token_malformed.bad_parts,
        token_malformed.bad_json,
        token_unproven.bad_headers,
        token_unproven.confused,
        token_unproven.bad_identity,
        token_unproven.bad_claims,
        token_signatures.bad_signatures,
        token_signatures.bad_rsa,
        token_signatures.bad_curves,
        token_scope.outside,
        token_scope.order,
    )
    return [case for group in groups for case in group()]


def vectors() -> list[dict[str, object]]:
    return [_vector(case) for case in cases()]


def _vector(case: Case) -> dict[str, object]:
    return {
        "name": case.name,
        "comment": case.comment,
        "fault": case.fault,
        "now": case.now,
        "client": case.client,
        "query": case.query,
        "headers": dict(case.headers),
        "parts": _parts(case),
        "expect": case.expect,
    }


def _parts(case: Case) -> dict[str, str] | None:
    """The readable parts of the one token of a request, where it has such a token."""
    try:
        presented = presented_tokens(read_query(case.query), case.headers)
        head, body, _ = presented[0].split(".") if len(presented) == 1 else []
        header_bytes, claims_bytes = base64url_decode(head), base64url_decode(body)
        if not header_bytes or not claims_bytes:
            return None
        return {"header": header_bytes.decode(), "claims": claims_bytes.decode(), "signing_input": f"{head}.{body}"}
    except (Refused, ValueError):
        return None
