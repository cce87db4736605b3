"""When the next request may be sent, so that many workers together stay below a key's rate limit.

The gateway says in each answer how many requests the key may send at once and earns back in which time
(RateLimit-Policy), and how many are left (RateLimit). What is left is counted here as well, since other requests are
under way meanwhile.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message

# draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4: a list of names with parameters.
_ITEM = re.compile(r'"([^"]*)"((?:\s*;\s*[a-z]+=[0-9]{1,9})+)')
_PARAMETER = re.compile(r"([a-z]+)=([0-9]+)")
# Whatever an answer says, no request waits longer for the next one, in seconds.
_LONGEST_GAP = 60.0
_LONGEST_CLOSED = 300.0


@dataclass(frozen=True)
class Ticket:
    """A request that may be sent: how many were sent before it, and how many of those had no answer yet."""

    sent: int
    under_way: int


def read_limits(field: str | None) -> list[dict[str, int]]:
    """The parameters of each limit in a field; none if the field is absent."""
    items = _ITEM.findall(field or "")
    return [{name: int(value) for name, value in _PARAMETER.findall(parameters)} for _, parameters in items]


class Pacer:
    """Shared by the workers. The clock and the pause can be others in a test."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock, self._pause = clock, pause
        self._lock = threading.Lock()
        # One request goes first; its answer tells the limits.
        self._left, self._most, self._rate = 1.0, 1.0, 0.5
        self._counted_at = clock()
        self._closed_until = 0.0
        self._sent = self._under_way = 0

    def take(self) -> Ticket:
        """Waits until a request may be sent. Each one taken is given back with `heard`."""
        while True:
            with self._lock:
                wait = self._wait()
                if wait <= 0:
                    self._left -= 1
                    ticket = Ticket(self._sent, self._under_way)
                    self._sent += 1
                    self._under_way += 1
                    return ticket
            # Not longer than a moment, as an answer to another worker may say that more is left.
            self._pause(max(0.001, min(wait, 0.05)))

    def _wait(self) -> float:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
        if now < self._closed_until:
            return self._closed_until - now
        return (1 - self._left) / self._rate if self._left < 1 else 0.0

    def heard(self, ticket: Ticket, headers: Message | None, retry_after: float | None = None) -> None:
        """What the answer to a request said; None if there was none. `retry_after` closes the way for all workers."""
        with self._lock:
            self._wait()
            self._under_way -= 1
            # Whatever was under way or sent later may have been counted after this answer, or not.
            others = ticket.under_way + self._sent - ticket.sent - 1
            if headers is not None:
                self._learn(headers, others)
            if retry_after is not None:
                self._left = 0.0
                self._closed_until = max(self._closed_until, self._clock() + min(retry_after, _LONGEST_CLOSED))

    def _learn(self, headers: Message, others: int) -> None:
        policies, standing = read_limits(headers.get("ratelimit-policy")), read_limits(headers.get("ratelimit"))
        rates = [limit["q"] / limit["w"] for limit in policies if limit.get("q") and limit.get("w")]
        if rates:
            self._rate = max(min(rates), 1 / _LONGEST_GAP)
            self._most = float(min(limit["q"] for limit in policies if limit.get("q")))
        left = [limit["r"] for limit in standing if "r" in limit]
        if left:
            self._left = max(min(self._left, min(left)), float(min(left) - others))
        elif not rates:
            # A gateway without limits says nothing.
            self._rate = self._most = self._left = 1e9
