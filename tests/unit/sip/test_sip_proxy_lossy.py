"""Hundreds of random calls through two proxies over a bad network: each ends, nothing is left."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from proxy_stage import Says, sent
from virtual_sip import OFFER, SDP, Net, Path, Phone, assert_nothing_left

from voip.errors import CallStateError
from voip.sip.dialog import DialogState
from voip.sip.events import (
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    RequestDone,
    RequestFailed,
)
from voip.sip.proxy_policy import Decision, Forward, Incoming, Target
from voip.types import SeededRandom

CALLS = 25
SEEDS = range(4)
PATHS = {
    "no loss": Path(delay=(0.01, 0.05)),
    "20 % loss": Path(loss=0.2, delay=(0.01, 0.05)),
    "20 % loss, duplicates, reordering": Path(loss=0.2, duplication=0.2, delay=(0.01, 0.8)),
}


class Users:
    """Alice calls by two proxies; Bob has two phones that do this and that at random times."""

    def __init__(self, seed: int, path: Path) -> None:
        self.net = Net(path, seed)
        self.random = SeededRandom(seed + 1000)
        self.alice = self.net.phone("192.0.2.1")
        self.bobs = [self.net.phone("192.0.2.2"), self.net.phone("192.0.2.3")]
        self.first = self.net.proxy("192.0.2.11", Says(lambda _: self.onward()))
        self.second = self.net.proxy("192.0.2.12", Says(self.fork))
        self.invites: list[Any] = []
        for phone in self.bobs:
            phone.on(IncomingInvite, lambda event, phone=phone: self.incoming(phone, event))
        self.alice.on(Answered, lambda event: self.hang_up(self.alice, event.dialog))

    def onward(self) -> Decision:
        return Forward(((Target("sip:bob@192.0.2.12"),),))

    def fork(self, incoming: Incoming) -> Decision:
        targets = tuple(Target(phone.uri) for phone in self.bobs)
        return Forward((targets,) if self.one_in(2) else tuple((target,) for target in targets))

    def one_in(self, number: int) -> bool:
        return self.random.below(number) == 0

    def soon(self, most: float, do: Any) -> None:
        def tried() -> None:
            with suppress(CallStateError):
                do()

        self.net.at(self.net.now + self.random.uniform(0, most), tried)

    def call(self) -> None:
        alice = self.alice
        invite = alice.agent.invite(
            "sip:bob@192.0.2.11", flow=alice.to(self.first), from_="<sip:alice@a.example>",  # type: ignore[arg-type]
            to="<sip:bob@b.example>", contact=alice.contact, body=OFFER, content_type=SDP,
            now=self.net.now,
        )  # fmt: skip
        self.invites.append(invite)
        if self.one_in(4):
            self.soon(6.0, lambda: alice.agent.cancel(invite, now=self.net.now))

    def incoming(self, phone: Phone, event: IncomingInvite) -> None:
        invite = event.invite
        if not self.one_in(4):
            self.soon(1.0, lambda: phone.answer(invite, 180))
        status = (200, 200, 200, 486, 480, 603)[self.random.below(6)]

        def decide() -> None:
            phone.answer(invite, status)
            if status == 200:
                self.hang_up(phone, invite.dialog)

        self.soon(6.0, decide)

    def hang_up(self, phone: Phone, dialog: Any) -> None:
        self.soon(20.0, lambda: phone.agent.bye(dialog, now=self.net.now))


@pytest.mark.parametrize("kind", PATHS)
def test_F028_every_call_through_proxies_ends_and_leaves_nothing(kind: str) -> None:
    answered = 0
    causes: Counter[str] = Counter()
    for seed in SEEDS:
        users = Users(seed, PATHS[kind])
        for _ in range(CALLS):
            users.net.at(users.random.uniform(0, 30), users.call)
        users.net.run(400)
        assert_nothing_left(users.net)
        ends: Counter[int] = Counter()
        for event in users.alice.seen:
            assert not isinstance(event, RequestDone | RequestFailed)
            if isinstance(event, Answered | InviteFailed):
                ends[id(event.invite)] += 1
        assert ends == {id(invite): 1 for invite in users.invites}
        dialogs = {id(event.dialog): event.dialog for event in users.alice.events(Answered)}
        over = [id(event.dialog) for event in users.alice.events(DialogEnded)]
        assert sorted(over) == sorted(dialogs)
        for phone in users.bobs:
            for dialog in (event.dialog for event in phone.events(DialogEnded)):
                assert dialog.state is DialogState.TERMINATED
        for proxy in (users.first, users.second):
            assert proxy.agent.counters.malformed == 0
            assert sent(users.net, "BYE", proxy)
        answered += len(dialogs)
        causes.update(event.cause.value for event in users.alice.events(InviteFailed))
    assert answered > CALLS
    assert causes[Cause.RESPONSE.value] > 5
    assert causes[Cause.CANCELLED.value] > 5
    assert sum(causes.values()) + answered == CALLS * len(SEEDS)


def test_a_dead_callee_leaves_nothing_in_a_proxy() -> None:
    users = Users(1, Path())
    users.net.phones = {
        address: phone for address, phone in users.net.phones.items() if phone not in users.bobs
    }
    for _ in range(10):
        users.call()
    users.net.run(100)
    statuses = Counter(event.status for event in users.alice.events(InviteFailed))
    assert set(statuses) <= {408, 487}  # some give up
    assert (statuses[408] > 3, statuses.total()) == (True, 10)
    assert_nothing_left(users.net)
