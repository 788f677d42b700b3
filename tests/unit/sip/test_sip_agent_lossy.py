"""Hundreds of random calls over a bad network: each ends as it should, and nothing is left.

Loss of 20 %, duplicates, reordering, and users who answer, refuse, ignore, cancel, hold and hang up
whenever they like, both at once too. All of it is seeded: a failure repeats to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from virtual_sip import OFFER, SDP, Net, Path, Phone, assert_nothing_left

from voip.errors import CallStateError
from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import (
    Acknowledged,
    Answered,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    RequestReceived,
)
from voip.types import SeededRandom

CALLS = 25
SEEDS = range(8)


class Users:
    """What the two people do, at random times."""

    def __init__(self, seed: int, path: Path) -> None:
        self.net = Net(path, seed)
        self.random = SeededRandom(seed + 1000)
        self.alice, self.bob = self.net.phone("192.0.2.1"), self.net.phone("192.0.2.2")
        self.invites: list[Any] = []
        self.handles: list[Any] = []
        self.answered: list[Dialog] = []
        for phone in (self.alice, self.bob):
            phone.on(IncomingInvite, lambda event, phone=phone: self.incoming(phone, event))
            phone.on(ReinviteReceived, lambda event, phone=phone: self.changed(phone, event))
            phone.on(Answered, lambda event, phone=phone: self.up(phone, event.dialog))

    def soon(self, most: float, do: Callable[[], object]) -> None:
        def tried() -> None:
            try:
                do()
            except CallStateError:
                self.too_late += 1

        self.net.at(self.net.now + self.random.uniform(0, most), tried)

    too_late = 0

    def one_in(self, number: int) -> bool:
        return self.random.below(number) == 0

    def call(self) -> None:
        caller, callee = (self.alice, self.bob) if self.one_in(2) else (self.bob, self.alice)
        invite = caller.call(callee)
        self.invites.append(invite)
        if self.one_in(3):
            self.soon(8.0, lambda: caller.agent.cancel(invite, now=self.net.now))

    def incoming(self, phone: Phone, event: IncomingInvite) -> None:
        invite = event.invite
        if not self.one_in(4):
            self.soon(1.0, lambda: phone.answer(invite, 180))
        self.soon(6.0, lambda: self.decide(phone, invite))

    def decide(self, phone: Phone, invite: Any) -> None:
        choice = self.random.below(10)
        if choice < 2:
            phone.answer(invite, 486)
        elif choice < 9:
            phone.answer(invite)
            self.answered.append(invite.dialog)
            self.up(phone, invite.dialog)
        else:
            self.soon(60.0, lambda: phone.answer(invite, 480))

    def up(self, phone: Phone, dialog: Dialog) -> None:
        """Do this and that in a call, and hang up some time."""
        for _ in range(self.random.below(3)):
            self.soon(15.0, lambda: self.change(phone, dialog))
        if self.one_in(2):
            self.soon(15.0, lambda: self.ask(phone, dialog))
        self.soon(20.0, lambda: phone.agent.bye(dialog, now=self.net.now))

    def change(self, phone: Phone, dialog: Dialog) -> None:
        self.handles.append(
            phone.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=self.net.now)
        )

    def changed(self, phone: Phone, event: ReinviteReceived) -> None:
        status = 488 if self.one_in(5) else 200
        self.soon(1.0, lambda: phone.answer(event.invite, status))

    def ask(self, phone: Phone, dialog: Dialog) -> None:
        self.handles.append(phone.agent.dialog_request(dialog, "OPTIONS", now=self.net.now))


def ends(users: Users) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """How often each INVITE, each other request and each dialog was told to have ended."""
    invites: Counter[int] = Counter()
    handles: Counter[int] = Counter()
    dialogs: Counter[int] = Counter()
    for event in (*users.alice.seen, *users.bob.seen):
        match event:
            case Answered() | InviteFailed():
                invites[id(event.invite)] += 1
            case ReinviteDone() | RequestDone() | RequestFailed():
                handles[id(event.handle)] += 1
            case DialogEnded():
                dialogs[id(event.dialog)] += 1
            case _:
                assert not isinstance(event, RequestReceived)
    return invites, handles, dialogs


PATHS = {
    "20 % loss": Path(loss=0.2, delay=(0.01, 0.05)),
    "20 % loss, duplicates, reordering": Path(loss=0.2, duplication=0.2, delay=(0.01, 1.2)),
    "no loss, long way": Path(delay=(0.3, 0.9)),
}


@pytest.mark.parametrize("kind", PATHS)
def test_every_call_ends_in_a_defined_state_and_leaves_nothing(kind: str) -> None:
    calls = answered = reinvites = 0
    causes: Counter[str] = Counter()
    for seed in SEEDS:
        users = Users(seed, PATHS[kind])
        for _ in range(CALLS):
            users.net.at(users.random.uniform(0, 30), users.call)
        users.net.run(240)
        assert_nothing_left(users.net)
        invites, handles, dialogs = ends(users)
        # Every INVITE, re-INVITE and request ends exactly once ...
        assert invites == {id(invite): 1 for invite in users.invites}
        assert handles == {id(handle): 1 for handle in users.handles}
        # ... and every dialog that anybody has answered or seen answered too.
        seen = [e.dialog for p in (users.alice, users.bob) for e in p.events(Answered)]
        assert dialogs == {id(dialog): 1 for dialog in (*users.answered, *seen)}
        for dialog in (*users.answered, *seen):
            assert dialog.state is DialogState.TERMINATED
        # Nobody was acknowledged twice, nor called twice by one INVITE.
        both = (*users.alice.seen, *users.bob.seen)
        for kind_ in (IncomingInvite, InviteCancelled):
            told = [id(event.invite) for event in both if isinstance(event, kind_)]
            assert len(told) == len(set(told))
        acknowledged = [
            (id(e.dialog), e.request.cseq.number) for e in both if isinstance(e, Acknowledged)
        ]
        assert len(acknowledged) == len(set(acknowledged))
        assert len([e for e in both if isinstance(e, IncomingInvite)]) == CALLS
        calls += len(users.invites)
        answered += len(seen)
        reinvites += sum(1 for e in both if isinstance(e, ReinviteDone) and e.status == 200)
        causes.update(e.cause.value for e in both if isinstance(e, InviteFailed))
    assert calls == CALLS * len(SEEDS) == 200
    assert answered > 60
    assert reinvites > 20
    assert causes["cancelled"] > 15
    assert causes["response"] > 15


def test_the_same_seed_gives_the_same_traffic_to_the_bit() -> None:
    def traffic() -> list[tuple[float, bytes]]:
        users = Users(3, PATHS["20 % loss, duplicates, reordering"])
        for _ in range(5):
            users.net.at(users.random.uniform(0, 10), users.call)
        users.net.run(200)
        return [(now, message.to_bytes()) for now, message, _ in users.net.wire]

    first = traffic()
    assert len(first) > 50
    assert first == traffic()


def test_a_dead_network_ends_everything() -> None:
    for seed in range(5):
        users = Users(seed, Path(delay=(0.01, 0.3)))
        for _ in range(20):
            users.net.at(users.random.uniform(0, 20), users.call)
        users.net.run(15)
        users.net.path.drop = lambda message, flow: True
        users.net.run(400)
        assert_nothing_left(users.net)
        invites, handles, dialogs = ends(users)
        assert invites == {id(invite): 1 for invite in users.invites}
        assert handles == {id(handle): 1 for handle in users.handles}
        seen = [e.dialog for p in (users.alice, users.bob) for e in p.events(Answered)]
        assert dialogs == {id(dialog): 1 for dialog in (*users.answered, *seen)}
