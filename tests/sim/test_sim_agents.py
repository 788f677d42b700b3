"""Voice agents: what they hear, how they are interrupted, when their marks come back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sound_scene import two_phones

from voip import Softphone
from voip.agents import (
    AgentReport,
    AgentSettings,
    Framing,
    WebSocket,
    WebSocketServer,
    connect_agent,
)
from voip.call import Call
from voip.codecs.g711 import ULAW_DECODE, ULAW_ENCODE
from voip.config import MediaConfig, NetworkConfig
from voip.errors import CallStateError, ConfigError, TransportError
from voip.net.websocket import connect_websocket
from voip.session.speech import Speech
from voip.sim import Path, World

RATE = 8000
URL = "ws://10.0.0.3:8765/agent?who=test"


def sound(seconds: float, seed: int = 1, rate: int = RATE) -> npt.NDArray[np.int16]:
    return np.random.default_rng(seed).normal(0, 3000, int(seconds * rate)).astype(np.int16)


def coded(pcm: npt.NDArray[np.int16]) -> str:
    return base64.b64encode(ULAW_ENCODE[pcm.view(np.uint16)].tobytes()).decode()


def media(pcm: npt.NDArray[np.int16]) -> str:
    return json.dumps({"event": "media", "streamSid": "x", "media": {"payload": coded(pcm)}})


def mark(name: str) -> str:
    return json.dumps({"event": "mark", "streamSid": "x", "mark": {"name": name}})


CLEAR = json.dumps({"event": "clear", "streamSid": "x"})


class Agent:
    """A server that notes what it is told, and when."""

    def __init__(self, story: Callable[[Agent], Awaitable[None]] | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self.binary: list[bytes] = []
        self.times: list[float] = []
        self.socket: WebSocket | None = None
        self.news = asyncio.Event()
        self._story = story

    async def serve(self, socket: WebSocket) -> None:
        self.socket = socket
        telling = asyncio.ensure_future(self._story(self)) if self._story else None
        while (message := await socket.receive()) is not None:
            if isinstance(message, bytes):
                self.binary.append(message)
            else:
                self.told.append(json.loads(message))
                self.times.append(asyncio.get_running_loop().time())
            self.news.set()
        if telling is not None:
            await telling

    async def say(self, *messages: str | bytes) -> None:
        assert self.socket is not None
        for message in messages:
            await self.socket.send(message)

    async def until(self, event: str, count: int = 1) -> float:
        """Wait for so many of an event; return when the last came."""
        while len(self.of(event)) < count:
            self.news.clear()
            await self.news.wait()
        return [t for t, one in zip(self.times, self.told, strict=True) if one["event"] == event][
            count - 1
        ]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one["event"] == event]

    @property
    def heard(self) -> npt.NDArray[np.int16]:
        payloads = [base64.b64decode(one["media"]["payload"]) for one in self.of("media")]
        return ULAW_DECODE[np.frombuffer(b"".join(payloads), np.uint8)]


def play(
    story: Callable[[Agent], Awaitable[None]],
    person: Callable[[Call], Awaitable[None]],
    settings: AgentSettings | None = None,
) -> tuple[Agent, AgentReport]:
    """A call comes in and is given to an agent; `person` is who has called."""
    world = World(2, path=Path(delay_s=0.01))
    caller, pbx, host = (world.host(f"10.0.0.{n}") for n in (1, 2, 3))
    reports: list[AgentReport] = []
    agents: list[Agent] = []

    async def answer(call: Call) -> None:
        await call.answer()
        reports.append(await connect_agent(call, URL, settings, headers={"X-Key": "1"}))
        await call.hangup()

    async def main() -> None:
        with host.here():
            agents.append(Agent(story))
            server = WebSocketServer(agents[0].serve)
            await server.start("10.0.0.3", 8765)
        with pbx.here():
            network = NetworkConfig(bind_host="10.0.0.2", bind_port=5060)
            phone = Softphone(None, register=False, network=network)
            phone.on_incoming(answer)
            await phone.start()
        async with Softphone(None, register=False) as ours:
            call = await ours.dial("sip:agent@10.0.0.2")
            await person(call)
            await call.hangup()
        await asyncio.sleep(1)
        await phone.close()
        await server.close()

    world.run(caller.run(main()))
    (report,) = reports
    return agents[0], report


async def silent(agent: Agent) -> None:
    await agent.until("start")


def test_an_agent_is_told_of_the_call_and_hears_it() -> None:
    said = sound(2)

    async def person(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.play(said)
        await call.send_dtmf("42")
        await asyncio.sleep(1)

    settings = AgentSettings(parameters={"tenant": "seven"})
    agent, report = play(silent, person, settings)
    assert agent.socket is not None
    assert agent.socket.path == "/agent?who=test"
    assert {name.lower(): value for name, value in agent.socket.headers.items()}["x-key"] == "1"
    assert [one["event"] for one in agent.told[:2]] == ["connected", "start"]
    start = agent.told[1]["start"]
    assert start["customParameters"] == {"tenant": "seven"}
    assert start["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    stream = start["streamSid"]
    assert {one["streamSid"] for one in agent.told[1:]} == {stream}
    numbers = [int(one["sequenceNumber"]) for one in agent.told[1:]]
    assert numbers == list(range(1, len(numbers) + 1))
    chunks = agent.of("media")
    assert [int(one["media"]["chunk"]) for one in chunks] == list(range(1, len(chunks) + 1))
    assert [int(one["media"]["timestamp"]) for one in chunks] == [
        20 * n for n in range(len(chunks))
    ]
    want = ULAW_DECODE[ULAW_ENCODE[said.view(np.uint16)]]
    assert contains(agent.heard, want)
    assert [one["dtmf"]["digit"] for one in agent.of("dtmf")] == ["4", "2"]
    assert [one["event"] for one in agent.told][-1] == "stop"
    assert report.ended_by == "call"
    assert report.heard_ms == 20 * len(chunks)


def contains(heard: npt.NDArray[np.int16], said: npt.NDArray[np.int16]) -> bool:
    """Whether all of it is there, sample for sample."""
    n = 1 << (heard.size + said.size).bit_length()
    product = np.fft.rfft(heard.astype(float), n) * np.conj(np.fft.rfft(said.astype(float), n))
    lag = int(np.fft.irfft(product, n)[: heard.size].argmax())
    return bool(np.array_equal(heard[lag : lag + said.size], said))


def test_what_an_agent_says_at_once_is_heard_in_its_time_and_its_marks_come_back_then() -> None:
    said = ULAW_DECODE[ULAW_ENCODE[sound(3).view(np.uint16)]]
    heard: list[npt.NDArray[np.int16]] = []
    times: list[float] = []

    async def story(agent: Agent) -> None:
        await agent.until("start")
        times.append(asyncio.get_running_loop().time())
        second = RATE
        await agent.say(
            media(said[:second]), mark("one"), media(said[second:]), mark("two"), mark("three")
        )
        for count in (1, 2, 3):
            times.append(await agent.until("mark", count))

    async def person(call: Call) -> None:
        async with call.audio() as reader:
            heard.append(await reader.read(4))

    agent, report = play(story, person)
    assert [one["mark"]["name"] for one in agent.of("mark")] == ["one", "two", "three"]
    assert 1.0 <= times[1] - times[0] <= 1.1
    assert 3.0 <= times[2] - times[0] <= 3.1
    assert contains(heard[0], said)
    assert (report.said_ms, report.marks, report.clears) == (3000, 3, 0)


def test_barge_in_takes_back_what_waits_and_its_marks_come_back_at_once() -> None:
    heard: list[npt.NDArray[np.int16]] = []
    times: list[float] = []

    async def story(agent: Agent) -> None:
        await agent.until("start")
        await agent.say(media(sound(30)), mark("end"))
        await agent.until("media", 25)  # the caller has begun to speak
        await agent.say(CLEAR)
        times.append(asyncio.get_running_loop().time())
        times.append(await agent.until("mark"))
        await asyncio.sleep(1)
        await agent.say(media(sound(0.5, seed=7)), mark("again"))
        await agent.until("mark", 2)

    async def person(call: Call) -> None:
        async with call.audio() as reader:
            heard.append(await reader.read(4))

    agent, report = play(story, person)
    assert [one["mark"]["name"] for one in agent.of("mark")] == ["end", "again"]
    assert times[1] - times[0] < 0.05
    loud = np.abs(heard[0][: heard[0].size // 80 * 80].reshape(-1, 80)).max(axis=1) > 500
    first = np.flatnonzero(loud)
    assert first.size
    runs = np.split(first, np.flatnonzero(np.diff(first) > 10) + 1)
    assert len(runs) == 2  # what was said before, and again; nothing of the 29 s
    assert 0.3 <= runs[0].size / 100 <= 0.7
    assert report.clears == 1
    assert report.said_ms < 1300


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_raw_sound_at_any_rate(rate: int) -> None:
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype("<i2")
    heard: list[npt.NDArray[np.int16]] = []

    async def story(agent: Agent) -> None:
        await agent.until("start")
        await agent.say(tone.tobytes(), mark("said"))
        await agent.until("mark")

    async def person(call: Call) -> None:
        playing = asyncio.ensure_future(
            call.play((8000 * np.sin(np.arange(2 * RATE) * 0.5)).astype(np.int16))
        )
        async with call.audio() as reader:
            heard.append(await reader.read(2))
        await playing

    agent, report = play(story, person, AgentSettings(Framing.RAW, rate=rate))
    assert agent.told[1]["start"]["mediaFormat"]["sampleRate"] == rate
    assert {len(one) for one in agent.binary} == {rate // 50 * 2}
    spectrum = np.abs(np.fft.rfft(heard[0][RATE // 2 : RATE]))
    assert int(spectrum.argmax()) * 2 == pytest.approx(440, abs=4)
    pcm = np.frombuffer(b"".join(agent.binary), "<i2")
    spectrum = np.abs(np.fft.rfft(pcm[rate : rate + rate // 2]))
    assert int(spectrum.argmax()) * 2 == pytest.approx(0.5 * RATE / (2 * np.pi), abs=4)
    assert report.said_ms == 1000


def test_an_agent_that_goes_leaves_the_call_to_the_application() -> None:
    async def story(agent: Agent) -> None:
        await agent.until("start")
        assert agent.socket is not None
        await agent.socket.close()

    async def person(call: Call) -> None:
        await call.wait_ended()

    _, report = play(story, person)
    assert report.ended_by == "agent"


def test_rubbish_is_counted_and_harms_nothing() -> None:
    rubbish = (
        "no json", "[]", "{}", "7", '"x"', '{"event": 5}', '{"event": "media"}',
        '{"event": "media", "media": {"payload": 5}}', '{"event": "media", "media": 7}',
        '{"event": "mark"}', '{"event": "mark", "mark": {"name": 7}}', mark("x" * 1000),
        '{"event": "media", "media": {"payload": "A"}}', "[" * 100_000, b"binary",
    )  # fmt: skip

    async def story(agent: Agent) -> None:
        await agent.until("start")
        await agent.say(*rubbish, media(sound(0.2)), mark("fine"))
        await agent.until("mark")

    async def person(call: Call) -> None:
        await asyncio.sleep(1)

    agent, report = play(story, person)
    assert report.rubbish == len(rubbish)
    assert [one["mark"]["name"] for one in agent.of("mark")] == ["fine"]


def test_more_than_there_is_room_for_is_dropped_and_counted() -> None:
    async def story(agent: Agent) -> None:
        await agent.until("start")
        await agent.say(*[media(np.zeros(10 * RATE, np.int16))] * 13, mark("end"), CLEAR)
        await agent.until("mark")
        await agent.say(*[mark("x")] * 1500)

    async def person(call: Call) -> None:
        await asyncio.sleep(2)

    _, report = play(story, person)
    assert 9_000 < report.dropped_ms <= 10_000


def test_a_message_that_is_too_long_ends_it() -> None:
    async def story(agent: Agent) -> None:
        await agent.until("start")
        await agent.say("x" * ((1 << 20) + 1))

    async def person(call: Call) -> None:
        await call.wait_ended()

    _, report = play(story, person)
    assert report.ended_by == "agent"


def test_nobody_else_speaks_by_send_meanwhile_and_two_agents_are_one_too_many() -> None:
    failures: list[str] = []

    async def story(agent: Agent) -> None:
        await agent.until("start")

    async def person(call: Call) -> None:
        speech: Speech = call.speech(8000)
        run = asyncio.ensure_future(speech.run(_nobody))
        await asyncio.sleep(0.1)
        with pytest.raises(CallStateError) as error:
            await call.send(sound(0.1))
        failures.append(error.value.message)
        with pytest.raises(CallStateError):
            await call.speech(8000).run(_nobody)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await call.send(sound(0.1))

    play(story, person)
    assert failures == ["a device speaks in this call"]


async def _nobody(name: str) -> None:
    raise AssertionError(name)


@pytest.mark.parametrize("url", ["http://10.0.0.3/", "ws://", "ws://10.0.0.3:99999/", "agent"])
async def test_what_is_no_websocket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        await connect_websocket(url)


async def test_where_nobody_listens_is_said() -> None:
    with pytest.raises(TransportError):
        await connect_websocket("ws://127.0.0.1:9/")


@pytest.mark.parametrize(
    "wrong", [{"rate": 16000}, {"framing": Framing.RAW, "rate": 7}, {"frame_ms": 15}]
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AgentSettings(**wrong)


def test_an_agent_that_is_gone_at_once_leaves_the_engine_nothing_to_refuse(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(call: Call) -> None:
        for turns in range(6):
            running = asyncio.ensure_future(call.speech(RATE).run(_nobody))
            for _ in range(turns):  # it is gone before the engine has heard of it, or just then
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(0.2)

    two_phones(talk, calling=MediaConfig(), answering=MediaConfig())
    assert "refused" not in caplog.text
