"""Which codecs there are: built by name, clock rate and channels, never by payload type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from voip.codecs.amr import AMR, AMR_WB, amr_codec_for, amr_ways
from voip.codecs.core import Codec, CodecFormat, CodecInfo, Ways
from voip.codecs.g711 import Law
from voip.codecs.g711_codec import PCMA, PCMU, g711_codec
from voip.codecs.g722 import G722, g722_codec
from voip.codecs.g729 import G729, g729_codec, g729_ways
from voip.codecs.gsm import GSM, gsm_codec, libgsm
from voip.codecs.ilbc.codec import ILBC_30, ilbc_codec, mode_of
from voip.codecs.l16 import L16, l16_codec
from voip.codecs.opus.binding import libopus
from voip.codecs.opus.codec import OPUS, OpusCodec
from voip.codecs.speex import SPEEX, libspeex, speex_codec
from voip.errors import CodecError

__all__ = ["CodecEntry", "Registry", "default_registry", "register"]


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """A codec: `build` makes one for a negotiated format and may refuse its fmtp.

    What was built may have another sample rate and bit rate than `info`, by its fmtp. `ways`: what
    this machine can do with it; one that has not both is listed, and not to be offered.
    """

    info: CodecInfo
    build: Callable[[CodecFormat], Codec]
    ways: Callable[[], Ways] = lambda: Ways.BOTH


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

    def ways(self, format_: CodecFormat) -> Ways:
        """Return what this machine can do with a format. Raises CodecError as `info` does."""
        return self._entry(format_).ways()

    def offered(self) -> tuple[CodecInfo, ...]:
        """Return those that this machine can encode and decode."""
        return tuple(e.info for e in self._entries.values() if e.ways() is Ways.BOTH)

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
            + ", ".join(
                f"{info.static_payload_type} {info.format}"
                for info in self
                if info.static_payload_type is not None
            ),
        )

    def _entry(self, format_: CodecFormat) -> CodecEntry:
        entry = self._entries.get(format_.key)
        if entry is None:
            raise CodecError(
                f"there is no codec for {format_}",
                hint="there are " + ", ".join(str(info.format) for info in self),
            )
        return entry


def register(*entries: CodecEntry) -> None:
    """Let all phones that are started from now on, and whoever asks, have more codecs.

    One of the same name, clock rate and channels takes the place of what was there.
    """
    global _default
    _default = default_registry().extended(*entries)


_default: Registry | None = None


def default_registry() -> Registry:
    """Return the codecs of this package, and those that were registered."""
    global _default
    if _default is None:
        _default = _own()
    return _default


def _own() -> Registry:
    return Registry(
        (
            CodecEntry(PCMU, lambda _: g711_codec(Law.ULAW)),
            CodecEntry(PCMA, lambda _: g711_codec(Law.ALAW)),
            CodecEntry(G722, lambda _: g722_codec(), _if_built(g722_codec)),
            CodecEntry(ILBC_30, lambda format_: ilbc_codec(mode_of(format_.fmtp))),
            CodecEntry(OPUS, lambda f: OpusCodec.negotiated(f.fmtp), _if_built(libopus)),
            *map(_l16, L16),
            CodecEntry(GSM, lambda _: gsm_codec(), _if_built(libgsm)),
            *map(_speex, SPEEX),
            *map(_amr, (AMR, AMR_WB)),
            CodecEntry(G729, lambda _: g729_codec(), g729_ways),
        )
    )


def _l16(info: CodecInfo) -> CodecEntry:
    return CodecEntry(info, lambda _: l16_codec(info))


def _speex(info: CodecInfo) -> CodecEntry:
    return CodecEntry(info, lambda _: speex_codec(info.sample_rate), _if_built(libspeex))


def _amr(info: CodecInfo) -> CodecEntry:
    return CodecEntry(info, lambda format_: amr_codec_for(format_), lambda: amr_ways(info.name))


def _if_built(build: Callable[[], object]) -> Callable[[], Ways]:
    """Return a question: both ways, where a library is there, else none."""

    def ways() -> Ways:
        try:
            build()
        except CodecError:
            return Ways.NONE
        return Ways.BOTH

    return ways
