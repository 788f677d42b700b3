"""Which codecs there are: built by name, clock rate and channels, never by payload type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from voip.codecs.core import Codec, CodecFormat, CodecInfo
from voip.codecs.g711 import Law
from voip.codecs.g711_codec import PCMA, PCMU, g711_codec
from voip.codecs.g722 import G722, g722_codec
from voip.codecs.ilbc.codec import ILBC_30, ilbc_codec, mode_of
from voip.codecs.l16 import L16, l16_codec
from voip.codecs.opus.codec import OPUS, OpusCodec
from voip.errors import CodecError

__all__ = ["CodecEntry", "Registry", "default_registry"]


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """A codec on offer: `build` makes one for a negotiated format and may refuse its fmtp.

    What was built may have another sample rate and bit rate than `info`, by its fmtp.
    """

    info: CodecInfo
    build: Callable[[CodecFormat], Codec]


class Registry:
    """An unchanging set of codecs. Two entries of one name, clock rate and channels: the later."""

    def __init__(self, entries: Iterable[CodecEntry]) -> None:
        self._entries = {entry.info.format.key: entry for entry in entries}

    def __iter__(self) -> Iterator[CodecInfo]:
        return (entry.info for entry in self._entries.values())

    def __contains__(self, format_: CodecFormat) -> bool:
        return format_.key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def extended(self, *entries: CodecEntry) -> Registry:
        """Return a registry with more codecs."""
        return Registry([*self._entries.values(), *entries])

    def info(self, format_: CodecFormat) -> CodecInfo:
        """Return what is known about a format. Raises CodecError for one that is not here."""
        return self._entry(format_).info

    def create(self, format_: CodecFormat) -> Codec:
        """Build the codec of a negotiated format, for one stream.

        Raises CodecError for one that is not here, and for parameters it cannot work with.
        """
        return self._entry(format_).build(format_)

    def static_format(self, payload_type: int) -> CodecFormat:
        """Return the format that RFC 3551 gives a payload type no session description explains.

        Raises CodecError where it gives none, or one that is not here.
        """
        for info in self:
            if info.static_payload_type == payload_type:
                return info.format
        raise CodecError(
            f"Unsupported payload type: {payload_type}",
            hint="types from 96 on mean what a=rtpmap says, of the others there are "
            + ", ".join(f"{i.static_payload_type} {i.format}" for i in self),
        )

    def _entry(self, format_: CodecFormat) -> CodecEntry:
        entry = self._entries.get(format_.key)
        if entry is None:
            raise CodecError(
                f"there is no codec for {format_}",
                hint="there are " + ", ".join(str(info.format) for info in self),
            )
        return entry


def default_registry() -> Registry:
    """Return the codecs of this package."""
    return Registry(
        (
            CodecEntry(PCMU, lambda _: g711_codec(Law.ULAW)),
            CodecEntry(PCMA, lambda _: g711_codec(Law.ALAW)),
            CodecEntry(G722, lambda _: g722_codec()),
            CodecEntry(ILBC_30, lambda format_: ilbc_codec(mode_of(format_.fmtp))),
            CodecEntry(OPUS, lambda format_: OpusCodec.negotiated(format_.fmtp)),
            *map(_l16, L16),
        )
    )


def _l16(info: CodecInfo) -> CodecEntry:
    return CodecEntry(info, lambda _: l16_codec(info))
