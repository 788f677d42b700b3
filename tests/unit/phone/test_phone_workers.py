"""A phone whose calls are spread over engines in processes of their own, on real sockets.

`server` has two of them; `alice` calls it, and her engine is a thread. Tones tell who hears whom.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import test_phone_calls as calls
from loopback_phones import Pair, phone, tone, two_phones, uri
from stalls import repeated_after_stalls

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig
from voip.errors import CallStateError
from voip.events import CallEnded, CallState, EndedBy
from voip.net.driver import ThreadDriver
from voip.net.process_driver import ProcessDriver
from voip.net.workers import Workers
from voip.sip.reason import Reason

pytestmark = pytest.mark.realtime

TONES_HZ = (500, 800, 1100, 1400, 1700)
TWO = MediaConfig(engine="process", workers=2)


@asynccontextmanager
async def spread(calls: int, media: MediaConfig = TWO) -> AsyncIterator[_Scene]:
    """Alice's calls to a server, which has answered all of them one after the other."""
    arrived: asyncio.Queue[Call] = asyncio.Queue()
    async with phone(media=media) as server, phone() as alice:

        @server.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            await arrived.put(call)
            await call.wait_ended()

        assert isinstance(server.driver, Workers)
        await all_ready(server.driver, media.workers if media.engine == "process" else 0)
        mine = [await alice.dial(uri(server)) for _ in range(calls)]
        theirs = [await arrived.get() for _ in range(calls)]
        yield _Scene(server, alice, mine, theirs, arrived)


async def all_ready(workers: Workers, processes: int) -> None:
    """Wait until so many processes tick: they take a second to start."""
    async with asyncio.timeout(20):
        while sum(isinstance(one, ProcessDriver) and one.is_ready for one in workers.drivers) < (
            processes
        ):
            await asyncio.sleep(0.02)


class _Scene:
    def __init__(
        self,
        server: Softphone,
        alice: Softphone,
        mine: list[Call],
        theirs: list[Call],
        arrived: asyncio.Queue[Call],
    ) -> None:
        self.server, self.alice, self.mine, self.theirs = server, alice, mine, theirs
        self.arrived = arrived

    @property
    def workers(self) -> Workers:
        driver = self.server.driver
        assert isinstance(driver, Workers)
        return driver

    def engine_of(self, call: Call) -> int | None:
        return self.workers.engine_of(call._session.media.stream)


async def heard_by(calls: Sequence[Call], seconds: float = 0.6) -> list[npt.NDArray[np.int16]]:
    """Let each of Alice's calls say a tone of its own; return what each heard after a while."""
    speaking = [
        asyncio.create_task(call.play(tone(seconds + 1.0, hz)))
        for call, hz in zip(calls, TONES_HZ, strict=False)
    ]

    async def listen(call: Call) -> npt.NDArray[np.int16]:
        async with call.audio(20) as reader:
            await reader.read(0.4)
            return await reader.read(seconds)

    heard = await asyncio.gather(*(listen(call) for call in calls))
    for task in speaking:
        task.cancel()
    await asyncio.gather(*speaking, return_exceptions=True)
    return heard


def tones_in(pcm: npt.NDArray[np.int16]) -> set[int]:
    """Which of the tones are in it, loud enough to be one that was said."""
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size))) * 4 / pcm.size
    bins = {hz: round(hz * pcm.size / 8000) for hz in TONES_HZ}
    return {hz for hz, at in bins.items() if spectrum[at - 1 : at + 2].max() > 2000}


def level_of(pcm: npt.NDArray[np.int16], hz: int) -> float:
    """Amplitude of a tone in it."""
    n = np.arange(pcm.size)
    return float(2 * np.abs(np.mean(pcm * np.exp(-2j * np.pi * hz * n / 8000))))


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def shared_blocks() -> list[str]:
    return [path.name for path in Path("/dev/shm").iterdir() if "voip" in path.name]


@pytest.mark.long
@repeated_after_stalls
async def test_bridged_calls_and_conferences_of_two_engines_hear_each_other() -> None:
    async with spread(4) as scene:
        assert [scene.engine_of(call) for call in scene.theirs] == [0, 1, 0, 1]
        # an echo and two bridges: within an engine, and across
        await scene.theirs[0].bridge(scene.theirs[1])
        await scene.theirs[2].echo()
        heard = await heard_by(scene.mine)
        assert [tones_in(pcm) for pcm in heard] == [{800}, {500}, {1100}, set()]
        for pcm, hz in zip(heard, (800, 500), strict=False):
            assert level_of(pcm, hz) == pytest.approx(8000, rel=0.05)  # whole, without a gap
        await scene.theirs[0].bridge(scene.theirs[2])  # 1 still hears 0
        heard = await heard_by(scene.mine)
        assert [tones_in(pcm) for pcm in heard] == [{1100}, {500}, {500}, set()]

        async with await scene.server.conference(*scene.theirs[:3]) as conference:
            await scene.theirs[0]._session.media.route(None)
            for call in scene.theirs[1:3]:
                await call._session.media.route(None)
            saying = asyncio.create_task(conference.play(tone(2.5, 1700)))
            async with conference.audio(20) as ear:
                heard = await heard_by(scene.mine)
                sum_of_all = await ear.read(0.8)
            assert [tones_in(pcm) for pcm in heard] == [
                {800, 1100, 1700}, {500, 1100, 1700}, {500, 800, 1700}, set(),
            ]  # fmt: skip
            assert tones_in(sum_of_all[3200:]) >= {500, 800, 1100}
            await saying
            # the engine that served the conference's own voice loses its last member
            await conference.remove(scene.theirs[0])
            await conference.remove(scene.theirs[2])
            await conference.add(scene.theirs[3])
            saying = asyncio.create_task(conference.play(tone(2.0, 1700)))
            heard = await heard_by(scene.mine)
            assert [tones_in(pcm) for pcm in heard] == [set(), {1400, 1700}, set(), {800, 1700}]
            await saying
        for call in (scene.mine[1], scene.mine[3]):
            await asyncio.wait_for(call.wait_ended(), 5)


@pytest.mark.long
@repeated_after_stalls
async def test_whispers_and_announcements_reach_parties_in_other_engines() -> None:
    async with spread(3) as scene:
        coach, agent, customer = scene.theirs
        assert [scene.engine_of(call) for call in scene.theirs] == [0, 1, 0]
        async with await scene.server.conference(coach, agent, customer) as conference:
            for call in scene.theirs:
                await call._session.media.route(None)
            await conference.coach(coach, agent)
            heard = await heard_by(scene.mine)
            assert [tones_in(pcm) for pcm in heard] == [{800, 1100}, {500, 1100}, {800}]
            await conference.whisper(coach)
            await conference.listen(customer, agent)
            heard = await heard_by(scene.mine)
            assert [tones_in(pcm) for pcm in heard] == [{800, 1100}, {500, 1100}, {800}]


@pytest.mark.long
@repeated_after_stalls
async def test_a_process_that_is_killed_ends_its_calls_alone_and_is_replaced() -> None:
    async with spread(4) as scene:
        await scene.theirs[0].bridge(scene.theirs[1])
        await scene.theirs[2].bridge(scene.theirs[3])
        pids = scene.workers.pids
        assert len(pids) == 2
        await asyncio.sleep(1.1)  # until there are figures
        os.kill(pids[0], signal.SIGKILL)
        for mine, theirs in zip(scene.mine[::2], scene.theirs[::2], strict=True):
            end = await asyncio.wait_for(theirs.wait_ended(), 5)
            assert (end.by, end.status) == (EndedBy.FAILURE, 500)
            assert "SIGKILL" in end.reason
            assert (await asyncio.wait_for(mine.wait_ended(), 5)).by is EndedBy.REMOTE
            assert mine.end_reasons == [Reason("SIP", 500, end.reason)]  # of the BYE
            ends = [event async for event in theirs.events() if isinstance(event, CallEnded)]
            assert ends == [end]
            assert theirs.stats.packets_received > 20, "its figures are lost"
            with pytest.raises(CallStateError):
                await theirs.play(tone(0.1))
        assert [call.state for call in scene.theirs[1::2]] == [CallState.ACTIVE] * 2
        await scene.theirs[1].bridge(scene.theirs[3])  # what it was bridged with is gone
        assert [tones_in(pcm) for pcm in await heard_by(scene.mine[1::2])] == [{800}, {500}]

        await all_ready(scene.workers, 2)
        new = await scene.alice.dial(uri(scene.server))
        answered = await scene.arrived.get()
        assert scene.engine_of(answered) == 0
        await answered.bridge(scene.theirs[1])
        assert [tones_in(pcm) for pcm in await heard_by([new, scene.mine[1]])] == [{800}, {500}]
        assert is_gone(pids[0]) and pids[0] not in scene.workers.pids


async def test_nothing_is_left_of_processes_when_a_phone_closes(tmp_path: Path) -> None:
    def in_use() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = in_use()
    async with spread(2, MediaConfig(engine="process")) as scene:
        (pid,) = scene.workers.pids
        await scene.theirs[0].bridge(scene.theirs[1])
        async with scene.theirs[0].record(tmp_path / "x.wav") as recording:
            await scene.mine[0].play(tone(0.3))
        assert recording.duration_s > 0.25
        arena = scene.server._stack.arena
    assert is_gone(pid)
    assert len(arena) == 0
    del scene, arena, recording
    assert in_use() == before
    assert shared_blocks() == []


async def test_a_phone_that_is_closed_at_once_waits_for_no_process() -> None:
    async with phone(media=TWO) as server:
        assert isinstance(server.driver, Workers)
        pids = server.driver.pids
        assert len(pids) == 2
    assert all(is_gone(pid) for pid in pids)


@pytest.mark.long
async def test_streams_beyond_what_a_thread_has_are_a_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("voip.net.workers.THREAD_STREAMS", 2)
    async with spread(2, MediaConfig()) as scene:
        assert isinstance(scene.workers.drivers[0], ThreadDriver)
        assert [scene.engine_of(call) for call in scene.theirs] == [0, 0]
        await all_ready(scene.workers, 1)
        scene.mine.append(await scene.alice.dial(uri(scene.server)))
        scene.theirs.append(await scene.arrived.get())
        assert scene.engine_of(scene.theirs[2]) == 1
        await scene.theirs[2].bridge(scene.theirs[0])
        heard = await heard_by([scene.mine[0], scene.mine[2]])
        assert [tones_in(pcm) for pcm in heard] == [{800}, {500}]
        await asyncio.sleep(1.1)
        figures = scene.workers.figures()
        assert figures.snapshot is not None and len(figures.snapshot.rows) == 3
        assert [call.stats.packets_received > 40 for call in scene.theirs] == [True] * 3


@pytest.mark.long
@pytest.mark.parametrize(
    "story",
    [
        calls.test_a_call_rings_is_answered_and_hung_up_by_the_caller,
        calls.test_sound_goes_both_ways_and_the_callee_hangs_up,
        calls.test_hold_and_resume_by_either_side,
        calls.test_a_call_of_ours_is_cancelled_while_it_rings,
        calls.test_calls_go_over_tcp,
    ],
)
async def test_what_holds_for_an_engine_in_a_thread_holds_for_one_in_a_process(
    story: Callable[[Pair], Awaitable[None]],
) -> None:
    async with two_phones(media=MediaConfig(engine="process")) as pair:
        await story(pair)


@pytest.mark.long
async def test_a_capture_has_the_packets_of_a_process(tmp_path: Path) -> None:
    path = tmp_path / "all.pcap"
    async with (
        phone(media=MediaConfig(engine="process"), pcap=path) as server,
        phone() as alice,
    ):

        @server.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            await call.echo()
            await call.wait_ended()

        call = await alice.dial(uri(server))
        await call.play(tone(0.5))
        port = call._session.media.agreed.remote_rtp.port  # type: ignore[union-attr]
    ports = [struct.unpack_from("!HH", one, 20) for one in packets_of(path.read_bytes())]
    assert sum(source == port for source, _ in ports) > 10
    assert sum(destination == port for _, destination in ports) > 10


def packets_of(pcap: bytes) -> Iterator[bytes]:
    """Yield the IP packets of a capture file."""
    at = 24
    while at < len(pcap):
        length = int.from_bytes(pcap[at + 8 : at + 12], "big")
        yield pcap[at + 16 : at + 16 + length]
        at += 16 + length
