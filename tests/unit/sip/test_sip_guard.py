"""Floods in virtual time: who is held back, who never is, and what it costs to remember."""

from __future__ import annotations

from dataclasses import replace

from virtual_sip import CONFIG, OFFER, SDP, Net, Stranger, established, request_text

from voip.sip.authenticator import Authenticator
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.events import DialogEnded, IncomingInvite, RequestDone
from voip.sip.flow import Flow
from voip.sip.guard import ALL_SOURCES, BURST_S, HALF_OPEN_S, MAX_SOURCES, Admission, Guard
from voip.sip.location import Location
from voip.sip.message import Response
from voip.sip.proxy import ProxyConfig
from voip.sip.proxy_policy import LocationPolicy
from voip.sip.registrar import Registrar
from voip.sip.server_invite import ServerInvite
from voip.types import Address, SeededRandom

RATE = 10.0
GUARDED = replace(CONFIG, stranger_rate=RATE)
INVITE = request_text("INVITE").encode()


def from_host(host: str, transport: str = "udp") -> Flow:
    return Flow(transport, Address("192.0.2.1", 5060), Address(host, 5060))


def options(number: int, **more: str) -> str:
    return request_text("OPTIONS", branch=f"z9hG4bK{number}", call_id=f"c{number}", **more)


# The guard alone.


def test_a_source_may_begin_its_burst_at_once_and_then_its_rate() -> None:
    guard = Guard(RATE)
    at_once = sum(guard.admit_new("192.0.2.9", 0.0) for _ in range(1000))
    assert at_once == 2 * RATE
    later = sum(guard.admit_new("192.0.2.9", 0.0 + n / 1000) for n in range(10_000))
    assert 10 * RATE - 2 <= later <= 10 * RATE + 1


def test_all_strangers_together_have_a_rate_too() -> None:
    guard = Guard(RATE)
    hosts = [f"127.0.{n // 250}.{n % 250}" for n in range(1000)]
    begun = sum(guard.admit_new(hosts[n % 1000], n / 10_000) for n in range(100_000))
    assert begun <= ALL_SOURCES * RATE * (10 + 2) + 1
    assert begun >= ALL_SOURCES * RATE * 10


def test_what_is_remembered_of_sources_is_bounded() -> None:
    guard = Guard(RATE)
    for number in range(50_000):
        guard.look(INVITE, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", number / 10_000)
    assert len(guard) == MAX_SOURCES
    for number in range(50_000):
        guard.know(f"10.9.{number >> 8}.{number & 255}", 5.0)
    assert len(guard) < 20_000


def test_a_source_that_was_silent_until_its_bucket_was_full_is_forgotten() -> None:
    guard = Guard(10.0)
    for number in range(100):
        guard.admit_new(f"192.0.2.{number}", 0.0)
    assert len(guard) == 100
    guard.admit_new("198.51.100.1", BURST_S)
    assert len(guard) == 1
    guard.forget_full(2 * BURST_S)  # and by itself, where nobody comes any more
    assert len(guard) == 0


def test_a_clock_that_stands_still_or_errs_gives_no_tokens() -> None:
    guard = Guard(RATE)
    begun = sum(guard.admit_new("192.0.2.9", 5.0 - n) for n in range(100))
    assert begun == 2 * RATE


def test_who_is_known_is_known_for_an_hour() -> None:
    guard = Guard(RATE, trusted=["192.0.2.7"])
    guard.know("192.0.2.8", 0.0)
    for now in (0.0, 3599.0):
        assert [guard.knows(f"192.0.2.{n}", now) for n in (7, 8, 9)] == [True, True, False]
    assert [guard.knows(f"192.0.2.{n}", 3601.0) for n in (7, 8, 9)] == [True, False, False]
    assert len(guard) == 0


def test_responses_and_what_belongs_to_something_are_told_from_their_first_words() -> None:
    guard = Guard(0.5)
    assert guard.look(INVITE, "192.0.2.9", 0.0) is Admission.WELCOME
    response = INVITE.replace(b"INVITE sip:phone@192.0.2.1 SIP/2.0", b"SIP/2.0 200 OK")
    tagged = request_text("BYE", to_tag="ours").encode()
    expected = {
        INVITE: Admission.OVER,
        response: Admission.WELCOME,
        b"\r\n" + response: Admission.WELCOME,
        tagged: Admission.UNPROVEN,
        tagged.replace(b"To: ", b"t \t: "): Admission.UNPROVEN,
        tagged.replace(b";tag=ours", b" ; TAG = ours"): Admission.UNPROVEN,
        request_text("CANCEL").encode(): Admission.UNPROVEN,
        request_text("ACK").encode(): Admission.UNPROVEN,
        b"": Admission.OVER,
        b"\r\n\r\n": Admission.OVER,
        b"\xff" * 1000: Admission.OVER,
    }
    for data, admission in expected.items():
        assert guard.look(data, "192.0.2.9", 0.1) is admission, data


def test_without_a_rate_nobody_is_held_back_and_nothing_is_remembered() -> None:
    guard = Guard(None)
    assert all(guard.look(INVITE, "192.0.2.9", 0.0) is Admission.WELCOME for _ in range(1000))
    assert len(guard) == 0


# An agent behind it.


def test_sources_are_forgotten_when_a_timer_is_due_whose_ever_it_is() -> None:
    agent = Stranger(GUARDED).agent
    agent.guard.admit_new("192.0.2.9", 0.0)
    agent.handle_timer(BURST_S - 0.1)
    assert len(agent.guard) == 1
    agent.handle_timer(BURST_S)
    assert len(agent.guard) == 0


class Caller(Stranger):
    """Calls that phone again and again, as slowly as it may; `rings` has what it rings for."""

    def __init__(self) -> None:
        super().__init__(GUARDED)
        self.rings: list[ServerInvite] = []
        self._count = 0

    def call(self, count: int) -> list[int]:
        """Call so often; return what was answered at once, 100 for what rings."""
        return [self._call_once() for _ in range(count)]

    def _call_once(self) -> int:
        self.now += 1 / RATE
        self._count += 1
        names = {"branch": f"z9hG4bK{self._count}", "call_id": f"c{self._count}"}
        answers = self.tell(request_text("INVITE", body="x", **names))
        self.rings += [e.invite for e in self.agent.events() if isinstance(e, IncomingInvite)]
        [status] = [answer.status for answer in answers if isinstance(answer, Response)] or [100]
        return status

    def refuse(self, invite: ServerInvite) -> None:
        self.agent.respond(invite, 480, now=self.now)
        self.heard()

    def acknowledge(self, invite: ServerInvite) -> None:
        request = invite.request
        names = {"branch": request.via.branch or "", "call_id": request.call_id}
        self.tell(request_text("ACK", to_tag=invite.tag, **names))


def test_strangers_have_a_burst_of_calls_whose_answer_nobody_acknowledges() -> None:
    caller = Caller()
    most = int(BURST_S * RATE)
    assert caller.call(most + 50) == [100] * most + [503] * 50
    assert caller.agent.transactions == most  # what is refused leaves nothing
    assert caller.agent.counters.overload == 50
    for invite in caller.rings:
        caller.refuse(invite)
    assert caller.call(3) == [503] * 3  # the caller may be a forged address
    for invite in caller.rings[:2]:
        caller.acknowledge(invite)
    assert caller.call(3) == [100, 100, 503]
    caller.now = HALF_OPEN_S + 1
    assert caller.call(1) == [100]


def test_calls_that_are_answered_and_acknowledged_have_no_such_limit() -> None:
    caller = Caller()
    for _ in range(5 * int(BURST_S * RATE)):
        assert caller.call(1) == [100]
        invite = caller.rings[-1]
        caller.agent.respond(
            invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=caller.now
        )
        caller.heard()
        caller.acknowledge(invite)


def test_who_is_known_may_call_while_strangers_may_not() -> None:
    caller = Caller()
    assert caller.call(30)[-1] == 503
    caller.agent.guard.know("192.0.2.9", caller.now)
    assert caller.call(30) == [100] * 30
    assert len(caller.rings) == 2 * RATE + 30


def test_a_flood_over_udp_is_dropped_without_a_word() -> None:
    stranger = Stranger(GUARDED)
    answers = [answer for n in range(1000) for answer in stranger.tell(options(n))]
    assert len(answers) == 2 * RATE
    assert stranger.agent.counters.flooded == 1000 - 2 * RATE
    stranger.now = 1.0
    assert len(stranger.tell(options(2000))) == 1


def test_a_flood_over_a_connection_is_told_when_to_come_again() -> None:
    stranger = Stranger(GUARDED)
    flow = from_host("192.0.2.9", "tcp")
    answers = [answer for n in range(100) for answer in stranger.tell(options(n), flow)]
    assert [a.status for a in answers if isinstance(a, Response)] == [200] * 20 + [503] * 80
    assert all(answer.headers.get("Retry-After") for answer in answers[20:])
    assert stranger.empty()


def test_a_flood_that_says_it_belongs_to_calls_is_dropped_too() -> None:
    for method in ("BYE", "ACK", "CANCEL", "INVITE", "NOTIFY", "PRACK", "UPDATE"):
        stranger = Stranger(GUARDED)
        for n in range(200):
            text = request_text(method, branch=f"z9hG4bK{n}", call_id=f"c{n}", to_tag=f"t{n}")
            stranger.tell(text.replace("Max-Forwards", "Event: dialog\r\nMax-Forwards"))
        assert stranger.agent.counters.flooded == 200 - 2 * RATE, method
        malformed = request_text(method, to_tag="t", cseq=f"x {method}")
        assert stranger.tell(malformed) == []


def test_a_call_is_served_in_the_middle_of_a_flood_from_its_own_address() -> None:
    stranger = Stranger(GUARDED)
    stranger.tell(request_text("INVITE", body="x"))
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    tag = event.invite.tag
    for n in range(1000):
        stranger.tell(options(n))
    before = stranger.agent.counters.flooded
    again = stranger.tell(request_text("INVITE", body="x"))  # a repetition counts as any other
    assert again == [] and stranger.agent.counters.flooded == before + 1
    stranger.agent.respond(
        event.invite, 200, contact="<sip:p@192.0.2.1>", body=OFFER, content_type=SDP, now=0.0
    )
    stranger.heard()
    stranger.tell(request_text("ACK", branch="z9hG4bKack", to_tag=tag))
    for number, method in enumerate(("OPTIONS", "UPDATE", "BYE"), 2):
        text = request_text(method, branch=f"z9h{method}", to_tag=tag, cseq=f"{number} {method}")
        assert [a.status for a in stranger.tell(text) if isinstance(a, Response)] == [200], method
    assert stranger.agent.counters.flooded == before + 1
    assert [e for e in stranger.agent.events() if isinstance(e, DialogEnded)]


def test_a_call_that_rings_is_cancelled_in_the_middle_of_a_flood() -> None:
    stranger = Stranger(GUARDED)
    stranger.tell(request_text("INVITE", body="x"))
    for n in range(1000):
        stranger.tell(options(n))
    heard = stranger.tell(request_text("CANCEL"))
    assert [answer.status for answer in heard if isinstance(answer, Response)] == [200, 487]


def test_whom_we_turn_to_is_known_and_nobody_else() -> None:
    net = Net()
    alice, bob = net.phone("192.0.2.1", GUARDED), net.phone("192.0.2.2", GUARDED)
    alice.agent.request(
        "OPTIONS",
        bob.uri,
        flow=alice.to(bob),
        from_=alice.contact,
        to=bob.contact,
        now=net.now,
    )
    net.run(1.0)
    assert alice.events(RequestDone)
    assert alice.agent.guard.knows("192.0.2.2", net.now)
    assert not bob.agent.guard.knows("192.0.2.1", net.now)
    for n in range(100):
        alice.agent.receive(options(n).encode(), alice.to(bob), net.now)
    assert alice.agent.counters.flooded == 0


def test_a_caller_is_not_known_for_answering_within_its_call() -> None:
    net = Net()
    alice, bob = net.phone("192.0.2.1", GUARDED), net.phone("192.0.2.2", GUARDED)
    _, theirs = established(net, alice, bob)
    bob.agent.bye(theirs, now=net.now)
    net.run(1.0)
    assert bob.events(DialogEnded)
    assert not bob.agent.guard.knows("192.0.2.1", net.now)


# A proxy and registrar behind it.


def test_a_proxy_holds_strangers_back_and_not_who_has_shown_a_password() -> None:
    net = Net()
    digest = DigestServer("voip", {"alice": "secret"}, SeededRandom(3))
    known: list[str] = []

    def know(host: str, now: float) -> None:
        known.append(host)
        proxy.agent.core.guard.know(host, now)

    authenticator = Authenticator(digest, known=know)
    location = Location()
    policy = LocationPolicy(
        {"alice": ""}, location, authenticator, Registrar({"alice": ""}, location, authenticator)
    )
    proxy = net.proxy("192.0.2.7", policy, ProxyConfig(stranger_rate=RATE))
    alice = net.phone("192.0.2.1")
    for n in range(200):
        flow = Flow("udp", proxy.address, Address("192.0.2.99", 5060))
        proxy.agent.receive(options(n, uri="sip:192.0.2.7").encode(), flow, net.now)
    assert proxy.agent.counters.flooded == 200 - 2 * RATE

    def register() -> None:
        alice.agent.request(
            "REGISTER",
            "sip:192.0.2.7",
            flow=Flow("udp", alice.address, proxy.address),
            from_="<sip:alice@192.0.2.7>",
            to="<sip:alice@192.0.2.7>",
            headers=[("Contact", alice.contact)],
            credentials=Credentials("alice", "secret"),
            now=net.now,
        )

    for _ in range(100):
        register()
        net.run(0.05)
    assert [event.response.status for event in alice.events(RequestDone)] == [200] * 100
    assert set(known) == {"192.0.2.1"}
    assert proxy.agent.counters.flooded == 200 - 2 * RATE
    proxy.agent.handle_timer(net.now + BURST_S)
    assert len(proxy.agent.core.guard) == len(set(known))
