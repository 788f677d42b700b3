"""Whoever begins a dialog says where it is reached, once (RFC 3261 sections 8.1.1.8, 12.1)."""

from __future__ import annotations

import pytest
from event_world import EVENTS, accepting, ends, two, watch
from virtual_sip import Stranger, request_text, response_text

from voip.sip.events import Answered, DialogEnded, ReinviteReceived
from voip.sip.flow import Flow
from voip.sip.message import Request, Response
from voip.types import Address

pytestmark = pytest.mark.rfc("3261", "8.1.1.8")

CONTACT = "Contact: <sip:stranger@192.0.2.9>\r\n"
MORE = {
    "INVITE": "",
    "SUBSCRIBE": "Event: presence\r\n",
    "REFER": "Refer-To: <sip:carol@192.0.2.7>\r\n",
}
OLD_VIA = "SIP/2.0/UDP 192.0.2.9"


def asked(method: str, contact: str, via: str | None = None) -> Response:
    """What an agent says to a request with these Contact lines; it tells its user of none."""
    peer = Stranger(EVENTS)
    text = request_text(method, via=via, more=MORE[method]).replace(CONTACT, "")
    text = text.replace("Max-Forwards", f"{contact}Max-Forwards")
    (answer, *_) = peer.tell(text)
    assert isinstance(answer, Response)
    assert peer.agent.events() == []
    peer.wait(40)
    assert peer.empty()
    return answer


@pytest.mark.parametrize("method", list(MORE))
@pytest.mark.parametrize(
    ("contact", "said"),
    [
        ("", "one Contact is needed in {}, not 0"),
        (CONTACT * 2, "one Contact is needed in {}, not 2"),
        ("Contact: <sip:a@192.0.2.9>, <sip:b@192.0.2.9>\r\n", "one Contact is needed in {}, not 2"),
        ("Contact: *\r\n", "a SIP URI is needed in the Contact of {}"),
        ("Contact: <tel:+493012345>\r\n", "a SIP URI is needed in the Contact of {}"),
        ("Contact: <sip:a b@192.0.2.9>\r\n", "not an address: '<sip:a b@192.0.2.9>'"),
    ],
)
def test_who_does_not_say_where_it_is_begins_no_dialog(
    method: str, contact: str, said: str
) -> None:
    answer = asked(method, contact)
    assert (answer.status, answer.reason) == (400, said.format(method))


def test_rfc_2543_did_not_ask_an_invite_for_it() -> None:
    peer = Stranger()
    peer.tell(request_text("INVITE", via=OLD_VIA).replace(CONTACT, ""))
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 180, contact="<sip:us@192.0.2.1>", now=0)
    assert event.invite.dialog.remote_target == "sip:stranger@192.0.2.9"
    assert asked("SUBSCRIBE", "", OLD_VIA).status == 400
    peer.agent.respond(event.invite, 480, now=0)


def test_within_a_dialog_who_says_nothing_stays_where_it_is() -> None:
    peer = Stranger()
    peer.tell(request_text("INVITE"))
    (event,) = peer.agent.events()
    peer.agent.respond(event.invite, 200, contact="<sip:us@192.0.2.1>", body=b"v=0", now=0)
    tag = event.invite.dialog.local.tag
    peer.tell(request_text("ACK", to_tag=tag, cseq="1 ACK", branch="z9hG4bKack"))
    again = request_text("INVITE", to_tag=tag, cseq="2 INVITE", branch="z9hG4bK2")
    peer.tell(again.replace(CONTACT, ""))
    change = peer.agent.events()[-1]
    assert isinstance(change, ReinviteReceived)
    assert change.dialog.remote_target == "sip:stranger@192.0.2.9"


@pytest.mark.rfc("6665", "4.4.1")
def test_a_notify_that_begins_a_dialog_says_it_too() -> None:
    net, watcher, watched = two()
    notifiers = accepting(watched)

    def forget(message: Request | Response, _: object) -> bool:
        return isinstance(message, Request) and message.method == "NOTIFY"

    net.path.drop = forget
    watch(watcher, watched)
    net.run(0.1)
    (notify,) = [m for _, m, _ in net.wire if isinstance(m, Request) and m.method == "NOTIFY"][:1]
    notify.headers.remove("Contact")
    back = Flow("udp", watcher.address, watched.address)
    watcher.agent.receive(notify.to_bytes(), back, net.now)
    net.flush()
    refusal = next(m for _, m, _ in net.wire[::-1] if isinstance(m, Response))
    assert (refusal.status, refusal.reason) == (400, "one Contact is needed in NOTIFY, not 0")
    assert watcher.agent.dialogs == []
    assert ends(watcher) == []
    net.run(1)
    assert notifiers[0].is_over


@pytest.mark.rfc("3261", "12.1.2")
def test_an_answer_that_does_not_say_it_is_reached_as_it_was_called() -> None:
    """Through the proxy that the INVITE went by: the call goes on."""
    here = Stranger()
    proxy = Flow("udp", here.flow.local, Address("192.0.2.50", 5060))
    here.agent.invite(
        "sip:stranger@192.0.2.9", flow=proxy, from_="<sip:phone@192.0.2.1>",
        to="<sip:stranger@192.0.2.9>", contact="<sip:phone@192.0.2.1>", body=b"v=0", now=0,
    )  # fmt: skip
    (invite,) = here.heard()
    here.agent.receive(response_text(invite, 200).replace(CONTACT, "").encode(), proxy, 0.0)
    (answered,) = here.agent.events()
    assert isinstance(answered, Answered)
    here.agent.bye(answered.dialog, now=0)
    (ack, by), (bye, by_too) = here.heard_with_flows()
    assert isinstance(ack, Request)
    assert isinstance(bye, Request)
    assert (ack.uri, bye.uri) == ("sip:stranger@192.0.2.9",) * 2
    assert by == by_too == proxy
    here.tell(response_text(bye, 200))
    assert isinstance(here.agent.events()[-1], DialogEnded)
