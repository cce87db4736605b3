"""Signed links for a Sluicegate gateway: make them (`Signer`), and download with them (`download`)."""

from ._download import Downloaded, DownloadError, download
from ._mint import Minted, Signer
from ._rules import MintError

__all__ = ["DownloadError", "Downloaded", "MintError", "Minted", "Signer", "download"]
