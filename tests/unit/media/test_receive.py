"""Sequence, loss and jitter of many rows: against the RFC's own routines and plain counting.

The routines of RFC 3550, appendix A, are read from the reference data and compiled by the test.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.media.receive import MAX_DROPOUT, MAX_MISORDER, Accepted, Receiver
from voip.rtp.report_batch import fractions_lost

pytestmark = pytest.mark.rfc("3550", "A.1")

CLOCK = 8000.0


def _expected(receiver: Receiver, row: int) -> int:
    return int(receiver.expected(np.array([row]))[0])


def _interval(receiver: Receiver) -> tuple[int, int]:
    expected, received = receiver.interval(np.array([0]))
    return int(expected[0]), int(received[0])


def accept(
    receiver: Receiver,
    rows: list[int],
    sequence: list[int],
    timestamp: list[int] | None = None,
    ssrc: list[int] | int = 1,
    arrival: list[float] | None = None,
    timed: bool = True,
) -> Accepted:
    """Give one packet to each of `rows`."""
    count = len(rows)
    return receiver.accept(
        np.array(rows),
        np.array(sequence) & 0xFFFF,
        np.array(timestamp if timestamp is not None else sequence) & 0xFFFFFFFF,
        np.array([ssrc] * count if isinstance(ssrc, int) else ssrc),
        np.full(count, 160),
        np.array(arrival if arrival is not None else [0.0] * count, np.float64),
        np.full(count, timed),
        CLOCK,
    )


def one(receiver: Receiver, sequence: int, row: int = 0, **more: int | float | bool) -> Accepted:
    listed = {name: [value] for name, value in more.items() if name in ("timestamp", "arrival")}
    rest = {name: value for name, value in more.items() if name not in listed}
    return accept(receiver, [row], [sequence], **listed, **rest)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the RFC's routines

_FRAME = """
#include <stdint.h>
#include <string.h>
typedef uint16_t u_int16;
typedef uint32_t u_int32;
#define RTP_SEQ_MOD (1<<16)
typedef struct {
  u_int16 max_seq; u_int32 cycles, base_seq, bad_seq, probation, received;
  u_int32 expected_prior, received_prior; int transit; double jitter;
} source;
%(update)s
source *make(void) { static source made[8]; static int n; return memset(&made[n++], 0, 40); }
void begin(source *s, u_int16 seq) { init_seq(s, seq); s->received = 1; s->probation = 0; }
void judge(source *s, u_int32 arrival, u_int32 ts) {
  struct { u_int32 ts; } now = { ts }, *r = &now;
  %(jitter)s
}
int report(source *s, int *fraction_out) {
  int extended_max, expected, lost, expected_interval, received_interval, lost_interval, fraction;
  %(loss)s
  *fraction_out = fraction;
  return lost;
}
int expected_of(source *s) { return s->cycles + s->max_seq - s->base_seq + 1; }
void first_transit(source *s, u_int32 arrival, u_int32 ts) { s->transit = arrival - ts; }
"""


def _statements(text: str, first: str, last: str) -> str:
    """The lines of program text from the one with `first` to the one with `last`."""
    match = re.search(rf"^ +{re.escape(first)}.*?{re.escape(last)}.*?;$", text, re.M | re.S)
    assert match, first
    return "\n".join(line for line in match[0].splitlines() if re.search(r"[;:{}]$", line))


@pytest.fixture(scope="module")
def rfc(
    reference_data: Path, missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The routines of appendices A.1, A.3 and A.8, with our MAX_MISORDER."""
    compiler = shutil.which("cc")
    if compiler is None:
        missing("no C compiler is installed")
    examples = reference_data / "rfc-examples"
    update = (examples / "rfc3550_A.1_seq_validity.txt").read_text()
    update = update[update.index("void init_seq") : update.index("   The validity check can be")]
    assert f"MAX_DROPOUT = {MAX_DROPOUT};" in update
    update = update.replace("MAX_MISORDER = 100;", f"MAX_MISORDER = {MAX_MISORDER};")
    assert f"MAX_MISORDER = {MAX_MISORDER};" in update
    loss = (examples / "rfc3550_A.3_loss.txt").read_text()
    counts = _statements(loss, "extended_max =", "expected =")
    counts += "\n" + _statements(loss, "lost = expected", "received") + "\n"
    jitter = (examples / "rfc3550_A.8_jitter.txt").read_text()
    program = _FRAME % {
        "update": update,
        "loss": counts + _statements(loss, "expected_interval =", "else fraction"),
        "jitter": _statements(jitter, "int transit", "s->jitter += (1./16.)"),
    }
    place = tmp_path_factory.mktemp("rfc3550")
    (place / "a.c").write_text(program)
    command = [str(compiler), "-shared", "-fPIC", "-O1", "-w", "-o", "a.so", "a.c"]
    subprocess.run(command, check=True, cwd=place)
    library = ctypes.CDLL(str(place / "a.so"))
    library.make.restype = ctypes.c_void_p
    return library


@pytest.mark.reference
def test_sequence_numbers_are_judged_and_loss_is_counted_as_the_rfc_does(rfc: ctypes.CDLL):
    rng = np.random.default_rng(1)
    receiver = Receiver(1)
    source = ctypes.c_void_p(rfc.make())
    sequence = 65_000
    one(receiver, sequence)
    rfc.begin(source, ctypes.c_uint16(sequence))
    edges = [MAX_DROPOUT - 1, MAX_DROPOUT, MAX_DROPOUT + 1]
    edges += [-MAX_MISORDER + 1, -MAX_MISORDER, -MAX_MISORDER - 1, 0, 1, -1]
    refused, restarts, reports = 0, 0, 0
    for n in range(20_000):
        kind = rng.random()
        if kind < 0.8:
            step = int(rng.integers(1, 4))
        elif kind < 0.9:
            step = -int(rng.integers(0, 200))
        elif kind < 0.95:
            step = edges[rng.integers(len(edges))]
        else:
            step = int(rng.integers(-30_000, 30_000))
        present = int(receiver.last_sequence[0]) & 0xFFFF
        sequence = (sequence + 1 if kind < 0.3 else present + step) & 0xFFFF
        verdict = one(receiver, sequence)
        before = rfc.expected_of(source)
        right = bool(rfc.update_seq(source, ctypes.c_uint16(sequence)))
        assert bool(verdict.ok[0]) == right, (n, sequence)
        assert _expected(receiver, 0) == rfc.expected_of(source)
        refused += not right
        restarts += right and rfc.expected_of(source) == 1 and before != 1
        if n % 50 == 0:
            fraction = ctypes.c_int()
            lost = rfc.report(source, ctypes.byref(fraction))
            assert _expected(receiver, 0) - receiver.received[0] == lost
            assert fractions_lost(*receiver.interval(np.array([0]))) == min(fraction.value, 255)
            reports += 1
    assert refused > 300
    assert restarts > 100
    assert reports == 400


@pytest.mark.reference
def test_jitter_is_what_the_rfc_computes(rfc: ctypes.CDLL):
    rng = np.random.default_rng(2)
    receiver = Receiver(3)
    sources = [ctypes.c_void_p(rfc.make()) for _ in range(3)]
    compared = 0
    for n in range(2000):
        timestamp = (0xFFFFFFFF - 160 * 1000 + 160 * n) & 0xFFFFFFFF  # wraps half-way
        delays = rng.integers(0, [1, 400, 4000])
        arrivals = [8_000_000 + 160 * n + int(delay) for delay in delays]  # in timestamp units
        rows = [0, 1, 2] if n % 2 else [2, 0, 1]
        accept(
            receiver,
            rows,
            [n + 1] * 3,
            [timestamp] * 3,
            arrival=[arrivals[row] / CLOCK for row in rows],
        )
        for row, source in enumerate(sources):
            routine = rfc.judge if n else rfc.first_transit
            routine(source, ctypes.c_uint32(arrivals[row]), ctypes.c_uint32(timestamp))
            jitter = ctypes.c_double.from_address(source.value + 40).value
            assert receiver.jitter[row] == pytest.approx(jitter, rel=1e-6, abs=1e-6)
            compared += 1
    assert compared == 6000
    assert receiver.jitter[2] > 8 * receiver.jitter[1] > 0
    assert receiver.jitter[0] == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- plain counting


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.lists(st.tuples(st.integers(-40, 60), st.booleans()), min_size=1, max_size=120),
)
@examples(100)
def test_any_order_within_bounds_is_extended_and_counted_across_wraps(first, stamp, steps):
    receiver = Receiver(4)
    numbers = [0]
    for step, fresh in steps:  # a packet's number, from where its sender began
        numbers.append(max(numbers) + step if fresh else max(max(numbers) + step, 0))
    received = [n for n in numbers if n >= -1000]
    for n in received:
        verdict = one(receiver, first + n, row=2, timestamp=stamp + 160 * n)
        assert verdict.ok[0]
        assert verdict.sequence[0] == first + 0x10000 + n
        assert verdict.timestamp[0] == stamp + 160 * n
    assert receiver.received[2] == len(received)
    assert receiver.octets[2] == 160 * len(received)
    assert _expected(receiver, 2) == max(received) + 1
    highest, reordered = -1, 0
    for n in received:
        reordered += n < highest
        highest = max(highest, n)
    assert receiver.reordered[2] == reordered
    assert (receiver.received[[0, 1, 3]] == 0).all()


def test_rows_of_one_call_do_not_disturb_each_other():
    together, alone = Receiver(5), [Receiver(1) for _ in range(5)]
    rng = np.random.default_rng(4)
    for n in range(300):
        rows = np.flatnonzero(rng.random(5) < 0.7).tolist()
        if not rows:
            continue
        rng.shuffle(rows)
        sequence = [65_500 + n + int(step) for step in rng.integers(-3, 4, len(rows))]
        ssrc = [7 if rng.random() < 0.05 else row for row in rows]
        arrival = (n / 50 + rng.uniform(0, 0.05, len(rows))).tolist()
        verdict = accept(together, rows, sequence, ssrc=ssrc, arrival=arrival)
        for i, row in enumerate(rows):
            single = accept(alone[row], [0], [sequence[i]], ssrc=[ssrc[i]], arrival=[arrival[i]])
            assert (single.ok[0], single.restarted[0]) == (verdict.ok[i], verdict.restarted[i])
            if single.ok[0]:
                assert single.sequence[0] == verdict.sequence[i]
    for name in Receiver.COLUMNS:
        column = getattr(together, name)
        for row, receiver in enumerate(alone):
            assert np.array_equal(column[row], getattr(receiver, name)[0], equal_nan=True), name


# ---------------------------------------------------------------- sources that change


def test_another_ssrc_is_taken_with_its_second_packet_in_sequence():
    receiver = Receiver(1)
    for n in range(10):
        one(receiver, 100 + n, arrival=n * 0.02)
    _interval(receiver)
    assert not one(receiver, 5000, ssrc=2).ok[0]
    verdict = one(receiver, 5001, ssrc=2, timestamp=77)
    assert (verdict.ok[0], verdict.restarted[0]) == (True, True)
    assert _expected(receiver, 0) == 1
    assert _interval(receiver) == (1, 1)
    assert receiver.received[0] + receiver.received_before[0] == 11
    assert receiver.ssrc[0] == 2


def test_a_stray_packet_of_another_ssrc_changes_nothing():
    receiver = Receiver(1)
    for n in range(50):
        assert one(receiver, n).ok[0]
        if n % 5 == 0:
            assert not one(receiver, 7 * n, ssrc=100 + n).ok[0]
    assert receiver.received[0] == 50
    assert _expected(receiver, 0) == 50


def test_two_sources_that_talk_at_once_do_not_take_turns():
    receiver = Receiver(1)
    heard = []
    for n in range(100):
        for ssrc, start in ((1, 0), (2, 9000)):
            if one(receiver, start + n, ssrc=ssrc).ok[0]:
                heard.append(ssrc)
    assert heard == [1] * 100


def test_the_jitter_of_another_source_begins_at_nothing():
    receiver = Receiver(1)
    for n in range(100):
        one(receiver, n, timestamp=160 * n, arrival=n * 0.02 + 0.03 * (n % 2))
    assert receiver.jitter[0] > 100
    for n in range(50):
        one(receiver, 9000 + n, timestamp=160 * n, arrival=3 + n * 0.02, ssrc=2)
    assert receiver.jitter[0] == pytest.approx(0, abs=1e-6)


def test_what_was_lost_of_a_source_is_remembered_when_another_follows():
    receiver = Receiver(1)
    for n in (1, 2, 5, 6):
        one(receiver, n)
    for n in (100, 101, 103):
        one(receiver, n, ssrc=2)
    assert receiver.lost_before[0] == 2
    assert _expected(receiver, 0) - receiver.received[0] == 1


@pytest.mark.parametrize("jump_s", [3, 3600, -3600, 250_000])
def test_a_sender_that_counts_time_from_elsewhere_has_no_jitter_for_it(jump_s):
    receiver = Receiver(1)
    for n in range(100):
        stamp = 160 * n + (8000 * jump_s if n >= 50 else 0)
        verdict = one(receiver, n, timestamp=stamp, arrival=n * 0.02)
        assert verdict.timestamp[0] == stamp
    assert receiver.jitter[0] == pytest.approx(0, abs=1e-6)


def test_events_count_as_packets_and_leave_time_alone():
    receiver = Receiver(1)
    for n in range(20):
        event = 5 <= n < 12
        stamp = 160 * (5 if event else n)
        one(receiver, n, timestamp=stamp, arrival=n * 0.02, timed=not event)
    assert receiver.received[0] == 20
    assert _expected(receiver, 0) == 20
    assert receiver.jitter[0] == pytest.approx(0, abs=1e-6)
