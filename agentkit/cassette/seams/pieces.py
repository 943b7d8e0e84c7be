"""What a response is kept in while it is recorded."""

from __future__ import annotations

from agentkit.errors import CassetteError
from agentkit.http_body import MOST_RECORDED_BYTES
from agentkit.secrets import public_address


class Pieces(list[bytes]):
    """A body as it comes; raises `CassetteError` where there is more of it than a cassette holds."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._left = MOST_RECORDED_BYTES

    def keep(self, piece: bytes) -> None:
        self.append(piece)
        self._left -= len(piece)
        if self._left < 0:
            most = f"{MOST_RECORDED_BYTES / 2**20:.0f} MB"
            raise CassetteError(
                f"{public_address(self._uri)} sent more than {most}, which no cassette holds; run without recording"
            )
