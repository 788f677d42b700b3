"""Challenges: answered once for each realm, again when stale; after that the password is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from virtual_sip import (
    ANSWER,
    CONFIG,
    OFFER,
    SDP,
    Net,
    Phone,
)

from voip.sip.dialog import DialogState
from voip.sip.digest import Credentials, CredentialSource
from voip.sip.digest_server import DigestServer, Verdict
from voip.sip.events import (
    Answered,
    Cause,
    DialogEnded,
    IncomingInvite,
    InviteFailed,
    ReinviteDone,
    ReinviteReceived,
    RequestDone,
    RequestFailed,
    RequestReceived,
)
from voip.sip.message import Request, make_response
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("3261", "22")

ALICE = Credentials("alice", "wonderland")
WRONG = Credentials("alice", "guess")


class Pbx:
    """A phone that asks everybody for credentials before it answers."""

    def __init__(self, net: Net, lifetime: float = 300.0) -> None:
        config = replace(CONFIG, allow=(*CONFIG.allow, "REGISTER", "INFO"))
        self.net = net
        self.phone = net.phone("192.0.2.5", config)
        self.server = DigestServer(
            "pbx", {"alice": "wonderland"}, SeededRandom(5), nonce_lifetime_s=lifetime
        )
        self.verdicts: list[Verdict | None] = []
        self.status = 401
        self.informs = False
        self.more: list[tuple[str, str]] = []
        self.phone.on(IncomingInvite, self.take_invite)
        self.phone.on(ReinviteReceived, self.take_invite)
        self.phone.on(RequestReceived, self.take_request)

    def challenge(self, request: Request) -> list[tuple[str, str]] | None:
        """Return the challenge, or None for who has satisfied it."""
        ask = "WWW-Authenticate" if self.status == 401 else "Proxy-Authenticate"
        header = "Authorization" if self.status == 401 else "Proxy-Authorization"
        value = request.headers.get(header)
        verdict = self.server.verify(request.method, value, self.net.now).verdict if value else None
        self.verdicts.append(verdict)
        if verdict is Verdict.ACCEPTED:
            return None
        stale = verdict in (Verdict.STALE, Verdict.REPLAYED)
        return [(ask, text) for text in self.server.challenge(self.net.now, stale=stale)]

    def take_invite(self, event: IncomingInvite | ReinviteReceived) -> None:
        challenge = self.challenge(event.invite.request)
        if challenge is None:
            self.phone.answer(event.invite)
        else:
            self.phone.agent.respond(event.invite, self.status, headers=challenge, now=self.net.now)

    def take_request(self, event: RequestReceived) -> None:
        challenge = self.challenge(event.request.request)
        headers = challenge or ()
        if challenge is None and self.informs:
            value = event.request.request.headers.get("Authorization") or ""
            headers = [("Authentication-Info", self.server.info(value, b"", self.net.now))]
            headers += self.more
        self.phone.agent.reply(
            event.request, self.status if challenge else 200, headers=headers, now=self.net.now
        )


def register(net: Net, alice: Phone, pbx: Pbx, credentials: CredentialSource | None):  # type: ignore[no-untyped-def]
    return alice.agent.request(
        "REGISTER", "sip:192.0.2.5", flow=alice.to(pbx.phone), from_="<sip:alice@pbx>",
        to="<sip:alice@pbx>", cseq=3, credentials=credentials, now=net.now,
    )  # fmt: skip


def last(alice: Phone, net: Net, method: str) -> Request:
    return [
        m for _, m, f in net.wire
        if isinstance(m, Request) and m.method == method and f.local == alice.address
    ][-1]  # fmt: skip


@pytest.mark.parametrize("status", [401, 407])
def test_a_challenged_request_is_sent_again_with_credentials(
    net: Net, alice: Phone, status: int
) -> None:
    pbx = Pbx(net)
    pbx.status = status
    handle = register(net, alice, pbx, ALICE)
    net.run(1)
    done = alice.only(RequestDone)
    assert (done.handle, done.response.status) == (handle, 200)
    assert pbx.verdicts == [None, Verdict.ACCEPTED]
    assert handle.request.cseq.number == 4
    assert handle.authorized
    first, second = (m for _, m, f in net.wire if isinstance(m, Request))
    assert first.call_id == second.call_id
    assert first.from_ == second.from_
    assert first.via.branch != second.via.branch


def test_a_challenged_invite_is_sent_again_and_answered(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    alice.call(pbx.phone, credentials=ALICE)
    net.run(1)
    answered = alice.only(Answered)
    assert pbx.verdicts == [None, Verdict.ACCEPTED]
    # The ACK to the 2xx carries the credentials of its INVITE (13.2.2.4).
    ack, invite = last(alice, net, "ACK"), last(alice, net, "INVITE")
    assert ack.headers.get("Authorization") == invite.headers.get("Authorization")
    assert ack.cseq.number == invite.cseq.number == 2
    alice.agent.bye(answered.dialog, now=net.now)
    net.run(1)
    assert alice.only(DialogEnded).status == 200


def test_without_credentials_a_challenge_is_the_end(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    alice.call(pbx.phone)
    register(net, alice, pbx, None)
    net.run(1)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (401, Cause.AUTHENTICATION)
    assert not failed.invite.authorized
    assert alice.only(RequestFailed).cause is Cause.AUTHENTICATION


def test_a_wrong_password_is_tried_once(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    alice.call(pbx.phone, credentials=WRONG)
    register(net, alice, pbx, WRONG)
    net.run(5)
    failed = alice.only(InviteFailed)
    assert (failed.status, failed.cause) == (401, Cause.AUTHENTICATION)
    assert failed.invite.authorized
    refused = alice.only(RequestFailed)
    assert (refused.status, refused.cause) == (401, Cause.AUTHENTICATION)
    assert refused.response is not None
    assert sorted(str(v) for v in pbx.verdicts) == sorted(
        str(v) for v in [None, None, Verdict.WRONG_PASSWORD, Verdict.WRONG_PASSWORD]
    )


def test_credentials_for_another_realm_are_not_sent(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    register(net, alice, pbx, replace(ALICE, realm="elsewhere"))
    net.run(1)
    assert alice.only(RequestFailed).cause is Cause.AUTHENTICATION
    assert pbx.verdicts == [None]


def test_a_stale_nonce_is_answered_again(net: Net, alice: Phone) -> None:
    pbx = Pbx(net, lifetime=0.05)
    net.path.delay = (0.03, 0.03)  # there and back takes longer than the nonce lives
    handle = register(net, alice, pbx, ALICE)
    net.run(0.13)
    net.path.delay = (0.01, 0.01)
    net.run(1)
    assert pbx.verdicts[:2] == [None, Verdict.STALE]
    assert pbx.verdicts[-1] is Verdict.ACCEPTED
    assert alice.only(RequestDone).handle is handle


def test_a_server_that_finds_everything_stale_is_given_up(net: Net, alice: Phone) -> None:
    pbx = Pbx(net, lifetime=0.0)
    register(net, alice, pbx, ALICE)
    net.run(10)
    assert alice.only(RequestFailed).cause is Cause.AUTHENTICATION
    assert len(pbx.verdicts) == 1 + CONFIG.max_attempts


def test_every_proxy_gets_its_own_credentials(net: Net, alice: Phone) -> None:
    """RFC 3665 section 3.3: two proxies, each with a realm; the last try satisfies both."""
    pbx = Pbx(net)
    other = DigestServer("other", {"alice": "wonderland"}, SeededRandom(6))
    seen: list[list[str]] = []

    def both(event: RequestReceived) -> None:
        values = event.request.request.headers.get_all("Proxy-Authorization")
        seen.append(values)
        for server in (pbx.server, other):
            verdicts = [server.verify("REGISTER", v, net.now).verdict for v in values]
            if Verdict.ACCEPTED not in verdicts:
                headers = [("Proxy-Authenticate", c) for c in server.challenge(net.now)]
                pbx.phone.agent.reply(event.request, 407, headers=headers, now=net.now)
                return
        pbx.phone.agent.reply(event.request, 200, now=net.now)

    pbx.phone.reactions.clear()
    pbx.phone.on(RequestReceived, both)
    register(net, alice, pbx, ALICE)
    net.run(1)
    assert alice.only(RequestDone).response.status == 200
    assert [len(values) for values in seen] == [0, 1, 2]


def test_reinvite_info_and_bye_answer_challenges_with_the_dialogs_credentials(
    net: Net, alice: Phone
) -> None:
    pbx = Pbx(net)
    alice.call(pbx.phone, credentials=ALICE)
    net.run(1)
    dialog = alice.only(Answered).dialog
    assert dialog.credentials == ALICE
    alice.agent.reinvite(dialog, body=OFFER, content_type=SDP, now=net.now)
    net.run(1)
    assert alice.only(ReinviteDone).status == 200
    handle = alice.agent.dialog_request(dialog, "INFO", now=net.now)
    net.run(1)
    assert alice.only(RequestDone).handle is handle
    assert pbx.verdicts == [None, Verdict.ACCEPTED] * 3
    numbers = [
        m.cseq.number for _, m, f in net.wire
        if isinstance(m, Request) and f.local == alice.address and m.method != "ACK"
    ]  # fmt: skip
    assert numbers == [1, 2, 3, 4, 5, 6]
    alice.agent.bye(dialog, now=net.now)


def test_a_challenged_bye_is_sent_again_with_credentials(net: Net, alice: Phone) -> None:
    """The PBX's own agent answers BYE, so the challenge is put on the wire by hand."""
    pbx = Pbx(net)
    alice.call(pbx.phone, credentials=ALICE)
    net.run(1)
    dialog = alice.only(Answered).dialog
    net.path.drop = lambda m, _: isinstance(m, Request) and m.method == "BYE"
    alice.agent.bye(dialog, now=net.now)
    net.run(0.01)
    bye = last(alice, net, "BYE")
    [challenge, _] = pbx.server.challenge(net.now)
    refusal = make_response(bye, 401, headers=[("WWW-Authenticate", challenge)])
    alice.agent.receive(refusal.to_bytes(), alice.to(pbx.phone), net.now)
    net.path.drop = None
    net.run(1)
    again = last(alice, net, "BYE")
    assert again.cseq.number == bye.cseq.number + 1
    value = again.headers.get("Authorization")
    assert value is not None
    assert pbx.server.verify("BYE", value, net.now).verdict is Verdict.ACCEPTED
    assert alice.only(DialogEnded).status == 200
    assert dialog.state is DialogState.TERMINATED


def test_a_cancelled_invite_does_not_answer_a_challenge(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    invite = alice.call(pbx.phone, credentials=ALICE)
    alice.agent.cancel(invite, now=net.now)
    net.run(1)
    assert alice.only(InviteFailed).cause is Cause.CANCELLED
    assert pbx.verdicts == [None]


def test_the_caller_is_asked_by_a_new_invite_after_a_401(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    alice.call(pbx.phone, credentials=ALICE)
    net.run(1)
    first, second = pbx.phone.events(IncomingInvite)
    assert first.invite is not second.invite
    assert first.invite.tag != second.invite.tag
    assert second.invite.request.body == OFFER
    assert last(alice, net, "ACK").body == b""
    assert alice.only(Answered).response.body == ANSWER
    alice.agent.bye(alice.only(Answered).dialog, now=net.now)


def test_secrets_are_never_shown(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    invite = alice.call(pbx.phone, credentials=ALICE)
    handle = register(net, alice, pbx, ALICE)
    net.run(1)
    dialog = alice.only(Answered).dialog
    shown = " ".join(map(repr, [invite, handle, dialog, *alice.seen, *pbx.phone.seen]))
    assert "wonderland" not in shown
    assert "nonce" not in shown
    alice.agent.bye(dialog, now=net.now)


def test_F115_the_next_request_carries_the_nonce_that_the_server_named(
    net: Net, alice: Phone
) -> None:
    pbx = Pbx(net)
    pbx.informs = True
    for _ in range(3):
        register(net, alice, pbx, ALICE)
        net.run(1)
    assert pbx.verdicts == [None, Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert [done.handle.proven for done in alice.events(RequestDone)] == [True, True, True]
    assert alice.agent.counters.unproven == 0


def test_a_nonce_that_was_named_and_has_grown_old_is_no_wrong_password(
    net: Net, alice: Phone
) -> None:
    pbx = Pbx(net, lifetime=60)
    pbx.informs = True
    register(net, alice, pbx, ALICE)
    net.run(100)
    register(net, alice, pbx, ALICE)
    net.run(1)
    assert pbx.verdicts == [None, Verdict.ACCEPTED, Verdict.STALE, Verdict.ACCEPTED]
    assert len(alice.events(RequestDone)) == 2


def test_F115_who_does_not_know_the_password_cannot_prove_it(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    pbx.informs = True
    pbx.server.info = lambda value, body, now: (  # type: ignore[method-assign]
        f'rspauth="{"0" * 64}", nextnonce="{"x"}"'
    )
    for _ in range(2):
        register(net, alice, pbx, ALICE)
        net.run(1)
    assert [done.handle.proven for done in alice.events(RequestDone)] == [False, False]
    assert alice.agent.counters.unproven == 2
    assert pbx.verdicts == [None, Verdict.ACCEPTED] * 2  # its nonce is not used


@pytest.mark.parametrize(
    "text", ["", "rspauth", 'rspauth="', 'nextnonce="a",nextnonce="b"', 'rspauth="x",cnonce="y"']
)
def test_what_a_server_says_of_credentials_may_be_nonsense(
    net: Net, alice: Phone, text: str
) -> None:
    pbx = Pbx(net)
    pbx.informs = True
    pbx.server.info = lambda value, body, now: text  # type: ignore[method-assign]
    register(net, alice, pbx, ALICE)
    net.run(1)
    assert alice.only(RequestDone).handle.proven is None


def test_F115_a_server_and_a_proxy_that_ask_in_one_response_are_both_answered(
    net: Net, alice: Phone
) -> None:
    """What a proxy that forks puts together (RFC 3261 section 16.7, step 7)."""
    pbx = Pbx(net)
    proxy = DigestServer("proxy", {"a.lice": "loop"}, SeededRandom(6), qop=("auth-int",))
    asked: list[tuple[str, str]] = []

    def who(realm: str, server: str) -> Credentials | None:
        asked.append((realm, server))
        return {"pbx": ALICE, "proxy": Credentials("a.lice", "loop")}.get(realm)

    def both(event: RequestReceived) -> None:
        request = event.request.request
        mine = request.headers.get("Authorization")
        its = request.headers.get("Proxy-Authorization")
        if mine is None or its is None:
            headers = [("WWW-Authenticate", c) for c in pbx.server.challenge(net.now)]
            headers += [("Proxy-Authenticate", c) for c in proxy.challenge(net.now)]
            pbx.phone.agent.reply(event.request, 401, headers=headers, now=net.now)
            return
        verdicts = [
            pbx.server.verify("REGISTER", mine, net.now).verdict,
            proxy.verify("REGISTER", its, net.now, body=request.body).verdict,
        ]
        pbx.verdicts += verdicts
        pbx.phone.agent.reply(event.request, 200, now=net.now)

    pbx.phone.reactions.clear()
    pbx.phone.on(RequestReceived, both)
    register(net, alice, pbx, who)
    net.run(1)
    assert pbx.verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED]
    assert alice.only(RequestDone).handle.request.cseq.number == 4
    assert asked == [("pbx", "192.0.2.5"), ("proxy", "192.0.2.5")]


def test_nobody_is_told_credentials_for_a_realm_that_has_none(net: Net, alice: Phone) -> None:
    pbx = Pbx(net)
    register(net, alice, pbx, lambda realm, server: None)
    net.run(1)
    assert alice.only(RequestFailed).cause is Cause.AUTHENTICATION
    assert pbx.verdicts == [None]
