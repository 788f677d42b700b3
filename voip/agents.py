"""Voice agents: a call's sound over a WebSocket, both ways, to a program that listens and speaks.

Two framings. `Framing.JSON` is the media streams that many agents and telephony services speak:
JSON texts with an `event` (connected, start, media, dtmf, mark, stop to the agent; media, mark,
clear, stop from it), sound as base64 of µ-law at 8000 Hz. `Framing.RAW` is sound as binary
messages, int16 little endian at any rate, with the same texts for all but the sound.

What the agent says is queued, for it speaks faster than it is heard. `clear` takes back what waits
(barge-in: the caller has begun to speak), `mark` comes back when all that was said before it has
gone out, or has been taken back.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from ssl import SSLContext
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from voip.call import Call
from voip.codecs.g711 import ULAW_DECODE, ULAW_ENCODE
from voip.errors import ConfigError, TransportError
from voip.events import DtmfReceived
from voip.net.websocket import WebSocket, WebSocketServer, connect_websocket
from voip.session.speech import Speech

__all__ = [
    "AgentReport",
    "AgentSettings",
    "Framing",
    "WebSocket",
    "WebSocketServer",
    "connect_agent",
    "talk",
]

_MAX_NAME: Final = 256
"""Characters of a mark's name."""
_SEND_S: Final = 5.0
"""An agent that takes nothing for so long is gone."""
_ULAW_HZ: Final = 8000


class Framing(Enum):
    """How sound is put into messages."""

    JSON = "json"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How to speak with an agent.

    rate: samples a second of `RAW`, both ways; `JSON` has 8000. frame_ms: sound in each message
    to the agent. parameters: told to it at the start.
    """

    framing: Framing = Framing.JSON
    rate: int = 8000
    frame_ms: int = 20
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.framing is Framing.JSON and self.rate != _ULAW_HZ:
            raise ConfigError("the JSON framing has 8000 Hz", hint="framing=Framing.RAW")
        if not 8000 <= self.rate <= 48000 or self.rate % 100:
            raise ConfigError(f"rate={self.rate}", hint="8000 to 48000, in whole hundreds")
        if self.frame_ms not in range(10, 201, 10):
            raise ConfigError(f"frame_ms={self.frame_ms}", hint="10, 20 ... 200")


@dataclass(frozen=True, slots=True)
class AgentReport:
    """How a talk went. Sound in ms; `clears`: how often the agent was interrupted.

    dropped_ms: what it said for which there was no room; rubbish: messages that were none.
    """

    ended_by: Literal["call", "agent"]
    heard_ms: float
    said_ms: float
    dropped_ms: float
    clears: int
    marks: int
    rubbish: int


async def connect_agent(
    call: Call,
    url: str,
    settings: AgentSettings | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    tls: SSLContext | None = None,
) -> AgentReport:
    """Connect a call to the agent at `url` (ws:// or wss://), until either ends; the call goes on.

    headers: of the handshake, such as Authorization. Raises `TransportError` where there is no
    agent, `CallStateError` where the call has no sound.
    """
    return await talk(call, await connect_websocket(url, headers=headers, tls=tls), settings)


async def talk(call: Call, socket: WebSocket, settings: AgentSettings | None = None) -> AgentReport:
    """As `connect_agent`, over a WebSocket that is open: one that came to our `WebSocketServer`."""
    return await _Talk(call, socket, settings or AgentSettings()).run()


class _Talk:
    def __init__(self, call: Call, socket: WebSocket, settings: AgentSettings) -> None:
        self._call, self._socket, self._settings = call, socket, settings
        self._speech: Speech = call.speech(settings.rate)
        self._stream = f"MZ{call.id}"
        self._number = self._chunk = 0
        self._heard = self._clears = self._marks = self._rubbish = 0
        self._digits: asyncio.Queue[str] = asyncio.Queue(64)
        self._over = False

    async def run(self) -> AgentReport:
        by: Literal["call", "agent"] = "agent"
        self._call.on_dtmf(self._pressed)
        try:
            reader = self._call.audio(self._settings.frame_ms, rate=self._settings.rate)
            async with reader:
                await self._start()
                hearing = asyncio.ensure_future(self._hear(reader))
                tasks = [
                    hearing,
                    asyncio.ensure_future(self._listen()),
                    asyncio.ensure_future(self._press()),
                    asyncio.ensure_future(self._speech.run(self._reached)),
                ]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    by = "call" if self._call.ended is not None else "agent"
                finally:
                    self._over = True
                    for task in tasks:
                        task.cancel()
                    found = await asyncio.gather(*tasks, return_exceptions=True)
                for error in found:
                    gone = TransportError | asyncio.CancelledError | TimeoutError
                    if isinstance(error, BaseException) and not isinstance(error, gone):
                        raise error
            with suppress(TransportError):
                await self._tell("stop", stop={"callSid": self._call.id})
        finally:
            self._over = True
            await self._socket.close()
        ms = 1000 / self._settings.rate
        report = AgentReport(
            by,
            self._heard * ms,
            self._speech.said * ms,
            self._speech.dropped * ms,
            self._clears,
            self._marks,
            self._rubbish,
        )
        words = "the agent has gone" if by == "agent" else "the call of an agent is over"
        self._call.log.event(logging.INFO, "agent_ended", words, clears=self._clears)
        return report

    # ------------------------------------------------------------ to the agent

    async def _tell(self, event: str, **more: Any) -> None:
        self._number += 1
        said = {"event": event, "sequenceNumber": str(self._number), **more}
        await self._send(json.dumps({**said, "streamSid": self._stream}))

    async def _send(self, message: str | bytes) -> None:
        async with asyncio.timeout(_SEND_S):
            await self._socket.send(message)

    async def _start(self) -> None:
        json_ = self._settings.framing is Framing.JSON
        await self._send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
        encoding = "audio/x-mulaw" if json_ else "audio/l16;endian=little"
        start = {
            "streamSid": self._stream,
            "callSid": self._call.id,
            "tracks": ["inbound"],
            "customParameters": dict(self._settings.parameters),
            "mediaFormat": {
                "encoding": encoding,
                "sampleRate": self._settings.rate,
                "channels": 1,
            },
        }
        await self._tell("start", start=start)

    async def _hear(self, reader: Any) -> None:
        async for pcm in reader:
            if self._settings.framing is Framing.RAW:
                await self._send(pcm.astype("<i2").tobytes())
            else:
                payload = base64.b64encode(ULAW_ENCODE[pcm.view(np.uint16)].tobytes()).decode()
                self._chunk += 1
                media = {
                    "track": "inbound",
                    "chunk": str(self._chunk),
                    "timestamp": str(1000 * self._heard // self._settings.rate),
                    "payload": payload,
                }
                await self._tell("media", media=media)
            self._heard += pcm.size

    def _pressed(self, event: DtmfReceived) -> None:
        if not self._over and not self._digits.full():
            self._digits.put_nowait(event.digit)

    async def _press(self) -> None:
        while True:
            digit = await self._digits.get()
            await self._tell("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    async def _reached(self, name: str) -> None:
        await self._tell("mark", mark={"name": name})

    # ------------------------------------------------------------ from the agent

    async def _listen(self) -> None:
        while (message := await self._socket.receive()) is not None:
            if isinstance(message, bytes):
                self._say_raw(message)
                continue
            try:
                said = json.loads(message)
                event = said["event"]
            except (ValueError, TypeError, KeyError, RecursionError):
                self._rubbish += 1
                continue
            if event == "stop":
                return
            await self._take(event, said)

    async def _take(self, event: object, said: Mapping[str, Any]) -> None:
        match event:
            case "media" if self._settings.framing is Framing.JSON:
                pcm = _decoded(said.get("media"))
                if pcm is None:
                    self._rubbish += 1
                else:
                    self._speech.say(pcm)
            case "clear":
                self._clears += 1
                for name in self._speech.clear():
                    await self._reached(name)
            case "mark":
                mark = said.get("mark")
                called = mark.get("name") if isinstance(mark, dict) else None
                fits = isinstance(called, str) and len(called) <= _MAX_NAME
                if fits and self._speech.mark(str(called)):
                    self._marks += 1
                else:
                    self._rubbish += 1
            case "connected" | "start" | "dtmf":
                pass
            case _:
                self._rubbish += 1

    def _say_raw(self, message: bytes) -> None:
        if self._settings.framing is not Framing.RAW or len(message) % 2:
            self._rubbish += 1
            return
        self._speech.say(np.frombuffer(message, "<i2").astype(np.int16))


def _decoded(media: object) -> npt.NDArray[np.int16] | None:
    """Return the sound of a media event; None: there is none in it."""
    payload = media.get("payload") if isinstance(media, dict) else None
    if not isinstance(payload, str):
        return None
    try:
        octets = base64.b64decode(payload)
    except (binascii.Error, ValueError):
        return None
    return ULAW_DECODE[np.frombuffer(octets, np.uint8)]
