"""The registrar, asked by an agent in virtual time."""

from __future__ import annotations

import pytest

from voip.errors import SipError
from voip.sip.agent import SipAgent
from voip.sip.authenticator import Authenticator
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.digest_server import DigestServer
from voip.sip.events import Cause, RequestDone, RequestFailed, RequestReceived
from voip.sip.flow import Flow
from voip.sip.gruu import Gruus
from voip.sip.headers import NameAddr
from voip.sip.location import Binding, Location, by_preference
from voip.sip.message import Response, parse_message
from voip.sip.registrar import Registrar, RegistrarConfig
from voip.sip.uri import SipUri
from voip.types import Address, SeededRandom

pytestmark = pytest.mark.rfc("3261", "10.3")

USERS = {"alice": "wonderland", "bob": "builder"}
HERE, THERE = Address("192.0.2.1", 5060), Address("192.0.2.9", 5060)
CONFIG = RegistrarConfig(service_route=("<sip:edge.example;lr>",))
DESK = "sip:alice@192.0.2.1"


class Wire:
    """A phone and a registrar, with nothing between them; `now` is whatever a test says."""

    def __init__(
        self, algorithms: tuple[str, ...] = ("MD5",), config: RegistrarConfig = CONFIG
    ) -> None:
        self.now = 1000.0
        self.location = Location()
        digest = DigestServer("voip", USERS, SeededRandom(1), algorithms=algorithms)
        self.gruus = Gruus(SeededRandom(4))
        self.registrar = Registrar(USERS, self.location, Authenticator(digest), config, self.gruus)
        self.phone = SipAgent(AgentConfig(), SeededRandom(2))
        allow = (*AgentConfig().allow, "REGISTER")
        self.server = SipAgent(AgentConfig(allow=allow), SeededRandom(3))
        self.cseq = 0
        self.challenges = 0
        self.proxies: list[bytes] = []
        self.branches = 0

    def register(
        self,
        *contacts: str,
        expires: int | None = None,
        user: str = "alice",
        password: str = USERS["alice"],
        address: str = "sip:alice@192.0.2.9",
        call_id: str = "one",
        cseq: int | None = None,
        more: list[tuple[str, str]] | None = None,
        transport: str = "udp",
        uri: str = "sip:192.0.2.9",
    ) -> RequestDone | RequestFailed:
        self.cseq += 2  # a challenge takes one
        headers = [("Contact", contact) for contact in contacts]
        headers += more or []
        there, back = Flow(transport, HERE, THERE), Flow(transport, THERE, HERE)
        if expires is not None:
            headers.append(("Expires", str(expires)))
        self.phone.request(
            "REGISTER",
            uri,
            flow=there,
            from_=f"<{address}>",
            to=f"<{address}>",
            call_id=call_id,
            cseq=self.cseq if cseq is None else cseq,
            headers=headers,
            credentials=Credentials(user, password),
            now=self.now,
        )
        for _ in range(10):
            for data, _ in self.phone.outgoing():
                self.server.receive(self.through(data), back, self.now)
            for event in self.server.events():
                assert isinstance(event, RequestReceived)
                self.registrar.register(event.request, self.now)
            for data, _ in self.server.outgoing():
                self.challenges += data.startswith(b"SIP/2.0 401")
                self.phone.receive(self.back(data), there, self.now)
            for happened in self.phone.events():
                assert isinstance(happened, RequestDone | RequestFailed)
                return happened
        raise AssertionError("no answer")

    def through(self, data: bytes) -> bytes:
        """Pass a request, as a proxy between would: `proxies` have put themselves into it."""
        start, _, rest = data.partition(b"\r\n")
        self.branches += 1
        hops = [b"Via: %s;branch=z9hG4bKp%d" % (hop, self.branches) for hop in self.proxies]
        return b"\r\n".join([start, *hops, rest])

    def back(self, data: bytes) -> bytes:
        response = parse_message(data)
        hops = response.headers.values("Via")
        response.headers.set("Via", ", ".join(hops[len(self.proxies) :]))
        return response.to_bytes()

    def contacts(self, user: str = "alice") -> list[str]:
        """Return the URIs, the preferred first, of equal ones the newest."""
        groups = by_preference(self.location.bindings(user, self.now))
        return [str(binding.uri) for group in groups for binding in group]


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
    assert told(wire.register(f"<{DESK}>")) == {DESK: CONFIG.default_expires_s}
    assert told(wire.register(f"<{DESK}>", expires=10**9)) == {DESK: CONFIG.max_expires_s}


def test_other_parameters_of_a_contact_are_told_as_they_came(wire: Wire) -> None:
    done = wire.register(f'<{DESK}>;q=0.5;+sip.instance="<urn:uuid:1>"', expires=60)

    assert isinstance(done, RequestDone)
    assert done.response.headers.get("Contact") == (
        f'<{DESK}>;q=0.5;+sip.instance="<urn:uuid:1>";expires=60'
    )


def test_too_short_a_time_is_refused_with_the_shortest_there_is(wire: Wire) -> None:
    response = refusal(wire.register(f"<{DESK}>", expires=CONFIG.min_expires_s - 1))

    assert response.status == 423
    assert response.headers.get("Min-Expires") == str(CONFIG.min_expires_s)
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


def test_contacts_that_are_no_uris_are_refused(wire: Wire) -> None:
    assert refusal(wire.register("<alice>", expires=60)).status in (400, 416)
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
    for host in range(CONFIG.max_contacts):
        wire.register(f"<sip:alice@192.0.2.{host}>", expires=60)

    assert refusal(wire.register("<sip:alice@192.0.2.99>", expires=60)).status == 403
    assert len(wire.contacts()) == CONFIG.max_contacts
    assert len(told(wire.register("<sip:alice@192.0.2.0>", expires=60))) == CONFIG.max_contacts


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


def test_the_server_proves_that_it_knows_the_password(wire: Wire) -> None:
    done = wire.register(f"<{DESK}>", expires=60)
    assert isinstance(done, RequestDone)
    assert done.handle.proven is True
    wire.register(f"<{DESK}>", expires=60)
    assert wire.challenges == 1  # the nonce for the second REGISTER came with the first answer


def test_the_preferred_contacts_are_tried_first_and_equal_ones_together(wire: Wire) -> None:
    wire.register(f"<{DESK}>;q=0.5", "<sip:alice@192.0.2.2>;q=0.9", "<sip:alice@192.0.2.3>;q=0.5")
    groups = by_preference(wire.location.bindings("alice", wire.now))
    assert [[binding.uri.host for binding in group] for group in groups] == [
        ["192.0.2.2"],
        ["192.0.2.3", "192.0.2.1"],
    ]


@pytest.mark.parametrize(
    ("q", "meant"), [("0.25", 0.25), ("7", 1.0), ("-1", 0.0), ("x", 1.0), ("nan", 0.0), ("", 1.0)]
)
def test_a_preference_is_between_0_and_1(wire: Wire, q: str, meant: float) -> None:
    wire.register(f"<{DESK}>;q={q}")
    [binding] = wire.location.bindings("alice", wire.now)
    assert binding.q == meant


def test_F113_the_way_through_proxies_is_kept_and_told(wire: Wire) -> None:
    wire.proxies = [b"SIP/2.0/UDP p1.example"]
    path = "<sip:p2.example;lr>, <sip:p1.example;lr>"
    done = wire.register(f"<{DESK}>", more=[("Path", path), ("Supported", "path")])
    assert isinstance(done, RequestDone)
    assert done.response.headers.values("Path") == path.split(", ")
    [binding] = wire.location.bindings("alice", wire.now)
    assert (binding.path, binding.flow) == (("<sip:p2.example;lr>", "<sip:p1.example;lr>"), None)


def test_F114_the_way_for_requests_of_the_phone_is_told(wire: Wire) -> None:
    done = wire.register(f"<{DESK}>")
    assert isinstance(done, RequestDone)
    assert done.response.headers.values("Service-Route") == ["<sip:edge.example;lr>"]


OUTBOUND = '<sip:alice@10.0.0.7>;reg-id={};+sip.instance="<urn:uuid:00000000-0000-1000>"'


def test_F111_flows_of_one_device_stand_beside_each_other_and_the_newest_is_used(
    wire: Wire,
) -> None:
    supported = [("Supported", "path, outbound")]
    done = wire.register(OUTBOUND.format(1), more=supported, transport="tcp")
    assert isinstance(done, RequestDone)
    assert done.response.headers.get("Require") == "outbound"
    wire.register(OUTBOUND.format(2), more=supported, call_id="two")
    wire.register(OUTBOUND.format(2).replace("0.7", "0.8"), more=supported, call_id="three")
    first, second = wire.location.bindings("alice", wire.now)
    assert (first.reg_id, first.flow) == (1, Flow("tcp", THERE, HERE))
    assert (second.reg_id, second.uri.host) == (2, "10.0.0.8")
    assert by_preference([first, second]) == [[second]]
    wire.location.lose(Flow("udp", THERE, HERE))
    assert wire.location.bindings("alice", wire.now) == [first]


def test_F111_a_flow_that_ends_at_a_proxy_which_does_not_keep_it_is_refused(wire: Wire) -> None:
    wire.proxies = [b"SIP/2.0/UDP p1.example"]
    more = [("Supported", "path, outbound"), ("Path", "<sip:p1.example;lr>")]
    assert refusal(wire.register(OUTBOUND.format(1), more=more)).status == 439
    more[1] = ("Path", "<sip:token@p1.example;lr;ob>")
    assert isinstance(wire.register(OUTBOUND.format(1), more=more), RequestDone)


def test_F111_one_register_is_for_one_flow(wire: Wire) -> None:
    more = [("Supported", "path, outbound")]
    both = OUTBOUND.format(1), OUTBOUND.format(2).replace("0.7", "0.8")
    assert refusal(wire.register(*both, more=more)).status == 400
    gone = both[1] + ";expires=0"
    assert list(told(wire.register(both[0], gone, more=more))) == ["sip:alice@10.0.0.7"]


def test_F111_how_often_a_flow_is_to_be_heard_is_told_to_who_registers_one() -> None:
    wire = Wire(config=RegistrarConfig(flow_timer_s=120))
    done = wire.register(OUTBOUND.format(1), more=[("Supported", "path, outbound")])
    assert isinstance(done, RequestDone)
    assert done.response.headers.get("Flow-Timer") == "120"
    done = wire.register(f"<{DESK}>")
    assert isinstance(done, RequestDone)
    assert "Flow-Timer" not in done.response.headers


def test_only_the_way_it_came_leads_back_to_a_connection_or_through_a_nat(wire: Wire) -> None:
    wire.register(f"<{DESK}>")
    wire.register("<sip:alice@192.0.2.1;transport=tcp>", transport="tcp")
    plain, connected = wire.location.bindings("alice", wire.now)
    assert (plain.flow, connected.flow) == (None, Flow("tcp", THERE, HERE))


def test_the_table_has_room_for_so_many_users(wire: Wire) -> None:
    table = Location(max_addresses=2)

    def put(user: str, until: float, now: float) -> None:
        binding = Binding(NameAddr("", DESK), SipUri.parse(DESK), until, "c", 1)
        table.set(user, [binding], now)

    put("a", 10.0, 0.0)
    put("b", 20.0, 0.0)
    with pytest.raises(SipError) as caught:
        put("c", 20.0, 5.0)
    assert caught.value.status == 503
    put("c", 30.0, 15.0)  # a's time is over
    assert (len(table), table.bindings("a", 15.0)) == (2, [])
