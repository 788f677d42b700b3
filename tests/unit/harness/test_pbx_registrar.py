"""The registrar of the embedded PBX, asked by an agent in virtual time."""

from __future__ import annotations

import pytest

from voip.harness.pbx_registrar import (
    DEFAULT_EXPIRES_S,
    MAX_CONTACTS,
    MAX_EXPIRES_S,
    MIN_EXPIRES_S,
    PbxRegistrar,
)
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.events import Cause, RequestDone, RequestFailed, RequestReceived
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Response
from voip.types import Address, SeededRandom

USERS = {"alice": "wonderland", "bob": "builder"}
HERE, THERE = Address("192.0.2.1", 5060), Address("192.0.2.9", 5060)
DESK = "sip:alice@192.0.2.1"


class Wire:
    """A phone and a registrar, with nothing between them; `now` is whatever a test says."""

    def __init__(self, algorithms: tuple[str, ...] = ("MD5",)) -> None:
        self.now = 1000.0
        self.registrar = PbxRegistrar(USERS, SeededRandom(1), algorithms=algorithms)
        self.phone = SipAgent(AgentConfig(), SeededRandom(2))
        allow = (*AgentConfig().allow, "REGISTER")
        self.server = SipAgent(AgentConfig(allow=allow), SeededRandom(3))
        self.cseq = 0
        self.challenges = 0

    def register(
        self,
        *contacts: str,
        expires: int | None = None,
        user: str = "alice",
        password: str = USERS["alice"],
        address: str = "sip:alice@192.0.2.9",
        call_id: str = "one",
        cseq: int | None = None,
    ) -> RequestDone | RequestFailed:
        self.cseq += 2  # a challenge takes one
        headers = [("Contact", contact) for contact in contacts]
        if expires is not None:
            headers.append(("Expires", str(expires)))
        self.phone.request(
            "REGISTER",
            "sip:192.0.2.9",
            flow=Flow("udp", HERE, THERE),
            from_=f"<{address}>",
            to=f"<{address}>",
            call_id=call_id,
            cseq=self.cseq if cseq is None else cseq,
            headers=headers,
            credentials=Credentials(user, password),
            now=self.now,
        )
        while True:
            for data, _ in self.phone.outgoing():
                self.server.receive(data, Flow("udp", THERE, HERE), self.now)
            for event in self.server.events():
                assert isinstance(event, RequestReceived)
                self.registrar.register(event.request, self.now)
            for data, _ in self.server.outgoing():
                self.challenges += data.startswith(b"SIP/2.0 401")
                self.phone.receive(data, Flow("udp", HERE, THERE), self.now)
            for happened in self.phone.events():
                assert isinstance(happened, RequestDone | RequestFailed)
                return happened

    def contacts(self, user: str = "alice") -> list[str]:
        return self.registrar.contacts(user, self.now)


@pytest.fixture
def wire() -> Wire:
    return Wire()


def told(done: RequestDone | RequestFailed) -> dict[str, int]:
    """Return the bindings a 200 tells: URI and seconds."""
    assert isinstance(done, RequestDone), done
    assert done.response.status == 200, done
    found = [NameAddr.parse(value) for value in done.response.headers.values("Contact")]
    return {contact.uri: int(contact.param("expires") or -1) for contact in found}


def refusal(done: RequestDone | RequestFailed) -> Response:
    assert done.response is not None, done
    assert done.response.status >= 300, done
    return done.response


def test_a_binding_is_granted_and_told_with_the_seconds_it_has(wire: Wire) -> None:
    assert told(wire.register(f"<{DESK}>", expires=300)) == {DESK: 300}
    assert wire.challenges == 1
    assert wire.contacts() == [DESK]


def test_expires_of_a_contact_comes_before_that_of_the_message(wire: Wire) -> None:
    done = wire.register(f"<{DESK}>;expires=60", "<sip:alice@192.0.2.2>", expires=300)

    assert told(done) == {DESK: 60, "sip:alice@192.0.2.2": 300}


def test_who_asks_for_no_time_or_too_much_is_told_what_is_granted(wire: Wire) -> None:
    assert told(wire.register(f"<{DESK}>")) == {DESK: DEFAULT_EXPIRES_S}
    assert told(wire.register(f"<{DESK}>", expires=10**9)) == {DESK: MAX_EXPIRES_S}


def test_other_parameters_of_a_contact_are_told_as_they_came(wire: Wire) -> None:
    done = wire.register(f'<{DESK}>;q=0.5;+sip.instance="<urn:uuid:1>"', expires=60)

    assert isinstance(done, RequestDone)
    assert done.response.headers.get("Contact") == (
        f'<{DESK}>;q=0.5;+sip.instance="<urn:uuid:1>";expires=60'
    )


def test_too_short_a_time_is_refused_with_the_shortest_there_is(wire: Wire) -> None:
    response = refusal(wire.register(f"<{DESK}>", expires=MIN_EXPIRES_S - 1))

    assert response.status == 423
    assert response.headers.get("Min-Expires") == str(MIN_EXPIRES_S)
    assert wire.contacts() == []


def test_a_request_that_is_refused_changes_nothing(wire: Wire) -> None:
    wire.register(f"<{DESK}>", expires=60)

    wire.register("<sip:alice@192.0.2.2>", f"<{DESK}>;expires=1", expires=60)

    assert wire.contacts() == [DESK]


def test_a_binding_is_gone_when_its_time_is_over(wire: Wire) -> None:
    wire.register(f"<{DESK}>", expires=60)
    wire.now += 59.9
    assert wire.contacts() == [DESK]
    wire.now += 0.2
    assert wire.contacts() == []


def test_renewing_begins_the_time_anew(wire: Wire) -> None:
    wire.register(f"<{DESK}>", expires=60)
    wire.now += 50
    assert told(wire.register(f"<{DESK}>", expires=60)) == {DESK: 60}
    wire.now += 50
    assert wire.contacts() == [DESK]


def test_a_query_tells_the_bindings_and_changes_none(wire: Wire) -> None:
    wire.register(f"<{DESK}>", "<sip:alice@192.0.2.2>", expires=60)
    wire.now += 20

    assert told(wire.register()) == {DESK: 40, "sip:alice@192.0.2.2": 40}


def test_one_binding_is_removed_by_zero_and_all_by_a_star(wire: Wire) -> None:
    wire.register(f"<{DESK}>", "<sip:alice@192.0.2.2>", "<sip:alice@192.0.2.3>", expires=60)

    assert set(told(wire.register(f"<{DESK}>", expires=0))) == {
        "sip:alice@192.0.2.2",
        "sip:alice@192.0.2.3",
    }
    assert told(wire.register("*", expires=0)) == {}
    assert wire.contacts() == []


@pytest.mark.parametrize(
    ("contacts", "expires"), [(("*",), 60), (("*", f"<{DESK}>"), 0), (("*",), None)]
)
def test_a_star_that_does_not_stand_for_removing_everything_is_refused(
    wire: Wire, contacts: tuple[str, ...], expires: int | None
) -> None:
    wire.register(f"<{DESK}>", expires=60)

    assert refusal(wire.register(*contacts, expires=expires)).status == 400
    assert wire.contacts() == [DESK]


def test_contacts_that_cannot_be_called_are_refused(wire: Wire) -> None:
    assert refusal(wire.register("<mailto:alice@example.org>", expires=60)).status == 416
    assert refusal(wire.register("<sip:>", expires=60)).status == 400
    assert wire.contacts() == []


def test_contacts_are_the_same_by_the_rules_of_uris(wire: Wire) -> None:
    wire.register("<sip:alice@Desk.example;x=1>", expires=60)
    wire.register("<sip:alice@desk.EXAMPLE>", expires=60)

    assert wire.contacts() == ["sip:alice@desk.EXAMPLE"]


def test_the_newest_contact_comes_first(wire: Wire) -> None:
    wire.register(f"<{DESK}>", expires=60)
    wire.register("<sip:alice@192.0.2.2>", expires=60)

    assert wire.contacts() == ["sip:alice@192.0.2.2", DESK]


def test_the_table_is_bounded(wire: Wire) -> None:
    for host in range(MAX_CONTACTS):
        wire.register(f"<sip:alice@192.0.2.{host}>", expires=60)

    assert refusal(wire.register("<sip:alice@192.0.2.99>", expires=60)).status == 403
    assert len(wire.contacts()) == MAX_CONTACTS
    assert len(told(wire.register("<sip:alice@192.0.2.0>", expires=60))) == MAX_CONTACTS


def test_an_old_request_that_comes_late_changes_nothing(wire: Wire) -> None:
    wire.register(f"<{DESK}>", expires=60, cseq=20)

    assert refusal(wire.register(f"<{DESK}>", expires=0, cseq=10)).status == 500
    assert refusal(wire.register("*", expires=0, cseq=10)).status == 500
    assert wire.contacts() == [DESK]
    assert told(wire.register(f"<{DESK}>", expires=0, call_id="two", cseq=1)) == {}


@pytest.mark.parametrize(("user", "password"), [("alice", "looking-glass"), ("carol", "x")])
def test_nobody_registers_without_the_password(wire: Wire, user: str, password: str) -> None:
    failed = wire.register(f"<{DESK}>", expires=60, user=user, password=password)

    assert refusal(failed).status == 401
    assert isinstance(failed, RequestFailed)
    assert failed.cause is Cause.AUTHENTICATION
    assert wire.contacts() == []


def test_nobody_registers_another_address(wire: Wire) -> None:
    assert refusal(wire.register(f"<{DESK}>", address="sip:bob@192.0.2.9")).status == 403
    assert refusal(wire.register(f"<{DESK}>", address="sip:carol@192.0.2.9")).status == 404
    assert wire.contacts("bob") == wire.contacts("carol") == []


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256", "MD5"), ("SHA-256",)])
def test_the_digests_it_was_told_are_offered_in_their_order(algorithms: tuple[str, ...]) -> None:
    wire = Wire(algorithms)
    response = refusal(wire.register(password="wrong"))

    offered = response.headers.get_all("WWW-Authenticate")
    assert tuple(value.rpartition("algorithm=")[2] for value in offered) == algorithms
    assert told(wire.register(f"<{DESK}>", expires=60)) == {DESK: 60}
