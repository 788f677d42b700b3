"""Audio rings: one writer, one reader, no lock; each interrupted by the other in every place."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import MediaError
from voip.media.rings import AudioRing, RingArena


def ring_of(samples: int) -> AudioRing:
    arena = RingArena()
    return arena.ring(arena.allocate(samples))


def numbers(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count).astype(np.int16)


operations = st.lists(
    st.tuples(st.sampled_from(["push", "overwrite", "read", "clear"]), st.integers(0, 20)),
    max_size=60,
)


@given(operations)
@examples(200)
def test_reading_gives_what_was_written_less_the_oldest_that_was_lost(operations):
    ring, capacity = ring_of(16), 16
    written, unread = 0, []
    lost = 0
    for name, count in operations:
        if name == "push":
            room = max(0, capacity - len(unread))
            assert ring.space == room
            taken = ring.push(numbers(written, count))
            assert taken == min(count, room)
            unread += range(written, written + taken)
            written += taken
        elif name == "overwrite":
            ring.overwrite(numbers(written, count))
            unread += range(written, written + count)
            written += count
        elif name == "read":
            pcm = ring.read(count).tolist()
            gone = ring.lost - lost  # the oldest, when more was written than there is room for
            lost = ring.lost
            assert (gone > 0) == (len(unread) > capacity)
            assert gone <= max(0, len(unread) - capacity) + capacity // 4
            del unread[:gone]
            assert pcm == unread[:count]
            del unread[:count]
        else:
            ring.clear()
            unread.clear()
        assert ring.available == min(len(unread), capacity)


class Interrupted:
    """The samples of a ring; `meanwhile` happens once, between two steps of whoever uses them."""

    def __init__(self, data: np.ndarray, meanwhile: Callable[[], None], steps: int) -> None:
        self._data = data
        self._meanwhile = meanwhile
        self._steps = steps

    def _step(self) -> None:
        self._steps -= 1
        if self._steps == 0:
            self._meanwhile()

    def __getitem__(self, at: slice) -> np.ndarray:
        self._step()
        out = self._data[at].copy()
        self._step()
        return out

    def __setitem__(self, at: slice, value: np.ndarray) -> None:
        self._step()
        self._data[at] = value
        self._step()


def both_sides(samples: int) -> tuple[AudioRing, AudioRing]:
    """Two views of one block of memory, as the two sides have them."""
    memory = memoryview(bytearray(64 + 2 * samples))
    return AudioRing(memory), AudioRing(memory)


@pytest.mark.parametrize("steps", range(1, 5))
@pytest.mark.parametrize("unread", [0, 3, 12, 15, 16, 17, 24])
@pytest.mark.parametrize("burst", [1, 4, 12])
def test_a_reader_whom_the_writer_interrupts_reads_nothing_torn(steps, unread, burst):
    writer, reader = both_sides(16)
    writer.overwrite(numbers(0, 10))
    assert reader.read(10).size == 10
    for n in range(unread):
        writer.overwrite(numbers(10 + n, 1))
    data = reader._data
    reader._data = Interrupted(  # type: ignore[assignment]
        data, lambda: writer.overwrite(numbers(10 + unread, burst)), steps
    )
    pcm = reader.read(100).tolist()
    reader._data = data
    pcm += reader.read(100).tolist()
    assert pcm == list(range(10 + reader.lost, 10 + reader.lost + len(pcm)))
    assert pcm[-1:] == [9 + unread + burst]
    assert reader.lost <= max(0, unread + burst - 16) + 4


@pytest.mark.parametrize("steps", range(1, 5))
@pytest.mark.parametrize("unread", [0, 3, 12, 15, 16])
@pytest.mark.parametrize("burst", [1, 4, 12])
def test_a_writer_whom_the_reader_interrupts_lets_nothing_torn_be_read(steps, unread, burst):
    writer, reader = both_sides(16)
    writer.overwrite(numbers(0, 10))
    assert reader.read(10).size == 10
    for n in range(unread):
        writer.overwrite(numbers(10 + n, 1))
    pcm: list[int] = []
    data = writer._data
    writer._data = Interrupted(  # type: ignore[assignment]
        data, lambda: pcm.extend(reader.read(100).tolist()), steps
    )
    writer.overwrite(numbers(10 + unread, burst))
    writer._data = data
    pcm += reader.read(100).tolist()
    assert pcm == sorted(pcm)
    assert len(pcm) + reader.lost == unread + burst
    assert pcm[-1:] == [9 + unread + burst]
    assert reader.lost <= max(0, unread + burst - 16) + 4


def test_two_threads_lose_and_repeat_nothing_but_what_is_counted():
    writer, reader = both_sides(2048)
    total = 200_000
    sent = (np.arange(total) % 30_011).astype(np.int16)

    def write() -> None:
        for start in range(0, total, 160):
            writer.overwrite(sent[start : start + 160])
        writer.close()

    thread = threading.Thread(target=write)
    thread.start()
    position = 0
    while True:
        over = reader.closed
        lost = reader.lost
        pcm = reader.read(400)
        position += reader.lost - lost
        assert np.array_equal(pcm, sent[position : position + pcm.size])
        position += pcm.size
        if over and not pcm.size:
            break
    thread.join()
    assert position == total


def test_a_closed_ring_can_still_be_read_out():
    ring = ring_of(8)
    ring.push(numbers(0, 5))
    ring.close()
    assert ring.closed
    assert ring.read(100).tolist() == [0, 1, 2, 3, 4]
    assert ring.read(100).size == 0


def test_an_arena_has_a_limit_and_gives_numbers_once():
    arena = RingArena(limit=2)
    one, two = arena.allocate(4), arena.allocate(4)
    with pytest.raises(MediaError, match="2 audio rings"):
        arena.allocate(4)
    arena.release(one)
    arena.release(one)
    three = arena.allocate(4)
    assert len({one, two, three}) == 3
    assert len(arena) == 2
    with pytest.raises(MediaError, match=f"no audio ring {one}"):
        arena.ring(one)
