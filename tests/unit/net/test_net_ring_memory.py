"""Rings in memory that several processes see."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from voip.errors import MediaError
from voip.media.rings import RingArena
from voip.net import ring_memory
from voip.net.ring_memory import MemfdMemory

MIB = 1 << 20


def both() -> tuple[RingArena, RingArena, MemfdMemory]:
    """The arena that allocates, and the one of another process (its own mapping, in this one)."""
    memory = MemfdMemory(MIB)
    return RingArena(memory=memory), RingArena(memory=MemfdMemory(fd=os.dup(memory.fd))), memory


def test_another_process_finds_a_ring_by_its_number_and_both_see_one_sound() -> None:
    memory = MemfdMemory(MIB)
    arena = RingArena(memory=memory)
    number = arena.allocate(800, 16000)
    arena.ring(number).push(np.arange(300, dtype=np.int16))
    program = (
        "import sys, numpy as np\n"
        "from voip.media.rings import RingArena\n"
        "from voip.net.ring_memory import MemfdMemory\n"
        "ring = RingArena(memory=MemfdMemory(fd=int(sys.argv[1]))).ring(int(sys.argv[2]))\n"
        "assert ring.capacity == 800 and ring.rate_hz == 16000\n"
        "heard = ring.read(200)\n"
        "ring.close()\n"
        "print(heard.sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(memory.fd), str(number)],
        pass_fds=[memory.fd], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) == np.arange(200).sum()
    assert arena.ring(number).available == 100 and arena.ring(number).closed


def test_a_ring_that_is_given_back_is_gone_for_all_and_its_reader_keeps_it() -> None:
    here, there, memory = both()
    number = here.allocate(4000)
    kept = here.ring(number)
    assert there.ring(number).capacity == 4000
    here.release(number)
    for arena in (here, there):
        with pytest.raises(MediaError, match=f"no audio ring {number}"):
            arena.ring(number)
        assert len(arena) == 0
    kept.overwrite(np.full(100, 5, np.int16))
    later = [here.allocate(4000) for _ in range(20)]
    for one in later:
        here.ring(one).overwrite(np.full(4000, 9, np.int16))
    assert kept.read(200).tolist() == [5] * 100
    memory.close()


def test_memory_is_taken_again_after_a_while_and_is_empty_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(ring_memory.time, "monotonic", lambda: now[0])
    here, there, _ = both()
    fits = 0
    with pytest.raises(MediaError, match="memory for audio rings is full"):
        for _ in range(1000):
            here.ring(here.allocate(8000)).overwrite(np.full(100, 7, np.int16))
            fits += 1
    assert fits == MIB // 4096 // 4
    numbers = list(here._rings)
    stale = there.ring(numbers[0])
    for number in numbers:
        here.release(number)
    now[0] += 1.0
    with pytest.raises(MediaError, match="full"):
        here.allocate(8000)
    now[0] += 1.5
    again = [here.allocate(8000) for _ in range(fits)]
    assert not set(again) & set(numbers)
    assert all(there.ring(number).available == 0 for number in again)
    assert stale.available == 0


def test_what_several_give_back_and_take_leaves_the_arena_as_it_was() -> None:
    rng = np.random.default_rng(3)
    here, there, _ = both()
    held: dict[int, int] = {}
    for mark in range(1, 600):
        if held and (len(held) > 20 or rng.random() < 0.5):
            number = list(held)[int(rng.integers(len(held)))]
            assert there.ring(number).read(4).tolist() == [held.pop(number)] * 4
            here.release(number)
        else:
            try:
                number = here.allocate(int(rng.integers(4, 3000)))
            except MediaError:
                break
            here.ring(number).push(np.full(4, mark, np.int16))
            held[number] = mark
    assert len(here) == len(held)


def test_who_found_rings_forgets_those_that_were_given_back_unasked() -> None:
    here, there, _ = both()
    stays = here.allocate(100)
    kept = there.ring(stays)
    for _ in range(200):
        number = here.allocate(100)
        there.ring(number)
        here.release(number)
    assert len(there) <= 65
    assert there.ring(stays) is kept


def test_nothing_is_left_of_memory_that_is_closed() -> None:
    def in_use() -> tuple[int, int]:
        gc.collect()
        mapped = Path("/proc/self/maps").read_text().count("voip-rings")
        return len(list(Path("/proc/self/fd").iterdir())), mapped

    before = in_use()
    arena = RingArena(memory=(memory := MemfdMemory(MIB)))
    number = arena.allocate(100)
    ring = arena.ring(number)
    memory.close()
    memory.close()
    assert ring.space == 100  # who has it keeps it
    with pytest.raises(MediaError):
        arena.allocate(100)
    arena.release(number)
    del ring, arena, memory
    assert in_use() == before


def test_a_ring_that_is_taken_again_is_memory_only_as_far_as_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring_memory, "RESTED_S", 0.0)
    memory = MemfdMemory(4 * MIB)

    def used() -> int:
        return 512 * os.fstat(memory.fd).st_blocks

    arena = RingArena(memory=memory)
    number = arena.allocate(MIB)
    arena.ring(number).push(np.ones(MIB - 1, np.int16))
    assert used() > 2 * MIB
    arena.release(number)
    gc.collect()
    again = arena.allocate(MIB)
    assert again != number
    assert used() < MIB // 16
    arena.ring(again).push(np.full(1000, 7, np.int16))
    assert arena.ring(again).read(2000).tolist() == [7] * 1000
