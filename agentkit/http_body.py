"""A response's body within bounds: a server sends as much as it likes, and packs it as small as it likes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

MOST_BYTES = 8 * 2**20  # of a whole reply; 100,000 tokens take less than one
MOST_STREAM_BYTES = 32 * 2**20  # of a reply in events, which repeat their names with each token
MOST_ERROR_BYTES = 2**16
MOST_RECORDED_BYTES = 40 * 2**20

_PACKED = ("gzip", "x-gzip", "deflate")
_EITHER = 32 + zlib.MAX_WBITS  # gzip's header or zlib's
_NEITHER = -zlib.MAX_WBITS  # what some servers call deflate
_GZIP_BEGINS = b"\x1f"


class Unreadable(ValueError):
    """A body is packed in a way that cannot be read, or is not what its headers say."""


class Body:
    """The content of a body that comes in pieces, unpacked as it comes and no further than to its bound.

    `most` are the bytes of all of it; without, of each piece: of a stream that may last.

    The HTTP libraries unpack a whole piece at once: 64 kB of brotli may hold gigabytes.
    """

    def __init__(self, encoding: str | None, most: int | None) -> None:
        named = (encoding or "").strip().lower()
        if named not in ("", "identity", *_PACKED):
            raise Unreadable(f"packed as {named[:40]!r}, which was not asked for")
        self._unpacker = zlib.decompressobj(_EITHER) if named in _PACKED else None
        self._header: bytes | None = b"" if named == "deflate" else None  # as far as it has come
        self._most = most
        self._left = MOST_BYTES if most is None else most

    @property
    def is_too_long(self) -> bool:
        """Whether there is more than the bound."""
        return self._left < 0

    def read(self, piece: bytes) -> bytes:
        """What a piece holds, up to the first byte beyond the bound."""
        if self._most is None:
            self._left = MOST_BYTES
        if self._unpacker is None:
            content = piece[: self._left + 1]
        else:
            try:
                content = b"".join(self._unpacked(piece))
            except zlib.error as error:
                raise Unreadable(f"packed wrongly ({error})") from error
        self._left -= len(content)
        return content

    def _unpacked(self, piece: bytes) -> Iterator[bytes]:
        """What is packed in a piece, of one gzip member after the other; what follows them is none of it."""
        if self._header is not None:
            piece = self._header + piece
            if len(piece) < 2:
                self._header = piece
                return
            has_header = piece[0] % 16 == zlib.DEFLATED and int.from_bytes(piece[:2]) % 31 == 0
            is_gzip = piece.startswith(_GZIP_BEGINS)
            self._header, self._unpacker = None, zlib.decompressobj(_EITHER if has_header or is_gzip else _NEITHER)
        left = max(1, self._left + 1)
        while piece and left > 0 and self._unpacker is not None:
            if self._unpacker.eof:
                if not piece.startswith(_GZIP_BEGINS):
                    return
                self._unpacker = zlib.decompressobj(_EITHER)
            content = self._unpacker.decompress(piece, left)
            left -= len(content)
            yield content
            piece = self._unpacker.unused_data
