"""Three phones in a conference: what they say, and how loud each hears the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import numpy as np
import numpy.typing as npt
from flow_scene import SERVER, Scene

from voip import CallError, Softphone
from voip.call import Call
from voip.conference import Conference
from voip.config import MediaConfig
from voip.sip.message import Request, Response

SOUND = MediaConfig()
RATE = 8000
ALICE, BOB, CAROL, DAVE = 440, 700, 1200, 1900
"""What they say, in Hz."""
AMPLITUDE = 6000
QUIET_DB = -40
"""What is not there; what G.711 makes of tones that are lies between -45 and -80 dB."""


def aor(name: str) -> str:
    return f"sip:{name}@{SERVER}"


EVERYBODY = {aor(name): "connected" for name in ("alice", "bob", "carol")}
"""How all of `Three` stand in the conference, if nobody is on hold or muted."""


def tone(hertz: int, seconds: float) -> npt.NDArray[np.int16]:
    t = np.arange(int(seconds * RATE)) / RATE
    return (AMPLITUDE * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def level_db(pcm: npt.NDArray[np.int16], hertz: int) -> float:
    """How loud a frequency is in the last second, against what is said, in dB."""
    spectrum = np.abs(np.fft.rfft(pcm[-RATE:].astype(float)))
    return float(20 * np.log10(max(spectrum[hertz], 1e-9) / (AMPLITUDE * RATE / 2)))


class Mouth:
    """Something that says its frequency until it is closed: `play` of a call or a conference.

    Or another `sound`, int16 (samples,), over and over.
    """

    def __init__(
        self,
        voice: Call | Conference,
        hertz: int = 0,
        *,
        sound: npt.NDArray[np.int16] | None = None,
    ) -> None:
        sound = tone(hertz, 1) if sound is None else sound
        self._playing = asyncio.ensure_future(voice.play(sound, loop=True))

    async def __aenter__(self) -> Mouth:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._playing.cancel()
        await asyncio.gather(self._playing, return_exceptions=True)


async def heard(ear: Call | Conference, seconds: float = 1.5) -> npt.NDArray[np.int16]:
    async with ear.audio() as reader:
        return await reader.read(seconds)


async def matrix(
    voices: Sequence[tuple[Call | Conference, int]], *, settle_s: float = 0.5
) -> list[list[float]]:
    """Let all speak at once: how loud each hears the frequency of each, in dB."""
    async with AsyncExitStack() as speaking:
        for voice, hertz in voices:
            await speaking.enter_async_context(Mouth(voice, hertz))
        await asyncio.sleep(settle_s)
        sounds = await asyncio.gather(*(heard(voice) for voice, _ in voices))
    return [[level_db(sound, hertz) for _, hertz in voices] for sound in sounds]


def assert_each_hears_the_others(levels: list[list[float]], loss: float = 0.0) -> None:
    for at, row in enumerate(levels):
        for of, level in enumerate(row):
            told = f"{at} hears {of} at {level:.1f} dB: {levels}"
            if at == of:
                assert level < (QUIET_DB if not loss else -20), told
            else:
                assert abs(level) < (0.5 if not loss else 6), told


def is_focus(message: Request | Response) -> bool:
    return bool(message.contacts) and message.contacts[0].param("isfocus") is not None


def sent(scene: Scene, host: str, method: str) -> list[Request]:
    """Requests as they arrived at a host, repetitions left out."""
    found: dict[tuple[str, int], Request] = {}
    for message in scene.arrived.get(host, []):
        if isinstance(message, Request) and message.method == method:
            found.setdefault((message.call_id, message.cseq.number), message)
    return list(found.values())


def as_focus(scene: Scene) -> list[str]:
    """What was said of calls by a focus, each once, in the order in which it was first said."""
    found: dict[str, None] = {}
    for message in scene.seen:
        if is_focus(message) and message.cseq.method == "INVITE":
            if isinstance(message, Response):
                found[str(message.status)] = None
            else:
                found["INVITE" if message.to.tag is None else "re-INVITE"] = None
    return list(found)


async def until(true: object, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.05)


async def call_until_up(scene: Scene, phone: Softphone, conference: Conference, who: str) -> Call:
    """Call somebody to a conference; where too much is lost it is done again."""
    for _ in range(4 if scene.loss else 1):
        with suppress(CallError):
            return await conference.add(who, timeout=80)
    raise AssertionError(f"{who} cannot be called")


class Three:
    """Alice and Carol have called Bob, who holds a conference of both."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def __aenter__(self) -> Three:
        scene = self.scene
        self.bob, to_bob = await scene.answering(media=SOUND)
        self.alice, self.to_alice = await scene.answering("alice", media=SOUND)
        self.carol, self.to_carol = await scene.answering("carol", media=SOUND)
        self.alices, self.first = await scene.up(self.alice, "bob", to_bob)
        self.carols, self.second = await scene.up(self.carol, "bob", to_bob)
        self.conference = await self.bob.conference(self.first, self.second)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.conference.close()
        await self.scene.settled(self.alice, self.bob, self.carol)
        for phone in (self.alice, self.bob, self.carol):
            assert phone._stack.watchers == {}
            await phone.close()

    @property
    def voices(self) -> list[tuple[Call | Conference, int]]:
        return [(self.alices, ALICE), (self.conference, BOB), (self.carols, CAROL)]


def in_a_conference(main: object) -> None:
    scene = Scene(0.0)

    async def run() -> None:
        async with Three(scene) as three:
            await main(three)  # type: ignore[operator]

    scene.run(run)
