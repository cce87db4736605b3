"""The one way this oracle says no: a stage and a stable code, as docs/link-format.md names them."""

from typing import Literal, NoReturn

Stage = Literal["link", "verify"]


class Refused(Exception):
    """A request that the specification refuses."""

    def __init__(self, stage: Stage, code: str, reason: str) -> None:
        super().__init__(f"{stage}/{code}: {reason}")
        self.stage: Stage = stage
        self.code = code


def malformed(reason: str) -> NoReturn:
    """Refuse while reading: nothing has been verified."""
    raise Refused("link", "malformed_link", reason)


def unproven(reason: str) -> NoReturn:
    """Refuse while verifying: whatever the reason, an outsider sees one face."""
    raise Refused("verify", "invalid_signature", reason)
