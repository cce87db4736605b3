"""From a key and options to a signed link (docs/link-format.md, section 3)."""

import base64
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from . import _rules as rules
from ._rules import LAST_MOMENT, MintError, fault
from ._url import read_base, read_url

_ORDER = ("url", "kid", "exp", "nbf", "filename", "disposition", "id", "ip", "sig")
_DEFAULT_SECONDS = 3600
_MAX_QUERY_BYTES = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Minted:
    """A signed link and what was signed. As text it is the link."""

    link: str
    query: str
    string_to_sign: str
    signature: str
    exp: int

    def __str__(self) -> str:
        return self.link


class Signer:
    """Makes links with one key of the gateway at `base`. Threads may share it."""

    __slots__ = ("_base", "_kid", "_mac", "_now", "_unquoted")

    def __init__(self, base: str, kid: str, secret: str, *, now: Callable[[], float] = time.time) -> None:
        def unquoted(error: MintError, *values: object) -> MintError:
            """The error; without its text, if a value that it may quote has the secret in it."""
            if not any(rules.holds(value, secret) for value in values):
                return error
            reason = "the secret stands in a place where others would read it; write it as the signer's secret alone"
            return MintError(error.parameter, f"{error.parameter}: {reason}")

        try:
            self._base = read_base(base)
            # Before the kid: a secret in the kid's place then brings an error that quotes neither.
            key = rules.read_secret(secret)
            self._kid = rules.read_kid(kid)
        except MintError as error:
            raise unquoted(error, base, kid) from None
        if not callable(now):
            raise fault("now", now, "this is no clock; write a function such as time.time")
        self._mac = hmac.new(key, digestmod="sha256")
        self._now = now
        self._unquoted = unquoted

    @property
    def base(self) -> str:
        return self._base

    @property
    def kid(self) -> str:
        return self._kid

    def __repr__(self) -> str:
        return f"Signer(base={self._base!r}, kid={self._kid!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signer holds a secret and cannot be pickled; make it anew where it is needed")

    def mint(
        self,
        url: str,
        *,
        expires_in: int | timedelta | None = None,
        exp: int | datetime | None = None,
        align_to: int | None = None,
        not_before: int | datetime | None = None,
        filename: str | None = None,
        disposition: str | None = None,
        id: str | None = None,
        ip: str | None = None,
    ) -> Minted:
        """A link to `url`, good for an hour if neither `expires_in` nor `exp` says otherwise.

        What has a part of a second (timedelta, datetime) is rounded up.
        """
        try:
            return self._mint(url, expires_in, exp, align_to, not_before, filename, disposition, id, ip)
        except MintError as error:
            given = (url, expires_in, exp, align_to, not_before, filename, disposition, id, ip)
            raise self._unquoted(error, *given) from None

    def _mint(
        self,
        url: object,
        expires_in: object,
        exp: object,
        align_to: object,
        not_before: object,
        filename: object,
        disposition: object,
        id: object,
        ip: object,
    ) -> Minted:
        end = self._end(expires_in, exp, align_to)
        values = {"url": read_url(url), "kid": self._kid, "exp": str(end)}
        if not_before is not None:
            values["nbf"] = str(rules.read_number("not_before", _unix("not_before", not_before), 0))
        if filename is not None:
            values["filename"] = rules.read_filename(filename)
        if disposition is not None:
            values["disposition"] = rules.read_disposition(disposition)
        if id is not None:
            values["id"] = rules.read_id(id)
        if ip is not None:
            values["ip"] = rules.read_ip(ip)
        return self._sign(values, end)

    def _sign(self, values: dict[str, str], end: int) -> Minted:
        lines = [f"{name}={values[name]}\n" for name in sorted(values)]
        text = "sluicegate-link-v1\n" + "".join(lines)
        mac = self._mac.copy()
        mac.update(text.encode("utf-8"))
        signature = base64.urlsafe_b64encode(mac.digest()).rstrip(b"=").decode("ascii")
        written = {**values, "sig": signature}
        query = "&".join(f"{name}={quote(written[name], safe='')}" for name in _ORDER if name in written)
        if len(query) > _MAX_QUERY_BYTES:
            reason = f"the link's query would be longer than {_MAX_QUERY_BYTES} bytes; write a shorter url"
            raise MintError("url", f"url of {len(values['url'])} characters: {reason}")
        return Minted(f"{self._base}/?{query}", query, text, signature, end)

    def _end(self, expires_in: object, exp: object, align_to: object) -> int:
        if exp is not None and expires_in is not None:
            raise fault("exp", exp, "it cannot stand beside expires_in; leave out one of the two")
        if exp is not None:
            end = rules.read_number("exp", _unix("exp", exp), 0)
        else:
            given = _DEFAULT_SECONDS if expires_in is None else expires_in
            end = rules.read_moment(self._now()) + rules.read_number("expires_in", _seconds(given), 1)
            if end > LAST_MOMENT:
                raise fault("expires_in", given, f"the link would end after {LAST_MOMENT}; write fewer seconds")
        if align_to is None:
            return end
        step = rules.read_number("align_to", align_to, 1)
        aligned = -(-end // step) * step
        if aligned > LAST_MOMENT:
            raise fault("align_to", align_to, f"the link would end after {LAST_MOMENT}; write fewer seconds")
        return aligned


def _seconds(value: object) -> object:
    return _rounded_up(value) if isinstance(value, timedelta) else value


def _unix(parameter: str, value: object) -> object:
    if not isinstance(value, datetime):
        return value
    if value.utcoffset() is None:
        raise fault(parameter, str(value), "this datetime has no time zone; write one with tzinfo, such as UTC")
    return _rounded_up(value - _EPOCH)


def _rounded_up(span: timedelta) -> int:
    # Not by way of -span, which the longest one does not have.
    return span // _SECOND + (1 if span % _SECOND else 0)
