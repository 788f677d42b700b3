"""What becomes of a dialog's requests and target at its edges (RFC 3261 sections 12.2 and 15)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from event_world import accepting, two, watch
from virtual_sip import CONFIG, Stranger, request_text

from voip.sip.config import AgentConfig
from voip.sip.events import DialogEnded, IncomingInvite, RequestReceived, UpdateReceived
from voip.sip.message import Request, Response
from voip.types import Address

INFO: AgentConfig = replace(CONFIG, allow=(*CONFIG.allow, "INFO"))


def in_a_call(config: AgentConfig = INFO) -> tuple[Stranger, str]:
    """A call of a stranger's; our tag."""
    peer = Stranger(config)
    peer.tell(request_text("INVITE", body="v=0"))
    (event,) = peer.agent.events()
    assert isinstance(event, IncomingInvite)
    peer.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", body=b"v=0", now=0)
    tag = event.invite.tag
    peer.tell(request_text("ACK", to_tag=tag, cseq="1 ACK", branch="z9hG4bKack"))
    peer.agent.events()
    return peer, tag


def statuses(messages: list[Request | Response]) -> list[tuple[int, str]]:
    return [(m.status, m.cseq.method) for m in messages if isinstance(m, Response)]


@pytest.mark.rfc("3261", "15.1.2")
@pytest.mark.parametrize("method", ["INFO", "UPDATE"])
def test_what_waits_for_a_reply_when_the_call_ends_is_answered_487(method: str) -> None:
    peer, tag = in_a_call()
    body = "v=0" if method == "UPDATE" else ""
    more = {"to_tag": tag, "branch": "z9hG4bK2", "cseq": f"2 {method}", "body": body}
    assert peer.tell(request_text(method, **more)) == []
    (waiting,) = peer.agent.events()
    assert isinstance(waiting, RequestReceived | UpdateReceived)
    answers = peer.tell(request_text("BYE", to_tag=tag, branch="z9hG4bK3", cseq="3 BYE"))
    assert sorted(statuses(answers)) == [(200, "BYE"), (487, method)]
    # who replies all the same has come too late, and is told nothing of it
    peer.agent.reply(waiting.request, 200, now=0)
    assert peer.heard() == []
    assert peer.agent.counters.late_replies == 1
    (again,) = peer.tell(request_text(method, **more))
    assert statuses([again]) == [(487, method)]
    peer.wait(40)
    assert peer.empty()


def test_what_has_been_replied_to_is_not_answered_again() -> None:
    peer, tag = in_a_call()
    peer.tell(request_text("INFO", to_tag=tag, branch="z9hG4bK2", cseq="2 INFO"))
    (waiting,) = peer.agent.events()
    assert isinstance(waiting, RequestReceived)
    peer.agent.reply(waiting.request, 200, now=0)
    peer.heard()
    answers = peer.tell(request_text("BYE", to_tag=tag, branch="z9hG4bK3", cseq="3 BYE"))
    assert statuses(answers) == [(200, "BYE")]
    assert isinstance(peer.agent.events()[-1], DialogEnded)


@pytest.mark.rfc("3261", "12.2.1.2")
@pytest.mark.parametrize("method", ["SUBSCRIBE", "NOTIFY"])
def test_the_answer_to_a_request_that_refreshes_our_target_refreshes_theirs(method: str) -> None:
    net, watcher, watched = two()
    notifiers = accepting(watched)
    subscription = watch(watcher, watched)
    net.run(1)
    asks, moved = (watcher, watched) if method == "SUBSCRIBE" else (watched, watcher)
    dialog = subscription.dialog if method == "SUBSCRIBE" else notifiers[0].dialog
    assert dialog.flow.remote == moved.address

    def elsewhere(message: Request | Response, _: object) -> bool:
        """Let who answers say that it is elsewhere; what it says by a NOTIFY gets lost."""
        if isinstance(message, Request):
            return method == "SUBSCRIBE" and message.method == "NOTIFY"
        if message.cseq.method == method:
            message.headers.set("Contact", "<sip:moved@192.0.2.77>")
            back = asks.to(moved)
            net.at(net.now, lambda: asks.agent.receive(message.to_bytes(), back, net.now))
        return message.cseq.method == method

    net.path.drop = elsewhere
    if method == "SUBSCRIBE":
        subscription.refresh(net.now)
    else:
        notifiers[0].notify(b"second", now=net.now)
    net.run(0.1)
    assert dialog.remote_target == "sip:moved@192.0.2.77"
    assert dialog.flow.remote == Address("192.0.2.77", 5060)


@pytest.mark.rfc("3261", "7.3.1")
def test_option_tags_are_the_same_in_whatever_case() -> None:
    peer = Stranger()
    answers = peer.tell(request_text("INVITE", body="v=0", more="Require: 100REL, Timer\r\n"))
    assert answers == []
    (event,) = peer.agent.events()
    assert event.invite.must_be_reliable
    peer.agent.respond(event.invite, 180, contact="<sip:us@192.0.2.1>", now=0)
    (ringing,) = peer.heard()
    assert ringing.headers.values("Require") == ["100rel"]
    (refused,) = peer.tell(request_text("OPTIONS", branch="z9hG4bK9", more="Require: Foo\r\n"))
    assert isinstance(refused, Response)
    assert (refused.status, refused.headers.get("Unsupported")) == (420, "Foo")
