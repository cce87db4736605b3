"""What a client library is given, read strictly: a signer's key and the options of a link (clients/README.md)."""

from collections.abc import Mapping

from links import is_well_formed, write_query

_PARAMETERS = {"not_before": "nbf", "filename": "filename", "disposition": "disposition", "id": "id", "ip": "ip"}
_NUMBERS = frozenset({"exp", "expires_in", "align_to", "not_before"})
_KNOWN = _NUMBERS | frozenset(_PARAMETERS) | {"url"}
_LAST_MOMENT = 999_999_999_999
_TAG_LENGTH = 43


class Fault(ValueError):
    """An option that no link can be made from."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter


def read_draft(kid: str, secret: str, now: int, options: Mapping[str, object]) -> None:
    """Raises the fault of what is given, if it has one."""
    _read_signer(kid, secret)
    for name in options:
        if name not in _KNOWN:
            raise Fault(name, "there is no such option")
    if "url" not in options:
        raise Fault("url", "it is missing")
    values = {"url": _value("url", options["url"]), "kid": kid, "exp": str(end_of(now, options))}
    values["sig"] = "A" * _TAG_LENGTH
    values |= {_PARAMETERS[name]: _value(name, value) for name, value in options.items() if name in _PARAMETERS}
    for name, parameter in [("url", "url"), *_PARAMETERS.items()]:
        if parameter in values and not is_well_formed(parameter, values[parameter]):
            raise Fault(name, "it is malformed")
    if len(write_query(values)) > 8192:
        raise Fault("url", "the query is longer than 8192 bytes")


def end_of(now: int, options: Mapping[str, object]) -> int:
    """When a link ends: after `expires_in` or at `exp`, moved up to a multiple of `align_to`."""
    if "exp" in options and "expires_in" in options:
        raise Fault("exp", "it excludes expires_in")
    if "exp" in options:
        name, end = "exp", _number("exp", options["exp"], 0)
    else:
        name, end = "expires_in", now + _number("expires_in", options.get("expires_in", 3600), 1)
    if end > _LAST_MOMENT:
        raise Fault(name, "the end has more than 12 digits")
    step = _number("align_to", options.get("align_to", 1), 1)
    aligned = -(-end // step) * step
    if aligned > _LAST_MOMENT:
        raise Fault("align_to", "the end has more than 12 digits")
    return aligned


def _value(name: str, value: object) -> str:
    if name in _NUMBERS:
        return str(_number(name, value, 0))
    if not isinstance(value, str):
        raise Fault(name, "it is no text")
    return value


def _number(name: str, value: object, least: int) -> int:
    if type(value) is not int or not least <= value <= _LAST_MOMENT:
        raise Fault(name, f"it is no whole number from {least} to {_LAST_MOMENT}")
    return value


def _read_signer(kid: str, secret: str) -> None:
    if not is_well_formed("kid", kid):
        raise Fault("kid", "it is malformed")
    data = secret.encode("utf-8")
    if len(data) < 32 or len(set(data)) < 10:
        raise Fault("secret", "it could be guessed")
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in secret):
        raise Fault("secret", "it holds a control character")
