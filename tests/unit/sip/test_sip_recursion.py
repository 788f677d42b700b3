"""A proxy that follows 3xx itself: RFC 3261 section 16.7, step 4."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from virtual_sip import OFFER, SDP, Net, Phone, Proxy, assert_nothing_left

from voip.sip.events import Answered, IncomingInvite, InviteFailed
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.proxy import ProxyAgent, ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.types import SeededRandom

pytestmark = [pytest.mark.rfc("3261", "16.7")]

USERS = {"bob": "builder", "carol": "singer"}
HERE = "192.0.2.11"


class Town:
    """A caller, bob and carol at a proxy, and somebody elsewhere."""

    def __init__(self, max_redirects: int = 5) -> None:
        self.net = net = Net()
        self.caller, self.bob, self.carol, self.away = (net.phone(f"192.0.2.{n}") for n in range(4))
        self.location = Location()
        policy = LocationPolicy(USERS, self.location, None)
        config = ProxyConfig(max_redirects=max_redirects)
        self.proxy: Proxy = net.proxy(HERE, policy, config)
        self.proxy.agent = ProxyAgent(config, policy, SeededRandom(1), redirect=policy.redirect)
        for user, phone in (("bob", self.bob), ("carol", self.carol)):
            contact = NameAddr("", f"sip:{user}@{phone.address}")
            self.location.set(user, [Binding(contact, contact.sip_uri, 1e9, user, 1)], 0.0)

    def send_on(self, phone: Phone, *contacts: str, status: int = 302) -> None:
        headers = [("Contact", contact) for contact in contacts]
        phone.on(IncomingInvite, lambda it: phone.answer(it.invite, status, headers=headers))

    def take(self, phone: Phone) -> None:
        phone.on(IncomingInvite, lambda it: phone.answer(it.invite))

    def call(self) -> None:
        caller = self.caller
        caller.agent.invite(
            f"sip:bob@{HERE}", flow=caller.to(self.proxy),  # type: ignore[arg-type]
            from_="<sip:dora@elsewhere.example>", to=f"<sip:bob@{HERE}>", contact=caller.contact,
            body=OFFER, content_type=SDP, now=self.net.now,
        )  # fmt: skip
        self.net.run(5.0)

    def rang(self, phone: Phone) -> list[str]:
        return [event.invite.request.uri for event in phone.events(IncomingInvite)]

    def end(self) -> None:
        for answered in self.caller.events(Answered):
            self.caller.agent.bye(answered.dialog, now=self.net.now)
        assert_nothing_left(self.net)


@pytest.fixture
def town() -> Iterator[Town]:
    town = Town()
    yield town
    town.end()


def test_a_user_of_ours_is_looked_up_where_they_are(town: Town) -> None:
    town.send_on(town.bob, f"<sip:carol@{HERE}>")
    town.take(town.carol)
    town.call()
    town.caller.only(Answered)
    assert town.rang(town.carol) == [f"sip:carol@{town.carol.address}"]
    assert town.caller.events(InviteFailed) == []


def test_the_preferred_contact_is_tried_first_and_the_others_when_it_refuses(town: Town) -> None:
    town.send_on(
        town.bob, f"<sip:x@{town.away.address}>;q=0.2", f"<sip:carol@{HERE}>;q=0.8", status=300
    )
    town.send_on(town.carol, status=486)
    town.take(town.away)
    town.call()
    town.caller.only(Answered)
    assert len(town.rang(town.carol)) == len(town.rang(town.away)) == 1


def test_two_that_send_on_to_each_other_are_each_tried_once(town: Town) -> None:
    town.send_on(town.bob, f"<sip:carol@{HERE}>")
    town.send_on(town.carol, f"<sip:bob@{HERE}>", f"<sip:bob@{town.bob.address}>")
    town.call()
    assert len(town.rang(town.bob)) == len(town.rang(town.carol)) == 1
    assert town.caller.only(InviteFailed).status == 302


def test_what_cannot_be_followed_is_left_to_the_caller(town: Town) -> None:
    town.send_on(town.bob, f"<sip:carol@{HERE}>", "<mailto:bob@example.com>", f"<sip:no@{HERE}>")
    town.send_on(town.carol, status=486)
    town.call()
    failed = town.caller.only(InviteFailed)
    assert failed.status == 302 and failed.response is not None
    left = [contact.uri for contact in failed.response.contacts]
    assert left == ["mailto:bob@example.com", f"sip:no@{HERE}"]


def test_305_is_not_followed(town: Town) -> None:
    town.send_on(town.bob, f"<sip:carol@{HERE}>", status=305)
    town.call()
    assert town.caller.only(InviteFailed).status == 305
    assert town.rang(town.carol) == []


@pytest.mark.parametrize("limit", [0, 3])
def test_a_chain_ends_at_the_limit(limit: int) -> None:
    town = Town(limit)
    chain = [town.bob, *(town.net.phone(f"192.0.2.{n}") for n in range(20, 26))]
    for phone, onward in pairwise(chain):
        town.send_on(phone, f"<{onward.uri}>")
    town.call()
    assert [len(town.rang(phone)) for phone in chain] == [1] * (limit + 1) + [0] * (6 - limit)
    failed = town.caller.only(InviteFailed)
    assert failed.status == 302 and failed.response is not None
    assert [contact.uri for contact in failed.response.contacts] == [chain[limit + 1].uri]
    town.end()
