"""The calls of RFC 3665, RFC 3261 section 24 and RFC 5359 between our own agents.

`test_sip_agent_rfc3665` has them message by message as printed.
"""

from __future__ import annotations

from typing import Any

import pytest
from flow_relay import Relay, relay
from flow_stage import Stage, stage
from virtual_sip import ANSWER, CONFIG, OFFER, SDP, Phone, replace

from voip.sip.dialog import Dialog
from voip.sip.digest import Credentials
from voip.sip.events import (
    Acknowledged,
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteCancelled,
    InviteFailed,
    Provisional,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestReceived,
)
from voip.sip.message import Request, Response
from voip.types import Address

__all__ = ["stage"]


def dial(stage: Stage, first: Relay | Phone, **more: Any) -> Any:
    """Alice calls Bob by `first`."""
    through = [first.uri] if isinstance(first, Relay) else []
    invite = stage.alice.agent.invite(
        more.pop("uri", stage.bob.uri),
        flow=stage.alice.to(first),  # type: ignore[arg-type]
        from_=more.pop("from_", f"<{stage.alice.uri}>"),
        to=f"<{stage.bob.uri}>",
        contact=stage.alice.contact,
        route=through,
        body=more.pop("body", OFFER),
        content_type=SDP,
        now=stage.net.now,
        **more,
    )
    stage.step()
    return invite


def two_proxies(stage: Stage) -> tuple[Relay, Relay]:
    stage.lose_only_at(stage.alice)
    second = relay(stage.net, "192.0.2.12", stage.bob.address)
    return relay(stage.net, "192.0.2.11", second.address), second


def incoming(stage: Stage) -> Any:
    return stage.bob.events(IncomingInvite)[-1].invite


def answer(stage: Stage) -> tuple[Dialog, Dialog]:
    """Bob rings and answers; return both ends' dialogs."""
    stage.bob.answer(incoming(stage), 180)
    stage.step()
    stage.bob.answer(incoming(stage))
    stage.step()
    return stage.alice.only(Answered).dialog, stage.bob.only(Acknowledged).dialog


def hang_up(stage: Stage, phone: Phone, dialog: Dialog) -> None:
    phone.agent.bye(dialog, now=stage.net.now)
    stage.step()
    assert stage.alice.only(DialogEnded).by_remote is (phone is stage.bob)
    assert stage.bob.only(DialogEnded).by_remote is (phone is stage.alice)


def test_F006_a_call_is_set_up_and_ended(stage: Stage) -> None:
    dial(stage, stage.bob)
    _, theirs = answer(stage)
    hang_up(stage, stage.bob, theirs)
    assert stage.sent(stage.alice) == ["INVITE", "ACK", "200 BYE"]


def test_F007_a_call_through_two_proxies(stage: Stage) -> None:
    first, second = two_proxies(stage)
    dial(stage, first)
    ours, theirs = answer(stage)
    assert list(ours.route_set) == [first.uri, second.uri]
    assert list(theirs.route_set) == [second.uri, first.uri]
    hang_up(stage, stage.bob, theirs)
    for proxy in (first, second):
        assert {"INVITE", "ACK", "BYE"} <= set(proxy.passed)


def test_F008_a_call_past_two_proxies_that_ask_for_credentials(stage: Stage) -> None:
    first, second = two_proxies(stage)
    first.realm, second.realm = "atlanta.example.com", "biloxi.example.com"
    dial(stage, first, credentials=Credentials("alice", "secret"))
    stage.step()
    ours, _ = answer(stage)
    [invite] = {m.to_bytes(): m for _, m, f in stage.net.wire if f.remote == stage.bob.address
                and isinstance(m, Request) and m.method == "INVITE"}.values()  # fmt: skip
    realms = [h.split('realm="')[1].split('"')[0] for h in
              invite.headers.get_all("Proxy-Authorization")]  # fmt: skip
    assert sorted(realms) == ["atlanta.example.com", "biloxi.example.com"]
    assert invite.cseq.number == 3
    hang_up(stage, stage.alice, ours)


def test_F009_a_proxy_that_is_dead_is_followed_by_another(stage: Stage) -> None:
    dead, alive = two_proxies(stage)
    dead.dead = True
    alive.onward = stage.bob.address
    dial(stage, dead)
    stage.net.run(33)
    failed = stage.alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (408, Cause.TIMEOUT)
    dial(stage, alive)
    ours, _ = answer(stage)
    hang_up(stage, stage.alice, ours)


def test_F010_a_call_past_a_gateway_that_changes_descriptions(stage: Stage) -> None:
    """The gateway stands for RFC 3665's ALG: Alice's address is another one outside."""
    outside = b"192.0.2.99"

    def change(message: Request | Response) -> None:
        message.body = message.body.replace(b"IN IP4 192.0.2.1", b"IN IP4 " + outside)

    gateway = relay(stage.net, "192.0.2.11", stage.bob.address, change=change)
    dial(stage, gateway)
    ours, _ = answer(stage)
    assert outside in incoming(stage).request.body
    hang_up(stage, stage.alice, ours)
    assert set(gateway.passed) >= {"INVITE", "ACK", "BYE"}


def test_F011_redirected_then_through_a_proxy_with_the_description_in_the_ack(
    stage: Stage,
) -> None:
    redirecting = stage.net.phone("192.0.2.3")
    redirecting.on(IncomingInvite, lambda event: redirecting.answer(
        event.invite, 302, headers=[("Contact", f"<{stage.bob.uri}>")]
    ))  # fmt: skip
    first = dial(stage, redirecting, body=b"")
    moved = stage.alice.only(InviteFailed)
    assert moved.response is not None
    [contact] = moved.response.contacts
    proxy = relay(stage.net, "192.0.2.11", stage.bob.address)
    dial(
        stage, proxy, body=b"", uri=contact.uri, call_id=first.request.call_id,
        cseq=first.request.cseq.number + 1, from_=first.request.from_,
    )  # fmt: skip
    stage.bob.answer(incoming(stage), 180, reliable=False)
    stage.step()
    stage.bob.answer(incoming(stage), body=OFFER)
    stage.net.run(5)
    ours = stage.alice.only(Answered).dialog
    stage.alice.agent.ack(ours, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.step()
    assert stage.bob.only(Acknowledged).request.body == ANSWER
    assert stage.bob.only(Acknowledged).request.call_id == first.request.call_id
    hang_up(stage, stage.alice, ours)


def test_F012_a_phone_that_moves_says_so_by_reinvite(stage: Stage) -> None:
    dial(stage, stage.bob)
    ours, theirs = answer(stage)
    stage.alice.on(ReinviteReceived, lambda event: stage.alice.answer(event.invite))
    moved = Address("192.0.2.22", 5060)
    stage.net.phones[moved] = stage.bob
    theirs.contact = f"<sip:phone@{moved}>"
    stage.bob.agent.reinvite(theirs, body=ANSWER, content_type=SDP, now=stage.net.now)
    stage.step()
    stage.step()
    assert stage.bob.only(ReinviteDone).status == 200
    assert ours.remote_target == f"sip:phone@{moved}"
    hang_up(stage, stage.alice, ours)
    assert any(f.remote == moved for _, m, f in stage.net.wire
               if isinstance(m, Request) and m.method == "BYE")  # fmt: skip
    del stage.net.phones[moved]


def test_F013_nobody_answers_and_the_caller_gives_up(stage: Stage) -> None:
    first, _ = two_proxies(stage)
    invite = dial(stage, first)
    stage.bob.answer(incoming(stage), 180)
    stage.step()
    stage.alice.agent.cancel(invite, now=stage.net.now)
    stage.step()
    stage.step()
    assert stage.alice.only(InviteFailed).cause is Cause.CANCELLED
    assert stage.bob.only(InviteCancelled).status == 487


@pytest.mark.parametrize("status", [486, 480], ids=["F014 busy", "F016 unavailable"])
def test_F014_F016_the_callee_refuses(stage: Stage, status: int) -> None:
    first, _ = two_proxies(stage)
    dial(stage, first)
    stage.bob.answer(incoming(stage), status)
    stage.step()
    failed = stage.alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (status, Cause.RESPONSE)
    assert stage.alice.agent.dialogs == stage.bob.agent.dialogs == []


def test_F015_the_callees_phone_is_dead(stage: Stage) -> None:
    first, second = two_proxies(stage)
    second.onward = Address("192.0.2.77", 5060)
    dial(stage, first)
    stage.net.run(33)
    failed = stage.alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (408, Cause.TIMEOUT)


@pytest.mark.parametrize("by_caller", [True, False], ids=["by caller", "by callee"])
def test_F017_hold_and_resume(stage: Stage, by_caller: bool) -> None:
    dial(stage, stage.bob)
    ours, theirs = answer(stage)
    asking, asked = (stage.alice, stage.bob) if by_caller else (stage.bob, stage.alice)
    asked.on(ReinviteReceived, lambda event: asked.answer(event.invite))
    for direction in (b"a=sendonly\r\n", b"a=sendrecv\r\n"):
        asking.agent.reinvite(
            ours if by_caller else theirs, body=OFFER + direction, content_type=SDP,
            now=stage.net.now,
        )  # fmt: skip
        stage.step()
        stage.step()
    offers = [e.invite.request.body for e in asked.events(ReinviteReceived)]
    assert [body.splitlines()[-1] for body in offers] == [b"a=sendonly", b"a=sendrecv"]
    assert [e.status for e in asking.events(ReinviteDone)] == [200, 200]
    hang_up(stage, stage.alice, ours)


def test_F084_registration_and_session_setup(stage: Stage) -> None:
    """RFC 3261 section 24: Bob registers; Alice's call reaches him through two proxies."""
    registrar = stage.net.phone("192.0.2.3", replace(CONFIG, allow=(*CONFIG.allow, "REGISTER")))
    registrar.on(RequestReceived, lambda event: registrar.agent.reply(
        event.request, 200, now=stage.net.now,
        headers=[("Contact", f"{event.request.request.headers.get('Contact')};expires=7200")],
    ))  # fmt: skip
    stage.bob.agent.request(
        "REGISTER", "sip:192.0.2.3", flow=stage.bob.to(registrar), from_=f"<{stage.bob.uri}>",
        to=f"<{stage.bob.uri}>", headers=[("Contact", stage.bob.contact), ("Expires", "7200")],
        now=stage.net.now,
    )  # fmt: skip
    stage.step()
    registered = stage.bob.only(RequestDone).response
    assert (registered.status, registered.contacts[0].param("expires")) == (200, "7200")
    first, _ = two_proxies(stage)
    dial(stage, first)
    _, theirs = answer(stage)
    rang = [e.response.status for e in stage.alice.events(Provisional) if e.dialog is not None]
    assert rang == [180] * len(rang)
    hang_up(stage, stage.bob, theirs)
