"""The parts of the media benchmark: a benchmark that cannot find a fault is worth nothing."""

from __future__ import annotations

import math
import resource
import socket

import numpy as np
import pytest

from voip.codecs import g711
from voip.errors import ConfigError, MediaError
from voip.harness.bench.bare_sockets import bare_sockets_us
from voip.harness.bench.batch_socket import BatchSocket
from voip.harness.bench.calibration import REFERENCE, Calibration, calibrate
from voip.harness.bench.echo_check import EchoVerdict, check_echo
from voip.harness.bench.load_keys import LoadKeys, protect_command
from voip.harness.bench.media import MediaReport, Round, raise_open_files, run
from voip.harness.bench.speech import speech_frames
from voip.harness.bench.worker import Worker
from voip.rtp.packet import pack_header
from voip.rtp.srtp.stream import Inbound, Outbound

FRAMES = speech_frames(200, seed=7)


def test_bare_sockets_take_their_time_and_are_closed() -> None:
    with socket.socket() as next_number:
        free = next_number.fileno()
    assert 0 < bare_sockets_us(3) < 1e6
    with socket.socket() as next_number:
        assert next_number.fileno() == free


# ---------------------------------------------------------------- the echo check


def _echo(delay_bytes: int = 320, frames: int = 150) -> list[tuple[int, bytes]]:
    """What a perfect echo sends: silence first, then every byte, `delay_bytes` later."""
    stream = b"\xff" * delay_bytes + FRAMES.tobytes()
    return [(1000 + 160 * n, stream[160 * n : 160 * n + 160]) for n in range(frames)]


@pytest.mark.parametrize("delay_bytes", [0, 320, 333, 3200])
def test_a_perfect_echo_is_equal_whatever_its_delay(delay_bytes: int) -> None:
    silent = -(-delay_bytes // 160)
    assert check_echo(FRAMES, [], _echo(delay_bytes)) == EchoVerdict(
        equal=150 - silent, outside=silent
    )


def test_one_wrong_byte_is_found() -> None:
    heard = _echo()
    timestamp, payload = heard[70]
    heard[70] = (timestamp, payload[:80] + bytes([payload[80] ^ 1]) + payload[81:])
    verdict = check_echo(FRAMES, [], heard)
    assert (verdict.wrong, verdict.equal) == (1, 147)


def test_what_was_made_up_for_a_lost_packet_is_not_wrong() -> None:
    heard = _echo()
    lost = 68  # comes back in packet 70, and its end is blended into 71
    for number in (70, 71):
        heard[number] = (heard[number][0], bytes(160))
    verdict = check_echo(FRAMES, [lost], heard)
    assert (verdict.concealed, verdict.wrong, verdict.equal) == (2, 0, 146)
    assert check_echo(FRAMES, [20, 120], heard).wrong == 2  # no loss was anywhere near


def test_a_change_of_delay_is_told_from_a_fault() -> None:
    stream = b"\xff" * 320 + FRAMES.tobytes()
    cut = 160 * 70 + 80
    shorter = stream[:cut] + stream[cut + 80 :]  # the buffer left 10 ms out
    heard = [(160 * n, shorter[160 * n : 160 * n + 160]) for n in range(150)]
    verdict = check_echo(FRAMES, [], heard)
    assert (verdict.adjusted, verdict.wrong) == (1, 0)
    assert verdict.equal == 147


def test_a_packet_that_was_left_out_is_no_difference_and_one_repeated_is() -> None:
    heard = _echo()
    del heard[50]
    assert check_echo(FRAMES, [], heard).wrong == 0
    heard[60] = (heard[60][0], heard[59][1])  # the same sound twice
    verdict = check_echo(FRAMES, [], heard)
    assert verdict.equal == 147 and verdict.wrong == 0  # found, but where it was before


def test_silence_and_noise_are_all_wrong() -> None:
    silence = [(160 * n, b"\xff" * 160) for n in range(50)]
    assert check_echo(FRAMES, [], silence) == EchoVerdict(wrong=50)
    assert check_echo(FRAMES, [], []) == EchoVerdict()
    noise = np.random.default_rng(1).integers(0, 256, (50, 160), dtype=np.uint8)
    assert check_echo(FRAMES, [], [(160 * n, noise[n].tobytes()) for n in range(50)]).equal == 0


def test_speech_is_distinct_loud_and_survives_coding() -> None:
    assert len({frame.tobytes() for frame in FRAMES}) == len(FRAMES)
    pcm = g711.decode(FRAMES, g711.Law.ULAW)
    assert np.array_equal(g711.encode(pcm, g711.Law.ULAW), FRAMES)
    assert np.sqrt(np.mean(pcm.astype(float) ** 2)) > 300  # speech, not the noise under it


# ---------------------------------------------------------------- sockets and calibration


def test_many_datagrams_go_out_and_come_in_with_one_call() -> None:
    one, other = BatchSocket(slots=16, width=64), BatchSocket(slots=16, width=64)
    packets = np.arange(40, dtype=np.uint8)[:, None] + np.zeros((40, 12), np.uint8)
    assert one.send(packets, np.full(40, other.port, np.uint16)) == 40
    got = []
    while True:
        data, lengths, ports = other.receive()
        if not lengths.size:
            break
        assert lengths.size <= 16
        assert (lengths == 12).all() and (ports == one.port).all()
        got += data[:, 0].tolist()
    assert got == list(range(40))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.bind(("127.0.0.1", 0))
        plain.settimeout(5)
        one.send(packets[:1], np.array([plain.getsockname()[1]], np.uint16))
        assert plain.recvfrom(100) == (bytes(12), ("127.0.0.1", one.port))
    one.close()
    other.close()


def test_the_factor_is_the_geometric_mean_of_three_ratios() -> None:
    slow = Calibration(REFERENCE.python_s * 8, REFERENCE.numpy_s, REFERENCE.loopback_s)
    assert slow.factor(REFERENCE) == pytest.approx(2.0)
    assert REFERENCE.factor(REFERENCE) == pytest.approx(1.0)
    assert REFERENCE.factor(slow) == pytest.approx(0.5)
    measured = calibrate(repeats=1)
    assert min(measured.python_s, measured.numpy_s, measured.loopback_s) > 0


# ---------------------------------------------------------------- the report


def _round(**changes: object) -> Round:
    figures: dict[str, object] = {
        "machine_factor": 2.0,
        "cpu_us_per_call_tick": 20.0,
        "lateness_ms": {act: {"p50": 1.0, "p99": 8.0, "max": 20.0} for act in ("start", "done")},
        "late_ticks": 1,
        "packets_lost": 3,
        "kernel_drops": 3,
        "rss_kb_per_call": 40.0,
        "busy_cpu_s": 0.0,
        "control_cpu_us_per_call_tick": 0.5,
        "bare_sleep_ms": {"p50": 0.1, "p99": 1.0, "max": 2.0},
        "payloads": {"equal": 100, "concealed": 5, "adjusted": 0, "outside": 4, "wrong": 0},
        "engine": {"ticks": 1000, "skipped_steps": 0, "native": True},
        "load": {"sent": 1000, "behind_ms_max": 20.0},
    }
    return Round(**{**figures, **changes})  # type: ignore[arg-type]


def _met(*rounds: Round) -> dict[str, bool | None]:
    return {name: bar["met"] for name, bar in MediaReport(10, 5, 0, rounds).bars().items()}


def test_the_report_has_the_names_that_others_rely_on() -> None:
    report = MediaReport(500, 10.0, 0, (_round(), _round(cpu_us_per_call_tick=30.0), _round()))
    figures = report.to_json()
    assert figures["calls"] == 500
    assert figures["cpu_us_per_call_tick"] == 20.0
    assert set(figures["tick_lateness_ms"]) == {"start", "done"}
    for act in figures["tick_lateness_ms"].values():
        assert act == {"p50": 1.0, "p99": 8.0, "max": 20.0}
    assert figures["late_ticks"] == 3
    assert figures["packets_lost"] == figures["kernel_drops"] == 9
    assert figures["rss_kb_per_call"] == 40.0
    assert figures["machine_factor"] == 2.0


def test_bars_are_met_by_figure_over_factor_and_missed_by_one_fault() -> None:
    assert _met(_round(cpu_us_per_call_tick=10.0)) == {
        "cpu_us_per_call_tick": True,
        "rss_kb_per_call": True,
        "lost_by_us": True,
        "payloads_wrong": True,
        "done_p99_ms": True,
    }
    assert _met(_round(cpu_us_per_call_tick=10.2))["cpu_us_per_call_tick"] is False
    assert _met(_round(rss_kb_per_call=61.0))["rss_kb_per_call"] is False
    skipped = {"ticks": 900, "skipped_steps": 100, "native": True}
    assert _met(_round(engine=skipped))["cpu_us_per_call_tick"] is None
    slow = {"sent": 1000, "behind_ms_max": 300.0}
    assert _met(_round(load=slow))["cpu_us_per_call_tick"] is None
    assert _met(_round(packets_lost=4))["lost_by_us"] is False
    wrong = {"equal": 100, "concealed": 0, "adjusted": 0, "outside": 0, "wrong": 1}
    assert _met(_round(payloads=wrong))["payloads_wrong"] is False
    assert _met(_round(payloads=wrong | {"equal": 0, "wrong": 0}))["payloads_wrong"] is False
    late = {act: {"p50": 1.0, "p99": 31.0, "max": 40.0} for act in ("start", "done")}
    assert _met(_round(lateness_ms=late))["done_p99_ms"] is False
    tired = {"p50": 1.0, "p99": 6.0, "max": 9.0}
    assert _met(_round(lateness_ms=late, bare_sleep_ms=tired))["done_p99_ms"] is None


def test_what_srtp_costs_is_the_difference_to_the_round_beside_it() -> None:
    plain = tuple(_round(cpu_us_per_call_tick=cost) for cost in (20.0, 30.0, 10.0))
    with_it = tuple(_round(cpu_us_per_call_tick=cost) for cost in (27.0, 39.0, 16.0))
    for suite, met in (
        ("AES_CM_128_HMAC_SHA1_80", True),
        ("AES_256_CM_HMAC_SHA1_80", True),
        ("AEAD_AES_128_GCM", None),
    ):
        report = MediaReport(10, 5, 0, with_it, srtp=suite, plain=plain)
        bar = report.bars()["srtp_more_us_per_call_tick"]
        assert (bar["figure"], bar["met"]) == (3.5, met)
        assert report.to_json()["srtp"] == suite
    slow = tuple(_round(cpu_us_per_call_tick=39.0) for _ in plain)
    bars = MediaReport(10, 5, 0, slow, srtp="AES_CM_128_HMAC_SHA1_80", plain=plain).bars()
    assert bars["srtp_more_us_per_call_tick"]["met"] is False
    with pytest.raises(ConfigError, match="ROT13"):
        run(1, 1, srtp="ROT13")


def test_the_load_protects_what_it_sends_and_reads_what_the_engine_does() -> None:
    for suite in ("AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80", "AEAD_AES_256_GCM"):
        load, command = LoadKeys(suite, 2), protect_command(suite, 1)
        outbound, inbound = Outbound(), Inbound()
        outbound.rekey(command.send)
        inbound.rekey(command.receive, 0.0)
        plain = pack_header(0, 7, 7, 7) + bytes(range(160))
        packets = np.zeros((2, 172 + load.tag_bytes), np.uint8)
        packets[:, :172] = np.frombuffer(plain, np.uint8)
        load.protect(packets)
        room = memoryview(bytearray(packets[1].tobytes() + bytes(200)))
        assert inbound.unprotect(room, packets.shape[1], 0.0, rtcp=False) == 172
        assert room[:172] == plain
        length = outbound.protect(room, 172, rtcp=False)
        assert load.unprotect(1, bytes(room[:length]), rtcp=False) == plain
        assert load.unprotect(0, bytes(room[:length]), rtcp=False) == b""


def test_too_few_open_files_are_said() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_open_files(16)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    with pytest.raises(ConfigError, match=f"hard limit is {hard}") as caught:
        raise_open_files(hard + 1)
    assert "ulimit" in caught.value.hint
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_measured_is_refused() -> None:
    cannot_be = ((0, 5, 0, 1), (5, 0, 0, 1), (5, math.nan, 0, 1), (5, 5, -1, 1), (5, 5, 0, 0))
    for calls, seconds, busy, rounds in cannot_be:
        with pytest.raises(ConfigError):
            run(calls, seconds, busy, rounds)


@pytest.mark.long
def test_a_worker_says_what_it_cannot_do_and_that_it_died() -> None:
    with Worker("sleep") as worker:
        assert worker.ask("sleep", seconds=0.05)["max"] >= 0
    with Worker("engine") as worker, pytest.raises(MediaError, match="engine: not now: mark"):
        worker.ask("mark")
    with Worker("nonsense") as worker, pytest.raises(MediaError, match="ended with status 1"):
        worker.ask("sleep")
