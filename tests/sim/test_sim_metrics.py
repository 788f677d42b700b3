"""What Prometheus is told of phones: scraped over HTTP while they call each other, and compared."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import numpy as np
import pytest
from flow_scene import AOR, Scene
from metrics_scene import ALICE, BOB, MONITOR, Samples, Scraped, Up, a_call, compared, get
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.registry import CollectorRegistry

from voip import CallError, Metrics, Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import AuthenticationError, TransportError
from voip.metrics.families import FAMILIES
from voip.sim import Host, Path, World
from voip.sip.endpoint.trace import SipTraceRecord
from voip.types import Address

LE_MOS = ("1.5", "2.0", "2.5", "3.0", "3.5", "3.8", "4.0", "4.2", "4.4", "+Inf")
PROCESS = ("process_", "python_", "voip_info")


def test_what_is_scraped_of_a_call_is_what_the_call_says_of_itself() -> None:
    async def during(up: Up) -> None:
        mine, theirs = up.mine, up.theirs
        noise = np.random.default_rng(1).normal(0, 3000, 20 * 8000).astype(np.int16)
        await mine.play(noise)
        scraped = await up.scrape()
        for phone, call in ((ALICE, mine), (BOB, theirs)):
            stats = call.stats
            assert stats.packets_received > 700
            assert stats.packets_lost > 20
            assert stats.packets_reordered > 0
            assert stats.packets_duplicate > 0
            assert stats.concealed_ms > 0
            assert stats.rtt_ms is not None
            assert stats.jitter_ms is not None
            assert compared(scraped, phone, stats) == 22
            assert scraped("voip_media_streams", phone, codec="pcmu") == 1
            for figure in ("mean", "max"):
                jitter_s = scraped("voip_rtp_jitter_seconds", phone, figure=figure)
                assert jitter_s == pytest.approx(stats.jitter_ms / 1000)
                rtt_s = scraped("voip_rtp_round_trip_seconds", phone, figure=figure)
                assert rtt_s == pytest.approx(stats.rtt_ms / 1000)
        calls = {phone: scraped.nonzero("voip_calls", phone) for phone in (ALICE, BOB)}
        assert calls == {ALICE: {("outgoing", "active"): 1}, BOB: {("incoming", "active"): 1}}
        assert scraped("voip_sip_dialogs", ALICE) == scraped("voip_sip_dialogs", BOB) == 1

        await mine.hangup()
        await theirs.wait_ended()
        after = await up.scrape()
        for phone, call, ended in (
            (ALICE, mine, ("local", "outgoing", "answered")),
            (BOB, theirs, ("remote", "incoming", "answered")),
        ):
            assert compared(after, phone, call.stats) == 22
            assert after.nonzero("voip_calls", phone) == {}
            assert after.nonzero("voip_calls_ended_total", phone) == {ended: 1}
            assert after.nonzero("voip_media_streams", phone) == {}
            assert call._session.up_s is not None
            mos = call.quality.mos
            assert mos is not None
            for name, value in (
                ("voip_call_mos", mos),
                ("voip_call_duration_seconds", call._session.up_s),
                ("voip_call_loss_ratio", call.quality.loss_fraction),
                ("voip_call_jitter_seconds", (call.stats.jitter_ms or 0) / 1000),
                ("voip_call_round_trip_seconds", (call.stats.rtt_ms or 0) / 1000),
            ):
                assert after(f"{name}_count", phone) == 1
                assert after(f"{name}_sum", phone) == pytest.approx(value)
            bounds = after.nonzero("voip_call_mos_bucket", phone)
            assert set(bounds) == {(le,) for le in LE_MOS if float(le) >= mos}
        assert after("voip_sip_requests_total", ALICE, way="sent", method="BYE") == 1
        assert after("voip_sip_requests_total", BOB, way="received", method="BYE") == 1

    a_call(Path(delay_s=0.02, jitter_s=0.03, loss=0.08, reorder=0.02, duplicate=0.01), during)


@pytest.mark.long
def test_counters_never_fall_while_calls_end() -> None:
    """Read every 20 ms over three calls: a stream that is closed stays in the sums."""

    def counters(metrics: Metrics) -> Samples:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in metrics.collect()
            for sample in family.samples
            if sample.name.endswith(("_total", "_bucket", "_count"))
        }

    async def during(up: Up) -> None:
        readings: list[Samples] = []

        async def watch() -> None:
            while True:
                readings.append(counters(up.metrics))
                await asyncio.sleep(0.02)

        watching = asyncio.ensure_future(watch())
        mine = up.mine
        for more in (2, 1, 0):
            await mine.play(np.full(8000, 999, np.int16))
            await mine.hangup()
            if more:
                mine = await up.phone.dial(BOB)
        await asyncio.sleep(2)
        watching.cancel()
        steps = 0
        for before, after in itertools.pairwise(readings):
            for key, value in before.items():
                assert after[key] >= value, key
                steps += value > 0
        assert steps > 1000
        assert (await up.scrape()).nonzero("voip_calls_ended_total", BOB) == {
            ("remote", "incoming", "answered"): 3
        }

    a_call(Path(delay_s=0.02, loss=0.05), during)


async def register_and(scene: Scene, metrics: Metrics, name: str = "alice") -> Softphone:
    host = {"alice": scene.alice, "bob": scene.bob}[name]
    with host.here():
        phone = scene.phone(name, host, metrics=metrics)
        await phone.start()
    return phone


def read(metrics: Metrics) -> Scraped:
    return Scraped(metrics.render()[1].decode())


def test_every_outcome_of_a_call_is_counted_for_what_it_is() -> None:
    scene, metrics = Scene(0.0), Metrics()
    told: Scraped | None = None

    async def main() -> None:
        nonlocal told

        async def reception(call: Call) -> None:
            match call.header("X-Wish"):
                case "busy":
                    await call.reject(486)
                case "decline":
                    await call.reject(603)
                case "unavailable":
                    await call.reject(480)
                case "elsewhere":
                    await call.redirect("sip:carol@10.0.0.9")
                case "ring":
                    await call.ring()
                    await call.wait_ended()
                case _:
                    await call.answer()
                    await call.wait_ended()

        bob = await scene.taking("bob", reception, metrics=metrics)
        alice = await register_and(scene, metrics)
        wishes = ("busy", "busy", "decline", "unavailable", "elsewhere", "ring", "ring", "ring")
        for wish in wishes:
            with pytest.raises(CallError):
                await alice.dial("bob", headers={"X-Wish": wish}, timeout=5, redirect=False)
        call = await alice.dial("bob")
        await call.hangup()
        scene.world.cut(scene.alice, scene.server)
        with pytest.raises(CallError):
            await alice.dial("bob", timeout=None)
        scene.world.restore(scene.alice, scene.server)
        await asyncio.sleep(1)
        told = read(metrics)
        await alice.close()
        await bob.close()

    scene.run(main)
    assert told is not None
    assert told.nonzero("voip_calls_ended_total", AOR) == {
        ("local", "outgoing", "answered"): 1,
        ("remote", "outgoing", "busy"): 2,
        ("remote", "outgoing", "refused"): 1,
        ("remote", "outgoing", "unanswered"): 1,
        ("remote", "outgoing", "redirected"): 1,
        ("local", "outgoing", "cancelled"): 3,
        ("failure", "outgoing", "unanswered"): 1,
    }
    assert told.nonzero("voip_calls_ended_total", AOR.replace("alice", "bob")) == {
        ("remote", "incoming", "answered"): 1,
        ("local", "incoming", "busy"): 2,
        ("local", "incoming", "refused"): 1,
        ("local", "incoming", "unanswered"): 1,
        ("local", "incoming", "redirected"): 1,
        ("remote", "incoming", "cancelled"): 3,
    }


@pytest.mark.parametrize("loss", [0.0, 0.2], ids=["no loss", "20% loss"])
def test_messages_and_repetitions_are_those_that_were_on_the_wire(loss: float) -> None:
    scene, metrics = Scene(loss), Metrics()
    sent: list[bytes] = []
    received: list[bytes] = []
    told: Scraped | None = None

    def trace(record: SipTraceRecord) -> None:
        (sent if record.sent else received).append(record.data)

    async def main() -> None:
        nonlocal told
        bob, calls = await scene.answering()
        with scene.alice.here():
            alice = Softphone(
                AOR,
                password="wonderland",
                trace=trace,
                metrics=metrics,
                media=MediaConfig(elsewhere=Address("10.0.0.1", 40000)),
                network=NetworkConfig(bind_host="10.0.0.1", bind_port=5060),
            )
            await alice.start()
        for _ in range(3):
            mine, _ = await scene.up(alice, "sip:bob@10.0.0.9", calls)
            await asyncio.sleep(1)
            await mine.hangup()
        await asyncio.sleep(40)
        told = read(metrics)
        compare(told)
        await alice.close()
        await bob.close()

    def compare(told: Scraped) -> None:
        for way, messages in (("sent", sent), ("received", received)):
            firsts = [data.split(b" ")[0].decode() for data in messages]
            methods = Counter(word for word in firsts if word != "SIP/2.0")
            found = told.nonzero("voip_sip_requests_total", AOR)
            mine = {labels[0]: count for labels, count in found.items() if labels[1] == way}
            assert mine == methods
            classes = Counter(
                f"{data[8:9].decode()}xx" for data in messages if data.startswith(b"SIP/2.0")
            )
            found = told.nonzero("voip_sip_responses_total", AOR)
            mine = {labels[0]: count for labels, count in found.items() if labels[1] == way}
            assert mine == classes
        again = [data for data in sent if not data.startswith(b"ACK")]
        repeated = len(again) - len(set(again))
        assert told("voip_sip_retransmissions_total", AOR) == repeated
        assert (repeated > 3) == bool(loss)

    scene.run(main)
    assert told is not None


def test_what_strangers_invent_becomes_no_label() -> None:
    world, metrics = World(1), Metrics()
    alice, mallory = world.host("10.0.0.1"), world.host("10.0.0.66")
    known = Scraped("")

    async def main() -> None:
        nonlocal known
        network = NetworkConfig(bind_port=5060, stranger_rate=None)
        async with Softphone(ALICE, register=False, network=network, metrics=metrics):
            before = set(read(metrics).samples)
            mouth, _ = await mallory.run(datagrams())
            for number in range(50):
                mouth.sendto(request(f"SPAM{number}"), ("10.0.0.1", 5060))
            mouth.sendto(b"no SIP at all", ("10.0.0.1", 5060))
            await asyncio.sleep(1)
            known = read(metrics)
            assert set(known.samples) == before
            mouth.close()

    async def datagrams() -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        loop = asyncio.get_running_loop()
        return await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("10.0.0.66", 5060)
        )

    def request(method: str) -> bytes:
        return (
            f"{method} sip:alice@10.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 10.0.0.66:5060;branch=z9hG4bK{method}\r\n"
            f"From: <sip:m@10.0.0.66>;tag=1\r\nTo: <sip:alice@10.0.0.1>\r\n"
            f"Call-ID: {method}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    world.run(alice.run(main()))
    assert known("voip_sip_requests_total", ALICE, way="received", method="other") == 50
    assert known("voip_sip_responses_total", ALICE, way="sent", **{"class": "5xx"}) == 50
    assert known("voip_sip_anomalies_total", ALICE, kind="malformed") == 1
    assert known("voip_sip_anomalies_total", ALICE, kind="refused") == 50


def test_registrations_are_told_by_state_and_failures_counted() -> None:
    scene, metrics = Scene(0.0), Metrics()

    async def main() -> None:
        with scene.alice.here():
            wrong = scene.phone("alice", scene.alice, metrics=metrics, password="wrong")
            with pytest.raises(AuthenticationError):
                await wrong.start()
        assert read(metrics).phones() == set()
        with scene.alice.here():
            phone = scene.phone("alice", scene.alice, metrics=metrics, register=False)
            await phone.start()
        told = read(metrics)
        assert told("voip_account_registered", AOR, account=AOR) == 0
        assert told.nonzero("voip_registrations", AOR) == {("unregistered",): 1}
        await phone.register()
        told = read(metrics)
        assert told("voip_account_registered", AOR, account=AOR) == 1
        assert told.nonzero("voip_registrations", AOR) == {("registered",): 1}
        scene.world.cut(scene.alice, scene.server)
        await asyncio.sleep(400)
        told = read(metrics)
        assert told("voip_account_registered", AOR, account=AOR) == 0
        assert told("voip_registration_failures_total", AOR, account=AOR) > 0
        assert told.nonzero("voip_registrations", AOR) in (
            {("failed",): 1},
            {("registering",): 1},
        )
        assert told("voip_sip_failovers_total", AOR) > 0
        scene.world.restore(scene.alice, scene.server)
        await phone.close()

    scene.run(main)


def test_phones_of_one_process_do_not_clash_and_closed_ones_are_gone() -> None:
    world, metrics = World(1), Metrics()
    hosts = [world.host(f"10.0.0.{number}") for number in (1, 2, 3)]

    def phone(name: str | None, host: Host) -> Softphone:
        media = MediaConfig(elsewhere=Address(host.address, 40000))
        return Softphone(name, register=False, media=media, metrics=metrics)

    async def main() -> None:
        phones = []
        for host, name in zip(hosts, (ALICE, ALICE, None), strict=True):
            with host.here():
                phones.append(phone(name, host))
                await phones[-1].start()
        assert read(metrics).phones() == {ALICE, f"{ALICE} 2", "phone"}
        await phones[0].close()
        assert read(metrics).phones() == {f"{ALICE} 2", "phone"}
        with hosts[0].here():
            phones[0] = phone(ALICE, hosts[0])
            await phones[0].start()
        assert read(metrics).phones() == {ALICE, f"{ALICE} 2", "phone"}
        for one in phones:
            await one.close()
        told = read(metrics)
        assert told.phones() == set()
        assert all(name.startswith(PROCESS) for name in told.families)
        assert {"process_cpu_seconds", "process_resident_memory_bytes"} <= told.families.keys()

    world.run(hosts[0].run(main()))


def test_a_registry_of_somebody_elses_may_have_them() -> None:
    world, metrics, registry = World(1), Metrics(), CollectorRegistry()
    host = world.host("10.0.0.1")
    registry.register(metrics)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Metrics())

    async def main() -> None:
        async with Softphone(ALICE, register=False, metrics=metrics):
            found = {family.name for family in registry.collect()}
            assert found >= {"voip_calls", "voip_sip_requests", "voip_info"}
            assert found <= {*FAMILIES, "voip_info"}

    world.run(host.run(main()))


def test_what_ends_a_scrape_badly_is_answered_or_cut() -> None:
    world, metrics = World(1), Metrics()
    alice, monitor = world.host("10.0.0.1"), world.host(MONITOR)

    async def main() -> None:
        media = MediaConfig(elsewhere=Address("10.0.0.1", 40000))
        async with (
            Softphone(ALICE, register=False, media=media, metrics=metrics),
            metrics.serve("10.0.0.1", 0) as address,
        ):
            await monitor.run(from_outside(address))

    async def from_outside(address: Address) -> None:
        assert (await get(address, "/"))[0] == "HTTP/1.1 404 "
        status, fields, _ = await get(address, method="POST")
        assert status == "HTTP/1.1 405 "
        assert "Allow: GET, HEAD" in fields
        status, fields, body = await get(address, method="HEAD")
        assert (status, body) == ("HTTP/1.1 200 ", "")
        assert int(fields.lower().partition("content-length: ")[2].split("\r\n")[0]) > 1000
        assert (await get(address, "/metrics?name=x"))[0] == "HTTP/1.1 200 "
        accept = "Accept: application/openmetrics-text; version=1.0.0"
        _, fields, body = await get(address, "/metrics", "GET", accept)
        assert "application/openmetrics-text; version=1.0.0" in fields
        assert len(list(openmetrics_families(body))) > 30
        too_long = await get(address, "/metrics", "GET", f"X-Long: {'x' * 40_000}")
        assert too_long[0] == "HTTP/1.1 431 "
        assert (await sent(address, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        twice = b"GET /metrics HTTP/1.1\r\nHost: monitor\r\n\r\n" * 2
        began = asyncio.get_running_loop().time()
        answers = await sent(address, twice)  # is cut when nothing more comes
        assert answers.count(b"HTTP/1.1 200 ") == 2
        assert 120 <= asyncio.get_running_loop().time() - began < 130
        assert (await sent(address, b"GET /metr")) == b""  # nor is it waited for longer
        connected = [await asyncio.open_connection(*address) for _ in range(32)]
        await asyncio.sleep(1)
        assert (await sent(address, b"")) == b""
        for _, writer in connected:
            writer.close()
        await asyncio.sleep(1)
        assert (await get(address))[0] == "HTTP/1.1 200 "

    async def sent(address: Address, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer

    world.run(alice.run(main()))


def test_an_address_that_is_taken_is_said_so() -> None:
    world, metrics = World(1), Metrics()
    host = world.host("10.0.0.1")

    async def main() -> None:
        async with metrics.serve("10.0.0.1", 9464) as address:
            assert address == Address("10.0.0.1", 9464)
            with pytest.raises(TransportError, match=r"cannot listen for HTTP at 10\.0\.0\.1:9464"):
                async with metrics.serve("10.0.0.1", 9464):
                    pass
        async with metrics.serve("10.0.0.1", 9464):
            pass

    world.run(host.run(main()))


def test_others_have_the_loop_between_the_pieces_of_a_scrape() -> None:
    world, metrics = World(1), Metrics()
    hosts = [world.host(f"10.0.0.{number}") for number in (1, 2, 3)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        phones = []
        for host in hosts:
            with host.here():
                media = MediaConfig(elsewhere=Address(host.address, 40000))
                uri = f"sip:x@{host.address}"
                phones.append(Softphone(uri, register=False, media=media, metrics=metrics))
                await phones[-1].start()
        running = asyncio.ensure_future(others())
        for accept in ("", "application/openmetrics-text; version=1.0.0"):
            before = turns
            content_type, in_pieces = await metrics.page(accept)
            assert turns - before > len(hosts) + 30
            whole_type, whole = metrics.render(accept)
            assert (content_type, of_phones(in_pieces)) == (whole_type, of_phones(whole))
            assert in_pieces.count(b"# EOF\n") == bool(accept)
        closing = asyncio.ensure_future(phones[1].close())
        told = Scraped((await metrics.page())[1].decode())  # a phone is closed meanwhile
        await closing
        assert told.phones() >= {"sip:x@10.0.0.1", "sip:x@10.0.0.3"}
        running.cancel()
        for phone in phones:
            await phone.close()

    def of_phones(text: bytes) -> list[bytes]:
        return [line for line in text.splitlines() if b"voip_" in line]

    world.run(hosts[0].run(main()))
