"""verify.json: HMAC links, good ones and those with a fault.

Every expectation is written by hand; the verifier has to arrive at it by itself.
"""

from cases import verify_good, verify_malformed, verify_unproven
from cases.links import Case
from keyring import KeySet
from links import read_query, sign, string_to_sign
from refusal import Refused


def cases() -> list[Case]:
    groups = (
        verify_good.good_spellings,
        verify_good.good_values,
        verify_malformed.missing,
        verify_malformed.structure,
        verify_malformed.decoding,
        verify_malformed.bad_values,
        verify_malformed.bad_tag_spellings,
        verify_unproven.bad_keys,
        verify_unproven.forged_tags,
        verify_unproven.altered_values,
        verify_unproven.late,
        verify_unproven.order,
    )
    return [case for group in groups for case in group()]


def vectors(keys: KeySet) -> list[dict[str, object]]:
    return [_vector(keys, case) for case in cases()]


def _vector(keys: KeySet, case: Case) -> dict[str, object]:
    text, tag = _right_signature(keys, case.query)
    return {
        "name": case.name,
        "comment": case.comment,
        "fault": case.fault,
        "now": case.now,
        "client": case.client,
        "query": case.query,
        "string_to_sign": text,
        "expected_sig": tag,
        "expect": case.expect,
    }


def _right_signature(keys: KeySet, raw: str) -> tuple[str | None, str | None]:
    """The string to sign of what was presented, if it decodes, and its tag, if it names a configured key."""
    try:
        values = read_query(raw)
    except Refused:
        return None, None
    text = string_to_sign(values)
    key = keys.hmac_key(values.get("kid", ""))
    return text, None if key is None else sign(key.secret, text)
