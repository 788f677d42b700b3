"""The stream table grows and shrinks without a stall: nothing is moved, memory is given back."""

from __future__ import annotations

import mmap
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from engine_desk import HOST, Desk, FakeIO, describe, speech

from voip.media.answers import Applied
from voip.media.columns import give_back, lengthen, reserve
from voip.media.commands import CloseStream, OpenStream
from voip.media.engine import Engine
from voip.media.lane import G711Lane
from voip.media.table import PIECE_ROWS, StreamTable


def large_arrays(table: StreamTable) -> dict[str, np.ndarray]:
    ring = table.playout.ring
    return {
        "payload": ring.payload,
        "timestamp": ring.timestamp,
        "pcm": table.playout.pcm.data,
        "feed": table.feed.data,
        "packet": table.transmitter.packet,
        "slot": table.slot,
    }


def test_a_table_that_grows_moves_nothing_and_keeps_what_there_is() -> None:
    table = StreamTable(G711Lane())
    before = {name: array.ctypes.data for name, array in large_arrays(table).items()}
    for stream in range(2 * PIECE_ROWS + 40):
        row = table.add(stream)
        assert row == stream
        table.playout.ring.payload[row * 64, :4] = row % 251
        table.feed.data[row, 7] = row
    assert {name: array.ctypes.data for name, array in large_arrays(table).items()} == before
    rows = np.arange(2 * PIECE_ROWS + 40)
    assert (table.playout.ring.payload[rows * 64, 3] == rows % 251).all()
    assert (table.feed.data[rows, 7] == rows).all()
    free = table.slot[rows.size :]
    assert free.size <= PIECE_ROWS and (free == free.max()).all()  # nobody's row is ever due


def test_beyond_the_room_that_is_reserved_it_goes_on_elsewhere() -> None:
    array = reserve(3, (2,), np.int32, 4)
    array[:] = 7
    longer = lengthen(lengthen(array, 4), 9)
    assert longer.shape == (9, 2)
    assert longer[:3].tolist() == [[7, 7]] * 3 and not longer[3:].any()
    assert lengthen(longer, 18).ctypes.data == longer.ctypes.data


def resident_pages(array: np.ndarray) -> int:
    """How many pages of an array are in memory, as the kernel counts them."""
    begin = array.ctypes.data
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(begin // mmap.PAGESIZE * 8)
        entries = np.frombuffer(pagemap.read(-(-array.nbytes // mmap.PAGESIZE) * 8), np.uint64)
    return int(np.count_nonzero(entries >> np.uint64(63)))


def test_the_memory_of_rows_that_are_gone_is_given_back() -> None:
    table = StreamTable(G711Lane())
    streams = range(3 * PIECE_ROWS)
    for stream in streams:
        row = table.add(stream)
        table.playout.ring.payload[row * 64 : row * 64 + 64] = 1
        table.transmitter.packet[row] = 1
    arrays = [table.playout.ring.payload, table.transmitter.packet]
    full = [resident_pages(array) for array in arrays]
    for stream in streams:
        if stream != PIECE_ROWS + 5:  # one goes on: its piece stays
            table.remove(table.row(stream))
    left = [resident_pages(array) for array in arrays]
    assert min(full) > 200
    assert all(now <= 0.4 * before for now, before in zip(left, full, strict=True))
    kept = (PIECE_ROWS + 5) * 64
    assert (table.playout.ring.payload[kept : kept + 64] == 1).all()
    assert table.add(1000) == 0  # the first row is taken first, so that the others can be empty


@pytest.mark.parametrize(("first", "last"), [(0, 700), (3, 650), (100, 101), (0, 0)])
def test_what_is_given_back_is_zero_and_nothing_else_is(first: int, last: int) -> None:
    array = reserve(700, (24,), np.uint8, 1000)
    array[:] = 9
    give_back(array, first, last)
    assert not array[first:last].any()
    assert (array[:first] == 9).all() and (array[last:] == 9).all()


def test_a_row_that_is_taken_again_begins_afresh() -> None:
    desk = Desk()
    for turn in range(2):
        desk.call(1)
        desk.say(speech(0.5, turn), ssrc=turn + 1)
        desk.run(0.8)
        assert np.abs(desk.heard(1)).max() > 1000
        desk.do(CloseStream(1))


def test_many_commands_at_once_wait_for_their_turn_and_all_are_applied_in_order() -> None:
    """A clock that goes on by 0.1 ms with each look: some twenty commands fit before the sound."""
    ticks = count()
    base = 1000.0
    engine = Engine(FakeIO(), clock=lambda: now + 1e-4 * next(ticks))
    now, tokens, applied = base, [], []
    engine.submit(OpenStream(5000, HOST, "x"))
    engine.tick(now, now)
    engine.events()
    for stream in range(300):
        tokens += [
            engine.submit(OpenStream(stream, HOST, "x")),
            engine.submit(describe(stream)),
        ]
    turns = 0
    while engine.pending:
        now = engine.next_due() or now
        ticks = count()
        engine.tick(now, now)
        looks = next(ticks)
        assert looks < 200  # of 20 ms: it is done before the next tick is due
        applied += [event.token for event in engine.events() if isinstance(event, Applied)]
        turns += 1
    assert applied == tokens
    assert 3 <= turns < 30


def test_a_table_that_is_nearly_full_gets_room_in_a_tick_that_has_time_for_it() -> None:
    looks_s = 0.0
    engine = Engine(FakeIO(), clock=lambda: now + looks_s)
    now = 1000.0
    for stream in range(PIECE_ROWS - 4):
        engine.submit(OpenStream(stream, HOST, "x"))
    engine.tick(now, now)
    assert len(engine._table) == PIECE_ROWS - 4
    assert engine._table.active.size == 2 * PIECE_ROWS
    for _ in range(110):  # whatever is done every now and then, too
        now = engine.next_due() or now
        engine.tick(now, now)
    for stream in range(PIECE_ROWS - 4, 2 * PIECE_ROWS - 4):
        engine.submit(OpenStream(stream, HOST, "x"))
    now, looks_s = engine.next_due() or now, 0.0
    engine.tick(now, now)
    assert engine._table.active.size == 3 * PIECE_ROWS
    rows = [engine._table.row(stream) for stream in range(2 * PIECE_ROWS - 4)]
    assert rows == list(range(2 * PIECE_ROWS - 4))  # the first ones first, as ever
    for stream in range(2 * PIECE_ROWS - 4, 3 * PIECE_ROWS - 4):
        engine.submit(OpenStream(stream, HOST, "x"))
    while engine.pending:
        now = engine.next_due() or now
        engine.tick(now, now)
    assert engine._table.active.size == 4 * PIECE_ROWS
    engine.submit(CloseStream(0))
    engine.submit(OpenStream(9000, HOST, "x"))
    now, looks_s = engine.next_due() or now, 0.0
    engine.tick(now, now)
    assert engine._table.row(9000) == 0


def test_a_tick_without_time_for_it_leaves_the_table_as_it_is() -> None:
    looks = iter([*[0.0] * (PIECE_ROWS - 5), *[0.0095] * 1000])
    engine = Engine(FakeIO(), clock=lambda: now + next(looks))
    now = 1000.0
    for stream in range(PIECE_ROWS - 4):
        engine.submit(OpenStream(stream, HOST, "x"))
    engine.tick(now, now)
    assert len(engine._table) == PIECE_ROWS - 4
    assert engine._table.active.size == PIECE_ROWS
