"""Commands for mixes, each applied by one function."""

from __future__ import annotations

from voip.errors import MediaError
from voip.media.commands import AddSink, Announce, ShapeMix
from voip.media.mix import Mixer
from voip.media.rings import RingArena
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["add_part", "announce", "check_rate", "shape"]


def shape(mixer: Mixer, command: ShapeMix) -> None:
    """Let only the loudest of a mix be heard, or all; tell who talks in it, or do not."""
    _check_open(mixer, command.stream)
    if command.loudest is not None and command.loudest < 1:
        raise MediaError(
            f"the {command.loudest} loudest cannot be let be heard", hint="1 or more, None: all"
        )
    mixer.talkers.shape(command.stream, command.loudest, speakers=command.speakers)


def announce(mixer: Mixer, command: Announce, arena: RingArena) -> None:
    """Let all in a mix hear a ring, or none."""
    _check_open(mixer, command.stream)
    if command.ring is None:
        mixer.rings.announced.pop(command.stream, None)
    else:
        check_rate(mixer, command.stream, command.ring, arena)
        mixer.rings.announced[command.stream] = command.ring


def add_part(mixer: Mixer, command: AddSink) -> None:
    """Write what one stream says in a mix to a ring."""
    _check_open(mixer, command.stream)
    if command.part is not None:
        mixer.rings.add_part(command.stream, command.ring, command.part)


def check_rate(mixer: Mixer, stream: int, ring: int | None, arena: RingArena) -> None:
    """Raise `MediaError` where a ring is for a mix and its steps are no whole number of samples."""
    if ring is not None and mixer.is_open(stream):
        rate = arena.ring(ring).rate_hz
        if rate % STEPS_PER_SECOND:
            raise MediaError(
                f"a mix has no sound of {rate} Hz", hint="8000, 16000, 48000: what 100 divides"
            )


def _check_open(mixer: Mixer, mix: int) -> None:
    if not mixer.is_open(mix):
        raise MediaError(f"there is no mix {mix}", hint="it was closed")
