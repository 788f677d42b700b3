"""What was heard last, whole packets and pieces of any length, against all that was heard."""

from __future__ import annotations

import numpy as np
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.media.lane import G711Lane
from voip.media.past import HISTORY, Past
from voip.media.payloads import SLOT_PAYLOAD, SLOTS, PayloadRing

ROWS = 3

some_rows = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True)
operations = st.lists(
    st.tuples(
        st.sampled_from(["packets", "sound", "last", "reset"]), some_rows, st.integers(1, 400)
    ),
    max_size=30,
)


@given(operations, st.integers(0, 1 << 32))
@examples(200)
def test_the_past_is_the_end_of_what_was_heard(operations, seed):
    rng = np.random.default_rng(seed)
    lane, ring = G711Lane(), PayloadRing(ROWS)
    past = Past(ROWS, lane, ring)
    heard = [np.zeros(HISTORY, np.float32) for _ in range(ROWS)]
    for number, (name, rows, width) in enumerate(operations):
        at = np.array(rows)
        if name == "packets":
            slots = at * SLOTS + number
            ring.payload[slots] = rng.integers(0, 256, (at.size, SLOT_PAYLOAD))
            ring.code[slots] = rng.integers(0, 2, at.size)
            pcm = lane.decode(ring.code[slots], ring.payload[slots, :HISTORY])
            past.hear_packets(at, slots)
        elif name == "sound":
            pcm = rng.standard_normal((at.size, width)).astype(np.float32)
            past.hear(at, pcm)
        elif name == "last":
            assert np.array_equal(past.last(at), np.stack([heard[row][-HISTORY:] for row in rows]))
            continue
        else:
            past.reset(rows[0])
            heard[rows[0]] = np.zeros(HISTORY, np.float32)
            continue
        for row, samples in zip(rows, pcm, strict=True):
            heard[row] = np.append(heard[row], samples)
    past.grow(2 * ROWS)
    everyone = np.arange(ROWS)
    assert np.array_equal(past.last(everyone), np.stack([one[-HISTORY:] for one in heard]))
