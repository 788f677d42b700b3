"""Calls in a simulated world that have to cope: drift, cuts, resets, NATs, TCP and TLS."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath

import numpy as np
import pytest
from callers import echo
from certificates import Authority

from voip import Softphone
from voip.call import Call
from voip.config import NetworkConfig, TlsConfig
from voip.errors import CallError, RequestError
from voip.events import CallEnded, Registered
from voip.harness.pbx import EmbeddedPbx
from voip.media.answers import Opened
from voip.media.answers import StreamStats as Figures
from voip.media.commands import ConnectStream, OpenStream, PayloadFormat, ReadStats
from voip.sim import Host, Nat, NatType, Path, World
from voip.types import Address

RATE = 8000
BOB = NetworkConfig(bind_port=5060)
PBX = "203.0.113.1"


def syllables(seconds: float, seed: int = 7) -> np.ndarray:
    """Noise that is loud and silent by turns: in its pauses a jitter buffer can adapt."""
    count = round(seconds * RATE)
    noise = np.random.default_rng(seed).normal(0, 3000, count)
    return (noise * (np.arange(count) // 2000 % 2)).astype(np.int16)


async def answering(host: Host, handle: Callable[[Call], Awaitable[None]]) -> Softphone:
    """Start a phone at port 5060 of `host`; return it."""
    with host.here():
        phone = Softphone(f"sip:bob@{host.address}", register=False, network=BOB)
        phone.on_incoming(handle)
        await phone.start()
    return phone


def two_hosts(path: Path, **drift: float) -> tuple[World, Host, Host]:
    world = World(2, path=path)
    return world, world.host("10.0.0.1", **drift), world.host("10.0.0.2")


# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize("ppm", [4000, pytest.param(-4000, marks=pytest.mark.long)])
def test_a_clock_that_drifts_by_180_ms_is_followed_by_the_jitter_buffer(ppm: float) -> None:
    """180 ms in 45 s is what 100 ppm are in half an hour: `voip bench sim --drift-ppm 100`."""
    world, alice, bob = two_hosts(Path(delay_s=0.03, jitter_s=0.01), drift_ppm=ppm)
    figures: dict[str, Figures] = {}

    async def listen(call: Call) -> None:
        await call.answer()
        playing = asyncio.ensure_future(call.play(syllables(50)))
        await call.wait_ended()
        figures["bob"] = call.stats
        await playing

    async def call() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
            one = await phone.dial("sip:bob@10.0.0.2")
            playing = asyncio.ensure_future(one.play(syllables(50)))
            await asyncio.sleep(45)
            figures["alice"] = await one.measure()
            await one.hangup()
            await playing

    async def main() -> None:
        phone = await answering(bob, listen)
        await alice.run(call())
        assert world.elapsed == pytest.approx(45 / (1 + ppm * 1e-6), abs=0.5)
        await phone.close()

    world.run(main())
    for side, heard in figures.items():
        assert heard.packets_received > 2200, side
        assert heard.packets_lost == 0
        assert heard.delay_ms is not None and heard.delay_ms < 100  # 180 ms did not pile up
        corrected = heard.accelerated_ms + heard.expanded_ms + heard.concealed_ms
        assert 120 < corrected < 1500, side  # ... because that much was left out or added
        assert heard.packets_late < 0.01 * heard.packets_received


# ---------------------------------------------------------------- cuts and resets


def test_a_call_outlives_a_cut_of_twenty_seconds_and_the_sound_comes_back() -> None:
    world, alice, bob = two_hosts(Path(delay_s=0.03))

    async def call() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
            one = await phone.dial("sip:bob@10.0.0.2")
            asyncio.get_running_loop().call_later(3, world.cut, alice, bob, 20)
            playing = asyncio.ensure_future(one.play(syllables(28)))
            await asyncio.sleep(22)
            before = (await one.measure()).packets_received
            await asyncio.sleep(6)
            after = await one.measure()
            assert before == pytest.approx(150, abs=5)
            assert after.packets_received == pytest.approx(before + 250, abs=5)
            assert after.packets_lost == pytest.approx(1000, abs=5)
            await playing
            await one.hangup()

    async def main() -> None:
        phone = await answering(bob, echo)
        await alice.run(call())
        await phone.close()

    world.run(main())


def test_a_cut_that_does_not_end_ends_the_call_on_both_sides() -> None:
    world, alice, bob = two_hosts(Path(delay_s=0.03))
    ended: list[CallEnded] = []

    async def note(call: Call) -> None:
        await call.answer()
        ended.append(await call.wait_ended())

    async def call() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
            one = await phone.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(10)
            world.cut(alice, bob)
            ended.append(await one.wait_ended())
            assert 40 < world.elapsed < 60

    async def main() -> None:
        phone = await answering(bob, note)
        await alice.run(call())
        await asyncio.sleep(10)
        assert phone.calls == []
        await phone.close()

    world.run(main())
    assert len(ended) == 2
    assert all(one.reason for one in ended)


def test_dialling_over_a_cut_is_given_up_after_its_time_out() -> None:
    world, alice, bob = two_hosts(Path())

    async def call() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
            with pytest.raises(CallError):
                await phone.dial("sip:bob@10.0.0.2", timeout=60)
            assert 30 < world.elapsed < 35  # timer B

    world.cut(alice, bob)
    world.run(call(), on=alice)


# ---------------------------------------------------------------- registered


async def pbx_on(host: Host) -> EmbeddedPbx:
    with host.here():
        pbx = EmbeddedPbx(host.address, 5060)
        await pbx.__aenter__()
    return pbx


def home() -> tuple[World, Host, Nat, Host]:
    """A PBX, and a host behind a NAT that forgets after a minute."""
    world = World(4, path=Path(delay_s=0.03, loss=0.05))
    world.dns.add("pbx.example", PBX)
    pbx_host = world.host(PBX)
    nat = world.nat("198.51.100.1", NatType.PORT_RESTRICTED, udp_timeout_s=60)
    return world, pbx_host, nat, world.host("192.168.1.2", behind=nat)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_phone_behind_a_nat_is_reached_by_its_name_through_the_pbx(transport: str) -> None:
    world, pbx_host, _, inside = home()

    async def main() -> None:
        pbx = await pbx_on(pbx_host)
        rang: list[str] = []
        with inside.here():
            phone = Softphone(
                "sip:1001@pbx.example",
                password="secret1001",
                network=NetworkConfig(transport=transport),
            )

            @phone.on_incoming
            async def answer(call: Call) -> None:
                rang.append(call.remote)
                await call.answer()
                await call.wait_ended()

            await phone.start()
        assert phone.registered
        assert pbx.contacts("1001")
        outside = world.host("203.0.113.7")

        async def call() -> None:
            uri = "sip:1002@pbx.example"
            async with Softphone(uri, password="secret1002", register=False) as other:
                one = await other.dial("1001")
                await asyncio.sleep(1)
                await one.hangup()

        await outside.run(call())
        assert len(rang) == 1
        await phone.close()
        await pbx.__aexit__(None, None, None)

    world.run(main())


def test_a_connection_that_is_reset_is_opened_again_and_registered_over_at_once() -> None:
    world, pbx_host, _, inside = home()

    async def main() -> None:
        pbx = await pbx_on(pbx_host)
        with inside.here():
            phone = Softphone(
                "sip:1001@pbx.example",
                password="secret1001",
                network=NetworkConfig(transport="tcp"),
            )
            await phone.start()
        await asyncio.sleep(100)
        assert world.reset(inside, pbx_host) == 1
        await asyncio.sleep(20)
        assert phone.registered
        registered = 0
        await phone.close()
        async for event in phone.events():
            registered += isinstance(event, Registered)
        assert registered >= 2
        await pbx.__aexit__(None, None, None)

    world.run(main())


def test_phones_talk_tls_over_simulated_streams(tmp_path: FilePath) -> None:
    authority = Authority(tmp_path)
    world, alice, bob = two_hosts(Path(delay_s=0.03, loss=0.02))
    world.dns.add("bob.example", bob.address)
    certificate = str(authority.issue("bob.example"))
    said: list[bool] = []

    async def main() -> None:
        with bob.here():
            network = NetworkConfig(
                bind_port=5060, tls=TlsConfig(certificate=certificate), tls_port=5061
            )
            phone = Softphone("sip:bob@bob.example", register=False, network=network)
            phone.on_incoming(echo)
            await phone.start()

        async def call() -> None:
            network = NetworkConfig(transport="tls", tls=TlsConfig(ca_file=str(authority.file)))
            async with Softphone(
                "sip:alice@alice.example", register=False, network=network
            ) as caller:
                one = await caller.dial("sip:bob@bob.example:5061;transport=tls")
                await one.play(syllables(2))
                said.append((await one.measure()).packets_received > 50)
                await one.hangup()

        await alice.run(call())
        await phone.close()

    world.run(main())
    assert said == [True]


# ---------------------------------------------------------------- captures, programs, limits


def test_a_phone_s_own_capture_has_the_time_of_day_of_its_host(tmp_path: FilePath) -> None:
    world = World(1, start=1_000_000_000, path=Path(delay_s=0.25))
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")
    pcap = tmp_path / "alice.pcap"

    async def call() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False, pcap=pcap) as phone:
            one = await phone.dial("sip:bob@10.0.0.2")
            await asyncio.sleep(5)
            await one.hangup()

    async def main() -> None:
        phone = await answering(bob, echo)
        await alice.run(call())
        await phone.close()

    world.run(main())
    data, at, times = pcap.read_bytes(), 24, []
    while at < len(data):
        seconds, micros, kept, _ = struct.unpack_from("!IIII", data, at)
        times.append(seconds + micros / 1e6)
        at += 16 + kept
    assert len(times) > 400
    assert times[0] == 1_000_000_000
    assert max(times) == pytest.approx(1_000_000_006, abs=1)


class EchoPort(asyncio.DatagramProtocol):
    """A program that sends datagrams back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]


@pytest.mark.parametrize("behind", [False, True])
def test_a_stream_and_a_program_exchange_packets(behind: bool) -> None:
    world = World(1, path=Path(delay_s=0.03))
    nat = world.nat("9.9.9.9", NatType.SYMMETRIC) if behind else None
    phone, program = world.host("10.0.0.1", behind=nat), world.host("9.0.0.2")
    pcmu = PayloadFormat(0, "pcmu")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with program.here():
            await loop.create_datagram_endpoint(EchoPort, (program.address, 4000))
        plane = phone.platform.media(phone.random("test"), (10000, 10009), None)
        driver, stream = plane.driver, next(plane.streams)
        driver.start()
        opened = await driver.apply(OpenStream(stream, phone.address, "cname"))
        assert isinstance(opened, Opened)
        assert 10000 <= opened.rtp.port <= 10008
        peer = Address(program.address, 4000)
        await driver.apply(ConnectStream(stream, peer, None, pcmu, (pcmu,)))
        await asyncio.sleep(2)
        figures = await driver.apply(ReadStats(stream))
        assert isinstance(figures, Figures)
        assert figures.packets_sent > 95
        assert figures.packets_received == pytest.approx(figures.packets_sent, abs=5)
        assert figures.packets_from_strangers == 0
        await driver.close()

    world.run(main())


def test_a_phone_whose_rtp_ports_are_taken_says_so() -> None:
    world, alice, bob = two_hosts(Path())

    async def call() -> None:
        network = NetworkConfig(rtp_ports=(10000, 10003))
        async with Softphone("sip:alice@10.0.0.1", register=False, network=network) as phone:
            for _ in range(2):
                await phone.dial("sip:bob@10.0.0.2")
            with pytest.raises(CallError, match="no free pair of RTP ports"):
                await phone.dial("sip:bob@10.0.0.2")

    async def main() -> None:
        phone = await answering(bob, echo)
        await alice.run(call())
        await phone.close()

    world.run(main())


def test_servers_are_found_by_srv_and_the_next_is_taken_where_one_is_cut_off() -> None:
    world = World(3, path=Path(delay_s=0.03))
    caller, first, second = (world.host(f"10.0.0.{n}") for n in (1, 2, 3))
    for priority, (name, host) in enumerate((("one", first), ("two", second))):
        world.dns.add(f"{name}.office.example", host.address)
        world.dns.add_srv(
            "_sip._udp.office.example", f"{name}.office.example", 5060, priority=priority
        )
    world.cut(caller, first)
    rang: list[str] = []

    def at(name: str) -> Callable[[Call], Awaitable[None]]:
        async def answer(call: Call) -> None:
            rang.append(name)
            await echo(call)

        return answer

    async def call() -> None:
        async with Softphone("sip:alice@alice.example", register=False) as phone:
            one = await phone.dial("sip:bob@office.example", timeout=60)
            await one.hangup()

    async def main() -> None:
        phones = [await answering(first, at("first")), await answering(second, at("second"))]
        await caller.run(call())
        for phone in phones:
            await phone.close()

    world.run(main())
    assert rang == ["second"]
    assert 4 < world.elapsed < 5


@pytest.mark.long
def test_three_hundred_calls_leave_nothing_behind() -> None:
    world, alice, bob = two_hosts(Path(delay_s=0.01))

    async def calls() -> None:
        async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
            for _ in range(3):
                dialled = [phone.dial("sip:bob@10.0.0.2") for _ in range(100)]
                for one in await asyncio.gather(*dialled):
                    await one.hangup()

    async def main() -> None:
        phone = await answering(bob, echo)
        await alice.run(calls())
        await asyncio.sleep(60)
        assert phone.calls == []
        (engine,) = world.media._engines.values()
        assert (engine._phone_of, engine._waiting, engine._watchers) == ({}, {}, {})
        assert engine._engine.streams == 0
        assert len(engine.arena) == 0
        assert len(world._loop._tasks) < 600
        await phone.close()

    world.run(main())


def test_who_waits_for_an_answer_is_told_when_the_phone_is_closed() -> None:
    world, alice, _ = two_hosts(Path(loss=1.0))
    asked: list[str] = []

    async def ask() -> None:
        phone = Softphone("sip:alice@10.0.0.1", register=False)
        await phone.start()
        waiting = [
            asyncio.create_task(phone.message("sip:bob@10.0.0.2", "are you there?")),
            asyncio.create_task(phone.options("sip:bob@10.0.0.2")),
        ]
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in waiting)
        await phone.close()
        for task in waiting:
            with pytest.raises(RequestError, match="the phone was closed") as told:
                await task
            asked.append(str(told.value))

    world.run(alice.run(ask()))
    assert len(asked) == 2
    assert world.elapsed < 10.0
