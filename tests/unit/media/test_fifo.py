"""FIFOs of many rows in one array, against a list for each row."""

from __future__ import annotations

import numpy as np
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.media.fifo import FifoArray

ROWS, CAPACITY = 4, 30

some_rows = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True)
operations = st.lists(
    st.tuples(st.sampled_from(["append", "take", "clear", "grow"]), some_rows, st.integers(0, 20)),
    max_size=40,
)


@given(operations)
@examples(200)
def test_every_row_gives_back_what_it_was_given_in_order(operations):
    fifo = FifoArray(ROWS, CAPACITY)
    model: list[list[float]] = [[] for _ in range(ROWS)]
    value = 0.0
    for name, rows, count in operations:
        at = np.array(rows)
        if name == "append":
            block = np.arange(value, value + len(rows) * count, dtype=np.float32)
            value += block.size
            block = block.reshape(len(rows), count)
            fifo.append(at, block)
            for row, samples in zip(rows, block.tolist(), strict=True):
                model[row] = (model[row] + samples)[:CAPACITY]
        elif name == "take":
            count = min(count, *(len(model[row]) for row in rows))
            taken = fifo.take(at, count)
            assert taken.shape == (len(rows), count)
            assert taken.tolist() == [model[row][:count] for row in rows]
            for row in rows:
                del model[row][:count]
        elif name == "clear":
            fifo.clear(rows[0])
            model[rows[0]].clear()
        else:
            fifo.grow(fifo.fill.size + 1)
        assert fifo.fill[:ROWS].tolist() == [len(samples) for samples in model]
    for row, samples in enumerate(model):
        assert fifo.take(np.array([row]), len(samples))[0].tolist() == samples


def test_what_was_taken_is_not_changed_by_what_comes_later():
    fifo = FifoArray(2, 8)
    rows = np.array([0, 1])
    fifo.append(rows, np.ones((2, 4), np.float32))
    taken = fifo.take(rows, 4)
    fifo.append(rows, np.full((2, 4), 7, np.float32))
    assert (taken == 1).all()
