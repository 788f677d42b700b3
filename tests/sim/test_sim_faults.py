"""A whole call in which one thing goes wrong, wherever something can (row H02).

Registered phones and a proxy; the call is rung, answered, played to, recorded, held, resumed,
keyed, transferred and hung up. Whatever goes wrong, and whenever: the caller gets an error of ours
or its cancellation, nobody waits for ever, and nothing is left of the call.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import numpy as np
import pytest
from faults import BrokenError, Points, Seam, in_use, unreachable

from voip import Softphone
from voip.call import Call
from voip.config import CallConfig, NetworkConfig
from voip.errors import AudioFileError, MediaError, SipError, TransportError, VoipError
from voip.events import CallEnded
from voip.harness.soak.census import left_in_phone, left_in_proxy
from voip.media.play.source import PlaySource
from voip.media.record.sink import RecordingSink
from voip.media.rings import RingArena
from voip.proxy import SipProxy
from voip.session.session import CallSession
from voip.sim import Path, World
from voip.sim.datagrams import UdpPort
from voip.sim.media import PhoneMedia
from voip.sim.packets import SimPacketIO
from voip.sim.sip_network import SimSipNetwork
from voip.sip.transactions import Transactions

USERS = {"alice": "secret a", "bob": "secret b", "carol": "secret c"}
PROXY = "10.0.0.9"
SEED = 5
PATIENCE_S = 120.0
"""Virtual time in which Alice's program has to come to its end."""
AFTERMATH_S = 240.0
"""Virtual time after which nothing may be left: the longest transaction takes 64*T1 + Timer D."""
SEAMS = [
    Seam(UdpPort, "send", unreachable),
    Seam(SimSipNetwork, "udp", in_use),
    Seam(SimSipNetwork, "listen", in_use),
    Seam(SimSipNetwork, "connect", lambda: TransportError("nobody listens")),
    Seam(SimSipNetwork, "naptr", lambda: TransportError("the DNS is silent")),
    Seam(SimSipNetwork, "srv", lambda: TransportError("the DNS is silent")),
    Seam(SimSipNetwork, "addresses", lambda: TransportError("the DNS is silent")),
    Seam(SimSipNetwork, "local_address_toward", lambda: TransportError("there is no route")),
    Seam(PhoneMedia, "apply", lambda: MediaError("the engine refuses")),
    Seam(PhoneMedia, "post", lambda: MediaError("the engine is not running")),
    Seam(SimPacketIO, "open", lambda: TransportError("no free pair of RTP ports")),
    Seam(SimPacketIO, "connect", lambda: TransportError("cannot be reached")),
    Seam(RingArena, "allocate", lambda: MediaError("audio rings are in use")),
    Seam(PlaySource, "service", lambda: AudioFileError("the disk is gone")),
    Seam(RecordingSink, "service", lambda: AudioFileError("the disk is full")),
    Seam(Transactions, "check_room", lambda: SipError("too much is going on", status=503)),
]


@dataclass
class Run:
    """One run. `outcome`: how Alice's program ended; `wrong`: what should not have been."""

    points: Points
    outcome: BaseException | str = "did not end"
    wrong: list[str] = field(default_factory=list)


class Complaints(logging.Handler):
    """What was logged as an error, but for what the application itself did not take."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        by_handler = text.startswith("Scene.") and isinstance(error, VoipError)
        if not (by_handler or isinstance(error, BrokenError | asyncio.CancelledError)):
            self.found.append(f"logged: {text} {error!r}")


class Scene:
    """Three phones, their proxy, and a world that is made anew for each run."""

    def __init__(self, points: Points, directory: FilePath, transport: str) -> None:
        self.points = points
        self._transport = transport
        self.run = Run(points)
        self.world = World(SEED, path=Path(delay_s=0.005))
        self.world.dns.add("home.example", PROXY)
        self.hosts = {
            name: self.world.host(address, name=name)
            for name, address in [
                ("proxy", PROXY),
                ("alice", "10.0.0.1"),
                ("bob", "10.0.0.2"),
                ("carol", "10.0.0.3"),
            ]
        }
        self._phones: dict[str, Softphone] = {}
        self._recording = directory / "heard.wav"

    def play(self) -> Run:
        """Let it happen, and look at what is left."""
        complaints = Complaints()
        logging.getLogger().addHandler(complaints)
        try:
            with self.points.at_seams(SEAMS):
                self.world.run(self._main())
        finally:
            logging.getLogger().removeHandler(complaints)
        self.run.wrong += complaints.found
        return self.run

    # ------------------------------------------------------------ what happens

    def _phone(self, name: str) -> Softphone:
        phone = Softphone(
            f"sip:{name}@home.example",
            password=USERS[name],
            expires_s=3600,
            network=NetworkConfig(bind_host=self.hosts[name].address, transport=self._transport),
            calling=CallConfig(media_timeout_s=10.0, session_timer="off"),
            trace=self.points.callback(f"{name}'s trace", lambda record: None),
        )
        phone.on_transfer(self.points.callback(f"{name} is asked to transfer", lambda asked: True))
        phone.on_incoming(self._bob if name == "bob" else self._carol)
        self._phones[name] = phone
        return phone

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, context: self.run.wrong.append(f"nobody took: {context}")
        )
        with self.hosts["proxy"].here():
            proxy = SipProxy(USERS, PROXY, 5060, domains=["home.example"])
            await proxy.__aenter__()
        for name in ("bob", "carol"):
            await self.hosts[name].run(self._phone(name).start())
        before = asyncio.all_tasks()
        self.points.counting = True
        alice = self.hosts["alice"].create_task(self._cancelled_alice(), name="Alice")
        await asyncio.wait([alice], timeout=PATIENCE_S)
        self.points.counting = False
        self._judge(alice)
        await self._aftermath(proxy)
        left = [task.get_name() for task in asyncio.all_tasks() - before]
        self.run.wrong += [f"a task is left: {name}" for name in left]
        for name in ("bob", "carol"):
            await self._phones[name].close()
        await proxy.__aexit__()
        await asyncio.sleep(0.1)  # what is under way arrives
        self._look_at_machines()

    def _judge(self, alice: asyncio.Task[None]) -> None:
        run, struck = self.run, self.points.struck or ""
        if not alice.done():
            run.wrong.append("Alice's program never ended")
        elif alice.cancelled():
            run.outcome = asyncio.CancelledError()
            if not struck.startswith("Alice is cancelled"):
                run.wrong.append("Alice was cancelled, and nobody had asked for that")
        else:
            error = alice.exception()
            run.outcome = error or "well"
            breaks = struck.startswith("Alice breaks") and isinstance(error, BrokenError)
            if not (error is None or breaks or isinstance(error, VoipError)):
                run.wrong.append(f"Alice had {error!r}")
            if struck.startswith("Alice is cancelled"):
                run.wrong.append(f"Alice went on though she was cancelled: {run.outcome!r}")

    async def _aftermath(self, proxy: SipProxy) -> None:
        """Wait until nothing is left, or too long for that."""
        for _ in range(int(AFTERMATH_S)):
            if not (left := self._left(proxy)):
                return
            await asyncio.sleep(1)
        self.run.wrong += [f"left: {one}" for one in left]

    def _left(self, proxy: SipProxy) -> list[str]:
        found = [f"proxy: {left_in_proxy(proxy)}"] if left_in_proxy(proxy) else []
        for name, phone in self._phones.items():
            if name == "alice":
                held = {
                    "calls": len(phone.calls),
                    "tasks": len(phone._tasks),
                    "sessions": len(phone._stack.sessions) if hasattr(phone, "_stack") else 0,
                }
                left = {what: count for what, count in held.items() if count}
            else:
                left = left_in_phone(phone)
            if left:
                found.append(f"{name}: {left}")
        for engine in self.world.media._engines.values():
            if engine._engine.streams or len(engine.arena) or engine._waiting or engine._watchers:
                found.append(
                    f"engine: {engine._engine.streams} streams, {len(engine.arena)} rings,"
                    f" {len(engine._waiting)} commands, {len(engine._watchers)} watchers"
                )
        return found

    def _look_at_machines(self) -> None:
        timers = [timer for timer in self.world._loop._scheduled if not timer.cancelled()]
        self.run.wrong += [f"a timer is left: {timer}" for timer in timers]
        for host in self.hosts.values():
            for what, ports in (("udp", host.udp), ("tcp", host.tcp)):
                if ports._owners:  # type: ignore[attr-defined]
                    self.run.wrong.append(f"{host}: {what} ports are bound: {ports._owners}")  # type: ignore[attr-defined]

    async def _cancelled_alice(self) -> None:
        await self.points.waiting("Alice", self._alice(), breaks=True)

    async def _alice(self) -> None:
        async with self._phone("alice") as phone:
            call = await phone.dial("bob", timeout=10)
            call.on_event(self.points.callback("Alice's on_event", lambda event: None))
            async with call, asyncio.timeout(60), call.record(self._recording):
                await call.play(np.zeros(800, np.int16))
                await call.hold()
                await call.resume()
                await call.send_dtmf("1")
                await call.audio().read(0.05)
                await call.transfer("carol", timeout=10)

    async def _bob(self, call: Call) -> None:
        await self.points.waiting("Bob", self._talk(call), breaks=True)

    async def _talk(self, call: Call) -> None:
        call.on_event(self.points.callback("Bob's on_event", lambda event: None))
        await call.ring()
        await call.answer()
        await call.collect(1, timeout=5)
        await call.echo()
        await call.wait_ended()

    async def _carol(self, call: Call) -> None:
        await self.points.waiting("Carol", self._talk_shortly(call), breaks=True)

    async def _talk_shortly(self, call: Call) -> None:
        await call.answer()
        await asyncio.sleep(0.1)
        await call.hangup()


class Trial:
    """Runs of one scene over one transport, each with another fault."""

    def __init__(self, directory: FilePath, transport: str) -> None:
        self._directory = directory
        self._transport = transport
        run = self._play(None)
        assert run.outcome == "well", run.outcome
        assert run.wrong == []
        self.names = run.points.names
        self.outcomes: Counter[str] = Counter()

    def _play(self, at: int | None) -> Run:
        return Scene(Points(at), self._directory, self._transport).play()

    def strike(self, chosen: Iterable[int]) -> None:
        """Let each of these points go wrong."""
        wrong: list[str] = []
        for at in chosen:
            run = self._play(at)
            assert run.points.struck == self.names[at], "a run does not repeat"
            how = run.outcome if isinstance(run.outcome, str) else type(run.outcome).__name__
            self.outcomes[how] += 1
            wrong += [f"{at}, {self.names[at]}: {what}" for what in run.wrong]
        assert not wrong, "\n".join(wrong)
        print(
            f"{self._transport}: {sum(self.outcomes.values())} of {len(self.names)} points,"
            f" {len(set(self.names))} different: {dict(self.outcomes)}"
        )


def test_a_run_notices_what_is_left_and_what_is_raised(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(session: CallSession, end: CallEnded) -> None:
        session.emit(end)

    async def break_off(scene: Scene) -> None:
        asyncio.get_running_loop().call_later(1e6, print)
        raise ValueError("not ours")

    monkeypatch.setattr("test_sim_faults.AFTERMATH_S", 40.0)
    with monkeypatch.context() as patch:
        patch.setattr(CallSession, "_close", forget)
        (left,) = Scene(Points(), tmp_path, "udp").play().wrong
        assert left.startswith("left: engine: 3 streams")
    monkeypatch.setattr(Scene, "_alice", break_off)
    raised, timer = Scene(Points(), tmp_path, "udp").play().wrong
    assert "not ours" in raised
    assert "a timer is left" in timer


@pytest.mark.long
@pytest.mark.parametrize(("transport", "tried"), [("udp", 50), ("tcp", 20)])
def test_a_call_in_which_one_thing_goes_wrong_leaves_nothing_behind(
    tmp_path: FilePath, transport: str, tried: int
) -> None:
    trial = Trial(tmp_path, transport)
    trial.strike(sorted(random.Random(SEED).sample(range(len(trial.names)), tried)))
    assert len(trial.outcomes) > 3


@pytest.mark.matrix
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nothing_is_left_wherever_one_thing_goes_wrong(tmp_path: FilePath, transport: str) -> None:
    trial = Trial(tmp_path, transport)
    trial.strike(range(len(trial.names)))
    assert len(trial.names) > 200


@pytest.mark.parametrize("breaths", range(0, 24, 3))
def test_closing_that_is_cancelled_at_any_time_gives_back_all_that_is_listened_to_by(
    tmp_path: FilePath, breaths: int
) -> None:
    """Cancelled, it waits for nobody: not for what makes the recordings whole, one by one."""
    world = World(SEED, path=Path(delay_s=0.005))
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]

    async def answer(call: Call) -> None:
        await call.answer()
        await call.wait_ended()

    async def main() -> None:
        with hosts[1].here():
            here = NetworkConfig(bind_host="10.0.0.2", bind_port=5060)
            bob = Softphone("sip:bob@10.0.0.2", register=False, network=here)
            bob.on_incoming(answer)
            await bob.start()
        await hosts[0].run(talk())
        await bob.close()

    async def talk() -> None:
        phone = Softphone("sip:alice@10.0.0.1", register=False)
        await phone.start()
        call = await phone.dial("sip:bob@10.0.0.2")
        for number in range(3):
            await call.record(tmp_path / f"{number}.wav").start()
            await call.audio().read(0.02)
        assert len(phone._stack.arena) == 6
        hanging_up = asyncio.ensure_future(call.hangup())
        await call.wait_ended()
        for _ in range(breaths):
            await asyncio.sleep(0)
        closing = asyncio.ensure_future(phone.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, hanging_up])
        await asyncio.sleep(1)
        assert len(phone._stack.arena) == 0
        assert [path.stat().st_size > 44 for path in sorted(tmp_path.iterdir())] == [True] * 3

    world.run(main())
