"""Two of our calls with each other, where nothing or every fifth datagram is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from town import CONFIG, Party, Town

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy
from voip.sip.message import Request, Response

NO_UPDATE = replace(CONFIG, allow=tuple(m for m in CONFIG.allow if m != "UPDATE"))


@pytest.fixture(params=[0.0, 0.2], ids=["0% loss", "20% loss"])
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    town = Town(request.param, seed=sum(map(ord, request.node.name)))
    yield town
    town.close()


@pytest.fixture
def alice(town: Town) -> Party:
    return Party(town, "192.0.2.1", 10000)


@pytest.fixture
def bob(town: Town) -> Party:
    return Party(town, "192.0.2.2", 20000)


def said(town: Town, what: str) -> list[Request | Response]:
    """Messages by method, or by status and method, repetitions left out."""
    found = {
        m.to_bytes(): m
        for m in town.wire
        if (m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}") == what
    }
    return list(found.values())


def up(town: Town, alice: Party, bob: Party, **more: Any) -> tuple[Call, Call]:
    mine = alice.dial(bob, **more)
    town.until(lambda: bool(bob.calls) and mine._session.is_up and bob.call._session.is_up)
    assert alice.sends_to == ("192.0.2.2", 20000)
    assert bob.sends_to == ("192.0.2.1", 10000)
    return mine, bob.call


def hang_up(town: Town, party: Party, call: Call) -> None:
    party.do(call.hangup())
    town.run(100)
    for person in (p for p in town.people.values() if isinstance(p, Party)):
        left = (person.agent.transactions, len(person.agent.dialogs), person.agent.timers)
        assert left == (0, 0, 0), person.address
        assert person.driver.streams == set()
        assert all(c.state is CallState.ENDED for c in person.calls)


async def early(call: Call) -> None:
    await call.progress()
    await asyncio.sleep(20)


def test_F087_offer_in_the_invite_answer_in_the_200(town, alice, bob):
    mine, _ = up(town, alice, bob)
    assert said(town, "INVITE")[0].body
    hang_up(town, alice, mine)


def test_F088_offer_in_the_200_answer_in_the_ack(town, alice, bob):
    mine, _ = up(town, alice, bob, late_offer=True)
    [ack] = said(town, "ACK")
    assert ack.body
    assert not said(town, "INVITE")[0].body
    hang_up(town, alice, mine)


def test_F089_answer_in_a_reliable_183(town, alice, bob):
    bob.before = early
    mine = alice.dial(bob)
    town.until(lambda: mine.state is CallState.EARLY)
    assert alice.sends_to == ("192.0.2.2", 20000)
    town.until(lambda: mine._session.is_up and bob.call._session.is_up)
    assert said(town, "PRACK") != []
    assert not said(town, "200 INVITE")[0].body
    hang_up(town, alice, mine)


def test_F090_offer_in_a_reliable_183_answer_in_the_prack(town, alice, bob):
    bob.before = early
    mine = alice.dial(bob, late_offer=True)
    town.until(lambda: mine.state is CallState.EARLY and bob.calls[0].state is CallState.EARLY)
    assert bob.sends_to == ("192.0.2.1", 10000)
    town.until(lambda: mine._session.is_up and bob.call._session.is_up)
    assert said(town, "PRACK")[0].body
    assert not said(town, "ACK")[0].body
    hang_up(town, bob, bob.call)


def test_F086_F092_hold_before_the_answer_goes_by_update(town, alice, bob):
    bob.before = early
    mine = alice.dial(bob)
    town.until(lambda: mine.state is CallState.EARLY)
    alice.do(mine.hold())
    assert said(town, "UPDATE")[0].body
    assert said(town, "200 UPDATE")[0].body
    town.until(lambda: mine.state is CallState.HELD and bob.call.state is CallState.HELD)
    assert bob.sends_to is None
    hang_up(town, alice, mine)


@pytest.mark.parametrize("by_caller", [True, False], ids=["by caller", "by callee"])
def test_F017_F094_hold_and_resume(town, alice, bob, by_caller):
    mine, theirs = up(town, alice, bob)
    holder, holding = (alice, mine) if by_caller else (bob, theirs)
    held, other = (bob, theirs) if by_caller else (alice, mine)
    holder.do(holding.hold())
    town.until(lambda: other.state is CallState.HELD)
    assert held.sends_to is None
    holder.do(holding.resume())
    town.until(lambda: other.state is CallState.ACTIVE)
    assert held.sends_to is not None
    hang_up(town, holder, holding)


def test_F059_F093_both_hold_at_once(town, alice, bob):
    mine, theirs = up(town, alice, bob)

    async def both() -> None:
        await asyncio.gather(mine.hold(), theirs.hold())

    alice.do(both())
    town.until(lambda: alice.sends_to is None and bob.sends_to is None)
    assert mine.state is theirs.state is CallState.HELD
    hang_up(town, alice, mine)


@pytest.mark.parametrize("callee", [CONFIG, NO_UPDATE], ids=["by UPDATE", "by re-INVITE"])
def test_F096_a_call_of_two_hours_is_refreshed_and_stays(town, alice, callee):
    bob = Party(town, "192.0.2.2", 20000, callee)
    mine, theirs = up(town, alice, bob)
    town.run(7100)
    assert mine.state is theirs.state is CallState.ACTIVE
    method = "UPDATE" if callee is CONFIG else "INVITE"
    refreshes = [m for m in said(town, method) if isinstance(m, Request) and m.to.tag]
    assert len(refreshes) == 7
    hang_up(town, alice, mine)


def test_F096_a_call_whose_other_side_has_died_ends(town, alice, bob):
    mine, _ = up(town, alice, bob)
    del town.people[bob.address]
    town.run(2000)
    assert (mine.ended.by, mine.ended.status) == (EndedBy.FAILURE, 408)


def test_F013_a_call_that_is_given_up_while_it_rings(town, alice, bob):
    async def ring(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(60)

    bob.before = ring
    mine = alice.dial(bob)
    town.until(lambda: bool(bob.calls) and bob.call.state is CallState.RINGING)
    town.run(5)
    hang_up(town, alice, mine)
    assert bob.calls[0].ended.by is EndedBy.REMOTE


def test_F014_a_call_that_is_refused(town, alice, bob):
    async def refuse(call: Call) -> None:
        await call.reject(486)

    bob.before = refuse
    mine = alice.dial(bob)
    town.until(lambda: mine.state is CallState.ENDED)
    assert mine.ended.status == 486
    hang_up(town, alice, mine)


def test_F015_a_call_to_a_phone_that_is_dead(town, alice, bob):
    del town.people[bob.address]
    mine = alice.dial(bob)
    with pytest.raises(CallError, match="no response"):
        alice.do(mine.wait_answered())
    assert mine.ended.status == 408
    hang_up(town, alice, mine)
