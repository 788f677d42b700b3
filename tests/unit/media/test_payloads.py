"""The payload ring of every row, against a dictionary for each row."""

from __future__ import annotations

import numpy as np
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.media.payloads import SLOT_PAYLOAD, SLOTS, PayloadRing

ROWS = 3
FIRST = 0x10000

packet = st.tuples(
    st.integers(0, ROWS - 1),
    st.integers(0, 200),  # sequence
    st.sampled_from([1, 80, 160, SLOT_PAYLOAD, SLOT_PAYLOAD + 1, 480, 1500]),  # bytes
    st.integers(0, 3),  # what precedes the payload, in words
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.lists(packet, min_size=1, max_size=ROWS)),
        st.tuples(st.just("find"), st.tuples(st.integers(0, ROWS - 1), st.integers(0, 40_000))),
        st.tuples(st.just("play"), st.tuples(st.integers(0, ROWS - 1), st.integers(0, 200))),
        st.tuples(st.just("drop"), st.tuples(st.integers(0, ROWS - 1), st.integers(0, 40_000))),
        st.tuples(st.just("clear"), st.integers(0, ROWS - 1)),
        st.tuples(st.just("grow"), st.just(0)),
    ),
    max_size=20,
)


class Model:
    """One row: sequence number -> (timestamp, payload), at most one for each slot."""

    def __init__(self) -> None:
        self.there: dict[int, tuple[int, bytes]] = {}
        self.last: dict[int, int] = {}  # slot -> sequence number
        self.overruns = 0

    def insert(self, sequence: int, timestamp: int, payload: bytes) -> None:
        slot = sequence % SLOTS
        for other in [one for one in self.there if one % SLOTS == slot]:
            del self.there[other]
            self.overruns += 1
        self.there[sequence] = (timestamp, payload)
        self.last[slot] = sequence

    def find(self, wanted: int) -> tuple[list[int], int | None]:
        hits = [n for n, (at, data) in self.there.items() if at <= wanted < at + len(data)]
        ahead = [at - wanted for at, _ in self.there.values() if at > wanted]
        return hits, min(ahead, default=None)


def insert(ring: PayloadRing, packets: list[tuple[int, int, int, bytes, int]]) -> None:
    """Insert (row, sequence, timestamp, payload, offset), of different rows, in one call."""
    data = np.zeros((len(packets), 1536), np.uint8)
    for i, (_, _, _, payload, offset) in enumerate(packets):
        data[i, offset : offset + len(payload)] = np.frombuffer(payload, np.uint8)
    rows, sequence, timestamp, payloads, offset = zip(*packets, strict=True)
    size = np.array([len(payload) for payload in payloads])
    slots = ring.slots(np.array(rows), np.array(sequence))
    ring.insert(
        np.array(rows),
        slots,
        np.array(sequence),
        np.array(timestamp),
        size,
        np.zeros(len(packets), np.uint8),
        data,
        np.arange(len(packets)),
        np.array(offset),
        size,
    )


@given(operations)
@examples(150)
def test_what_waits_is_found_by_time_and_nothing_else_is(operations):
    ring = PayloadRing(ROWS)
    model = [Model() for _ in range(ROWS)]
    serial = 0
    for name, argument in operations:
        if name == "insert":
            packets = []
            for row, number, size, words in {one[0]: one for one in argument}.values():
                sequence = FIRST + number
                slots = ring.slots(np.array([row]), np.array([sequence]))
                same = bool(ring.sequence[slots[0]] == sequence)
                assert same == (model[row].last.get(sequence % SLOTS) == sequence)
                if same:
                    continue
                serial += 1
                payload = (serial.to_bytes(4, "big") * (size // 4 + 1))[:size]
                packets.append((row, sequence, 160 * number, payload, 12 + 4 * words))
                model[row].insert(sequence, 160 * number, payload)
            if packets:
                insert(ring, packets)
        elif name == "find":
            row, wanted = argument
            hint = FIRST + wanted // 160
            slots, gaps = ring.find(np.array([row]), np.array([wanted]), np.array([hint]))
            hits, gap = model[row].find(wanted)
            if hits:
                sequence = int(ring.sequence[slots[0]])
                assert sequence in hits
                payload = model[row].there[sequence][1]
                assert ring.length[slots[0]] == len(payload)
                assert ring.payloads(slots, len(payload)).tobytes() == payload
            else:
                assert slots[0] == -1
                assert gaps[0] == gap if gap is not None else gaps[0] > 1 << 30
        elif name == "play":
            row, number = argument
            if model[row].there.pop(FIRST + number, None) is not None:
                at = np.array([row])
                ring.release(at, ring.slots(at, np.array([FIRST + number])))
        elif name == "drop":
            row, limit = argument
            there = model[row].there
            past = [n for n, (at, data) in there.items() if at + len(data) <= limit]
            for sequence in past:
                del there[sequence]
            assert ring.drop_before(row, limit) == len(past)
        elif name == "clear":
            ring.clear(argument)
            model[argument].there.clear()
            model[argument].last.clear()
        else:
            ring.grow(ring.count.size + 1)
        assert ring.count[:ROWS].tolist() == [len(one.there) for one in model]
        large = sum(len(d) > SLOT_PAYLOAD for one in model for _, d in one.there.values())
        assert ring.pooled == large
    assert ring.overruns[:ROWS].tolist() == [one.overruns for one in model]
    for row in range(ROWS):
        ring.clear(row)
    assert ring.pooled == 0


def test_500_rows_with_60_ms_packets_have_room_for_400_ms_each():
    rows = 512
    ring = PayloadRing(rows)
    for number in range(7):
        insert(ring, [(row, FIRST + number, 480 * number, b"x" * 480, 12) for row in range(rows)])
    assert (ring.count == 7).all()
    assert not ring.overruns.any()
    slots, _ = ring.find(np.arange(rows), np.full(rows, 480 * 6), np.full(rows, FIRST + 6))
    assert (ring.payloads(slots, 480) == ord("x")).all()


def test_large_packets_without_end_are_dropped_and_counted_and_give_their_place_back():
    ring = PayloadRing(ROWS)
    for number in range(40 * SLOTS):
        insert(ring, [(row, FIRST + number, 0, b"x" * 1500, 12) for row in range(ROWS)])
    assert ring.pooled <= ROWS * SLOTS
    assert (ring.overruns >= 39 * SLOTS).all()
    for row in range(ROWS):
        ring.clear(row)
    assert ring.pooled == 0
    assert not ring.count.any()
