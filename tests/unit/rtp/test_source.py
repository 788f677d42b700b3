"""Whom to believe: four packets in sequence of one SSRC, and only when it may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voip.rtp.source import MAX_STRANGERS, PROBATION, SourceLearner
from voip.types import Address

THEM = Address("192.0.2.7", 4000)
OTHER = Address("198.51.100.9", 4000)


def run(learner: SourceLearner, sequences: list[int], ssrc: int = 1, **more: bool) -> list[bool]:
    return [learner.packet(THEM, ssrc, n & 0xFFFF, may_learn=True, **more) for n in sequences]


def test_the_fourth_packet_in_sequence_is_believed():
    assert run(SourceLearner(), [7, 8, 9, 10]) == [False, False, False, True]


def test_a_sequence_that_wraps_is_one():
    assert run(SourceLearner(), [65534, 65535, 65536, 65537])[-1]


def test_a_gap_a_repetition_or_another_ssrc_starts_over():
    for sequences in ([1, 2, 3, 5, 6, 7, 8], [1, 2, 3, 3, 4, 5, 6], [4, 3, 2, 1, 2, 3, 4]):
        assert run(SourceLearner(), sequences) == [False] * 6 + [True]
    learner = SourceLearner()
    run(learner, [1, 2, 3], ssrc=1)
    assert run(learner, [4, 5, 6, 7], ssrc=2) == [False, False, False, True]


def test_two_strangers_are_judged_apart():
    learner = SourceLearner()
    for n in range(3):
        assert not learner.packet(THEM, 1, n, may_learn=True)
        assert not learner.packet(OTHER, 2, 100 + 2 * n, may_learn=True)
    assert learner.packet(THEM, 1, 3, may_learn=True)


def test_what_came_while_nobody_may_be_learned_does_not_count():
    learner = SourceLearner()
    run(learner, [1, 2, 3])
    assert not learner.packet(THEM, 1, 4, may_learn=False)
    assert run(learner, [5, 6, 7, 8]) == [False, False, False, True]


def test_a_new_session_description_starts_over():
    learner = SourceLearner()
    run(learner, [1, 2, 3])
    learner.restart()
    assert run(learner, [4, 5, 6, 7]) == [False, False, False, True]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.integers(0, 0xFFFF)), max_size=200)
)
def test_every_packet_is_counted_and_nothing_grows(packets):
    learner = SourceLearner()
    for host, ssrc, sequence in packets:
        learner.packet(Address("10.0.0.1", host), ssrc, sequence, may_learn=True)
    assert learner.total == len(packets)
    assert len(learner.counts) <= MAX_STRANGERS
    assert len(learner._probation) <= MAX_STRANGERS
    assert learner.total == sum(learner.counts.values()) + learner.uncounted


def test_many_single_strangers_do_not_keep_the_peer_out_for_ever():
    learner = SourceLearner()
    for port in range(MAX_STRANGERS):
        learner.packet(Address("10.6.6.6", port), 9, 1, may_learn=True)
    heard = [learner.packet(THEM, 1, n, may_learn=True) for n in range(PROBATION + 20)]
    assert any(heard)
