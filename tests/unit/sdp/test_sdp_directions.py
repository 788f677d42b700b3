"""Directions and hold: RFC 3264, sections 6.1 and 8.4; RFC 6337, section 5.3."""

from __future__ import annotations

import pytest

from voip.sdp import PCMU, AgreedAudio, Direction, Negotiator, parse
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3264", "8.4")

SENDRECV, SENDONLY = Direction.SENDRECV, Direction.SENDONLY
RECVONLY, INACTIVE = Direction.RECVONLY, Direction.INACTIVE

ANSWERS = {
    # what the peer offers: {what we want: what we answer}; RFC 3264, section 6.1
    SENDRECV: {
        SENDRECV: SENDRECV,
        SENDONLY: SENDONLY,
        RECVONLY: RECVONLY,
        INACTIVE: INACTIVE,
    },
    SENDONLY: {
        SENDRECV: RECVONLY,
        SENDONLY: INACTIVE,
        RECVONLY: RECVONLY,
        INACTIVE: INACTIVE,
    },
    RECVONLY: {
        SENDRECV: SENDONLY,
        SENDONLY: SENDONLY,
        RECVONLY: INACTIVE,
        INACTIVE: INACTIVE,
    },
    INACTIVE: {
        SENDRECV: INACTIVE,
        SENDONLY: INACTIVE,
        RECVONLY: INACTIVE,
        INACTIVE: INACTIVE,
    },
}

CASES = [
    (offered, wanted, answer) for offered, row in ANSWERS.items() for wanted, answer in row.items()
]


def negotiator(port: int = 4000, direction: Direction = SENDRECV) -> Negotiator:
    return Negotiator(
        [PCMU],
        address=Address("192.0.2.1", port),
        random=SeededRandom(port),
        direction=direction,
    )


def peer(direction: Direction | None = None, session: Direction | None = None) -> bytes:
    lines = "v=0\r\no=peer 7 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n"
    lines += f"a={session.value}\r\n" if session else ""
    lines += "m=audio 5000 RTP/AVP 0\r\n"
    lines += f"a={direction.value}\r\n" if direction else ""
    return lines.encode()


def exchange(offerer: Negotiator, answerer: Negotiator) -> tuple[AgreedAudio, AgreedAudio]:
    """Carry one offer and its answer between two of ours, as bytes."""
    answerer.receive_offer(parse(offerer.create_offer().to_bytes()))
    agreed = offerer.receive_answer(parse(answerer.create_answer().to_bytes()))
    assert answerer.agreed is not None
    return agreed, answerer.agreed


@pytest.mark.parametrize(("offered", "wanted", "expected"), CASES)
def test_answer_to_each_direction(
    offered: Direction, wanted: Direction, expected: Direction
) -> None:
    callee = negotiator()
    callee.receive_offer(parse(peer(offered)))
    answer = callee.create_answer(wanted)
    assert answer.media[0].direction is expected
    assert callee.agreed is not None
    assert callee.agreed.direction is expected
    assert callee.agreed.can_send is expected.sends
    assert callee.agreed.can_receive is expected.receives
    assert callee.agreed.remote_hold is (offered in (SENDONLY, INACTIVE))
    assert callee.direction is wanted


@pytest.mark.parametrize(("offered", "wanted", "expected"), CASES)
def test_direction_of_the_session_is_answered_likewise(
    offered: Direction, wanted: Direction, expected: Direction
) -> None:
    callee = negotiator(direction=wanted)
    callee.receive_offer(parse(peer(session=offered)))
    assert callee.create_answer().media[0].direction is expected


def test_offer_without_a_direction_is_sendrecv() -> None:
    callee = negotiator()
    callee.receive_offer(parse(peer()))
    assert callee.create_answer().media[0].direction is SENDRECV


@pytest.mark.parametrize("offered", list(Direction))
@pytest.mark.parametrize("answered", list(Direction))
def test_agreement_is_what_both_sides_allow(offered: Direction, answered: Direction) -> None:
    caller = negotiator()
    assert caller.create_offer(offered).media[0].direction is offered
    agreed = caller.receive_answer(parse(peer(answered)))
    assert agreed.can_send is (offered in (SENDRECV, SENDONLY) and answered in (SENDRECV, RECVONLY))
    assert agreed.can_receive is (
        offered in (SENDRECV, RECVONLY) and answered in (SENDRECV, SENDONLY)
    )
    free_to_say = offered in (SENDRECV, SENDONLY)
    assert agreed.remote_hold is (free_to_say and answered in (SENDONLY, INACTIVE))


@pytest.mark.parametrize("ours", list(Direction))
@pytest.mark.parametrize("theirs", list(Direction))
def test_two_sides_never_disagree_on_a_direction(ours: Direction, theirs: Direction) -> None:
    one, other = exchange(negotiator(4000, ours), negotiator(5000, theirs))
    assert one.can_send is other.can_receive is (ours.sends and theirs.receives)
    assert one.can_receive is other.can_send is (ours.receives and theirs.sends)


@pytest.mark.parametrize("hold", [SENDONLY, INACTIVE])
def test_hold_and_resume(hold: Direction) -> None:
    alice, bob = negotiator(4000), negotiator(5000)
    exchange(alice, bob)
    alice.set_direction(hold)
    holding, held = exchange(alice, bob)
    assert (holding.remote_hold, held.remote_hold) == (False, True)
    assert (holding.can_send, held.can_receive) == (hold.sends, hold.sends)
    assert not holding.can_receive
    assert not held.can_send
    alice.set_direction(SENDRECV)
    for agreed in exchange(alice, bob):
        assert agreed.direction is SENDRECV
        assert not agreed.remote_hold


def test_hold_of_both_sides_ends_when_both_resume() -> None:
    """RFC 6337, section 5.3, told from hold to hold."""
    ua1, ua2 = negotiator(4000), negotiator(5000)
    exchange(ua1, ua2)
    ua1.set_direction(SENDONLY)
    exchange(ua1, ua2)
    ua2.set_direction(SENDONLY)
    of_ua2, of_ua1 = exchange(ua2, ua1)
    assert of_ua1.direction is of_ua2.direction is INACTIVE
    assert of_ua1.remote_hold
    assert of_ua2.remote_hold
    ua1.set_direction(SENDRECV)
    of_ua1, of_ua2 = exchange(ua1, ua2)
    assert (of_ua1.direction, of_ua2.direction) == (RECVONLY, SENDONLY)
    assert (of_ua1.remote_hold, of_ua2.remote_hold) == (True, False)
    ua2.set_direction(SENDRECV)
    of_ua2, of_ua1 = exchange(ua2, ua1)
    assert of_ua1.direction is of_ua2.direction is SENDRECV
    assert not of_ua1.remote_hold
    assert not of_ua2.remote_hold


def test_held_side_is_not_stuck_on_hold_by_its_next_offer() -> None:
    """RFC 6337, section 5.3: it offers what it wants, not what it was forced to answer."""
    alice, bob = negotiator(4000), negotiator(5000)
    alice.set_direction(SENDONLY)
    exchange(alice, bob)
    assert bob.create_offer().media[0].direction is SENDRECV


def test_holder_answers_hold_again_when_the_other_side_offers() -> None:
    alice, bob = negotiator(4000), negotiator(5000)
    alice.set_direction(SENDONLY)
    exchange(alice, bob)
    of_bob, of_alice = exchange(bob, alice)
    assert (of_alice.direction, of_bob.direction) == (SENDONLY, RECVONLY)


def test_silence_about_hold_leaves_what_the_peer_said_last() -> None:
    alice, bob = negotiator(4000), negotiator(5000)
    bob.set_direction(SENDONLY)
    of_bob, of_alice = exchange(bob, alice)
    assert of_alice.remote_hold
    alice.set_direction(INACTIVE)  # bob can only answer inactive, held or not
    of_alice, of_bob = exchange(alice, bob)
    assert of_alice.remote_hold
    assert of_bob.remote_hold
