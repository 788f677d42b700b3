"""What a proxy decides by its users and where they are: RFC 3261 section 16."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_stage import P1, USERS, Desk, at
from virtual_sip import OFFER, SDP, Net, Phone, Proxy, request_text

from voip.sip.authenticator import Authenticator
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.events import Answered, DialogEnded, IncomingInvite, InviteFailed, RequestDone
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location
from voip.sip.proxy import ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.sip.registrar import Registrar
from voip.sip.uri import SipUri
from voip.types import SeededRandom

pytestmark = [pytest.mark.rfc("3261", "16"), pytest.mark.rfc("5393", "4")]


class TestPolicy:
    def world(self, net: Net) -> tuple[Phone, Phone, Proxy, Location]:
        location = Location()
        digest = DigestServer("here", USERS, SeededRandom(3))
        policy = LocationPolicy(
            USERS,
            location,
            Authenticator(digest, proxy=True),
            Registrar(USERS, location, Authenticator(digest)),
        )
        proxy = net.proxy(P1, policy, ProxyConfig(domains=frozenset({"here.example"})))
        return net.phone("192.0.2.1"), net.phone("192.0.2.2"), proxy, location

    def register(self, net: Net, phone: Phone, proxy: Proxy, user: str) -> None:
        phone.agent.request(
            "REGISTER", "sip:here.example", flow=phone.to(proxy),
            from_=f"<sip:{user}@here.example>", to=f"<sip:{user}@here.example>",
            headers=[("Contact", phone.contact)],
            credentials=Credentials(user, USERS[user]), now=net.now,
        )  # type: ignore[arg-type]  # fmt: skip
        net.run(1)
        assert phone.only(RequestDone).response.status == 200
        phone.seen.clear()

    def dial(self, phone: Phone, proxy: Proxy, uri: str, sender: str, **more: Any) -> Any:
        return phone.agent.invite(
            uri, flow=phone.to(proxy), from_=f"<{sender}>", to=f"<{uri}>", contact=phone.contact,
            body=OFFER, content_type=SDP, now=phone.net.now, **more,
        )  # type: ignore[arg-type]  # fmt: skip

    def test_a_user_calls_another(self, net: Net) -> None:
        alice, bob, proxy, _ = self.world(net)
        self.register(net, bob, proxy, "bob")
        at(net, bob, IncomingInvite)
        self.dial(
            alice, proxy, "sip:bob@here.example", "sip:alice@here.example",
            credentials=Credentials("alice", "wonderland"),
            headers=[("P-Asserted-Identity", "<sip:president@example.com>")],
        )  # fmt: skip
        net.run(2)
        alice.only(Answered)
        request = bob.only(IncomingInvite).invite.request
        assert request.uri == bob.uri
        assert "Proxy-Authorization" not in request.headers
        # F129: what was claimed is gone, what the proxy knows is said
        assert request.headers.get_all("P-Asserted-Identity") == ["<sip:alice@here.example>"]
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(2)

    @pytest.mark.parametrize(
        ("uri", "sender", "user", "status"),
        [
            ("sip:nobody@here.example", "sip:stranger@there.example", None, 480),
            ("sip:carol@here.example", "sip:stranger@there.example", None, 480),
            ("sip:x@192.0.2.77", "sip:stranger@there.example", None, 403),
            ("sip:x@192.0.2.77", "sip:alice@there.example", None, 403),
            ("sip:carol@here.example", "sip:alice@here.example", None, 407),
            ("sip:carol@here.example", "sip:alice@here.example", "bob", 403),
        ],
    )
    def test_who_may_not_call_whom(
        self, net: Net, uri: str, sender: str, user: str | None, status: int
    ) -> None:
        alice, _, proxy, _ = self.world(net)
        credentials = None if user is None else Credentials(user, USERS[user])
        self.dial(alice, proxy, uri, sender, credentials=credentials)
        net.run(1)
        assert alice.only(InviteFailed).status == status

    def test_a_number_that_is_no_user_is_not_found(self) -> None:
        desk = Desk(LocationPolicy(USERS, Location(), None))
        assert desk.status(request_text("INVITE", uri="tel:+441632960123")) == 404

    def test_strangers_may_call_users(self, net: Net) -> None:
        alice, bob, proxy, location = self.world(net)
        uri = SipUri.parse(bob.uri)
        location.set("bob", [Binding(NameAddr("", bob.uri), uri, 1e9, "c", 1)], 0.0)
        at(net, bob, IncomingInvite)
        self.dial(alice, proxy, "sip:bob@here.example", "sip:stranger@there.example")
        net.run(2)
        assert "P-Asserted-Identity" not in bob.only(IncomingInvite).invite.request.headers
        alice.agent.bye(alice.only(Answered).dialog, now=net.now)
        net.run(2)

    def test_F129_a_caller_who_asks_for_privacy_is_not_named(self, net: Net) -> None:
        alice, bob, proxy, _ = self.world(net)
        self.register(net, bob, proxy, "bob")
        self.dial(
            alice, proxy, "sip:bob@here.example", "sip:alice@here.example",
            credentials=Credentials("alice", "wonderland"), headers=[("Privacy", "id")],
        )  # fmt: skip
        net.run(1)
        invite = bob.only(IncomingInvite).invite
        assert "P-Asserted-Identity" not in invite.request.headers
        bob.answer(invite, 486)
        net.run(1)

    def test_F111_a_phone_that_came_by_a_connection_is_called_by_it(self, net: Net) -> None:
        alice, bob, proxy, location = self.world(net)
        flow = Flow("tcp", proxy.address, bob.address)
        contact = "<sip:bob@10.1.1.1;transport=tcp>"
        binding = Binding(
            NameAddr.parse(contact), SipUri.parse("sip:bob@10.1.1.1"), 1e9, "c", 1, flow=flow
        )
        location.set("bob", [binding], 0.0)
        at(net, bob, IncomingInvite)
        self.dial(alice, proxy, "sip:bob@here.example", "sip:stranger@there.example")
        net.run(1)
        assert bob.only(IncomingInvite).invite.flow.transport == "tcp"
        dialog = alice.only(Answered).dialog
        dialog.remote_target = "sip:bob@10.1.1.1"  # what nobody can reach
        alice.agent.bye(dialog, now=net.now)
        net.run(1)
        assert bob.only(DialogEnded).by_remote
        proxy.agent.flow_failed(flow, "closed", net.now)
        assert location.bindings("bob", net.now) == []
