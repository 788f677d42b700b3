"""RFC 4475, the torture messages: each judged as the table beside the reference data says.

A message is parsed, checked, and given to an agent with a registrar's methods; what comes first of
"refused by the parser", "refused by the check" and "answered by the agent" is the verdict.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pytest

from voip.errors import SipError
from voip.sip.agent import SipAgent
from voip.sip.check import accepts_answer, validate
from voip.sip.config import AgentConfig
from voip.sip.digest_server import DigestServer, Verdict
from voip.sip.events import IncomingInvite, RequestReceived
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, parse_message
from voip.sip.stream import StreamFramer
from voip.types import Address, SeededRandom

pytestmark = [pytest.mark.reference, pytest.mark.rfc("4475", "3")]

FLOW: Final = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.99", 5060))
ANSWERED: Final = 24
METHODS: Final = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "MESSAGE")


class Torture:
    """The messages and the table."""

    def __init__(self, folder: Path) -> None:
        with (folder / "EXPECTED.csv").open(newline="") as table:
            self.rows = list(csv.DictReader(table))
        self._paths = {path.name: path for path in folder.glob("*/*.dat")}

    def data(self, name: str) -> bytes:
        return self._paths[f"{name}.dat"].read_bytes()

    def request(self, name: str) -> Request:
        message = parse_message(self.data(name))
        assert isinstance(message, Request)
        validate(message)
        return message

    def response(self, name: str) -> Response:
        message = parse_message(self.data(name))
        assert isinstance(message, Response)
        validate(message)
        return message


@pytest.fixture(scope="module")
def torture(reference_data: Path) -> Torture:
    return Torture(reference_data / "sip-torture-rfc4475")


def judge(data: bytes) -> str:
    """Return a status, "drop" for a response that is passed over, "parse" for one that is fine."""
    try:
        message = parse_message(data)
        validate(message)
    except SipError as error:
        return "drop" if error.status is None else str(error.status)
    if isinstance(message, Response):
        return "parse"
    return answer(message, data)


def answer(request: Request, data: bytes) -> str:
    """Return what an agent with a registrar and a callee behind it answers; 2xx is a class."""
    agent = SipAgent(AgentConfig(allow=METHODS), SeededRandom(1))
    agent.receive(data, FLOW, 0.0)
    events = agent.events()
    for event in events:
        if isinstance(event, IncomingInvite):
            status = 180 if accepts_answer(request) else 406
            contact = "<sip:callee@192.0.2.1>"
            agent.respond(event.invite, status, contact=contact, now=0.0)
        elif isinstance(event, RequestReceived):
            agent.reply(event.request, registrar_status(request), now=0.0)
    responses = [parse_message(sent) for sent, _ in agent.outgoing()]
    assert len(responses) == 1, f"{len(responses)} answers, {events}"
    assert isinstance(responses[0], Response)
    return str(responses[0].status)


def registrar_status(request: Request) -> int:
    """Judge as a registrar does: credentials that cannot be used earn a challenge."""
    credentials = request.headers.get("Authorization")
    if credentials is None:
        return 200
    realm = DigestServer("example.com", {}, SeededRandom(2))
    verdict = realm.verify(request.method, credentials, 0.0).verdict
    return 200 if verdict is Verdict.ACCEPTED else 401


def allowed(short: str) -> tuple[str, ...]:
    """Return the verdicts the table's word stands for.

    A request that only has to be understood rings, is answered, or (wsinv, which has a To tag) is
    told that there is no such dialog.
    """
    understood = ("180", "200", "481")
    words = {"parse": ("parse", *understood), "liberal": understood, "2xx": ("200",)}
    return tuple(verdict for word in short.split("|") for verdict in words.get(word, (word,)))


def test_each_message_is_judged_as_the_table_says(torture: Torture) -> None:
    wrong = []
    for row in torture.rows:
        name = row["file"].removesuffix(".dat")
        verdict = judge(torture.data(name))
        if verdict not in allowed(row["short"]):
            wrong.append(f"{name} ({row['rfc4475_section']}): {verdict}, not {row['short']}")
    assert wrong == []
    assert len(torture.rows) == 49


def test_no_message_makes_an_agent_raise_and_each_answer_can_be_read(torture: Torture) -> None:
    answers = 0
    for row in torture.rows:
        agent = SipAgent(AgentConfig(allow=METHODS), SeededRandom(1))
        agent.receive(torture.data(row["file"].removesuffix(".dat")), FLOW, 0.0)
        for data, _ in agent.outgoing():
            assert isinstance(parse_message(data), Response)
            answers += 1
    assert answers >= 20


def test_an_agent_answers_each_refusal_by_itself(torture: Torture) -> None:
    """All but one: badinv01 has no Via that can be read, so nobody knows the way back."""
    silent, answered = [], 0
    for row in torture.rows:
        name = row["file"].removesuffix(".dat")
        verdict = judge(torture.data(name))
        if verdict not in ("400", "415", "416", "420", "501", "505"):
            continue
        agent = SipAgent(AgentConfig(allow=METHODS), SeededRandom(1))
        agent.receive(torture.data(name), FLOW, 0.0)
        assert agent.events() == [], name
        statuses = [data.split()[1].decode() for data, _ in agent.outgoing()]
        if statuses:
            assert statuses == [verdict], name
            answered += 1
        else:
            silent.append(name)
    assert silent == ["badinv01"]
    assert answered == ANSWERED


def test_what_is_understood_is_written_again_without_loss(torture: Torture) -> None:
    compared = 0
    for row in torture.rows:
        try:
            message = parse_message(torture.data(row["file"].removesuffix(".dat")))
        except SipError:
            continue
        again = parse_message(message.to_bytes())
        message.headers.set("Content-Length", str(len(message.body)))
        assert again.headers == message.headers
        assert again.body == message.body
        assert again.summary() == message.summary()
        compared += 1
    assert compared == 39


class TestWhatTheRfcSaysOfEach:
    def test_3_1_1_1_a_short_tortuous_invite(self, torture: Torture) -> None:
        invite = torture.request("wsinv")
        assert invite.uri == "sip:vivekg@chair-dnrc.example.com;unknownparam"
        assert invite.to.tag == "1918181833n"
        assert invite.from_.display == 'J Rosenberg \\"'
        assert invite.from_.tag == "98asjd8"
        assert invite.max_forwards == 68
        assert (invite.cseq.number, invite.cseq.method) == (9, "INVITE")
        assert [value.split(";")[0].split()[-1] for value in invite.headers.values("Via")] == [
            "192.0.2.2",
            "spindle.example.com",
            "192.168.255.111",
        ]
        assert invite.via.branch == "390skdjuw"
        assert invite.headers.get("Subject") == ""
        assert invite.headers.get("NewFangledHeader") == (
            "newfangled value continued newfangled value"
        )
        assert invite.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
        (contact,) = invite.contacts
        assert contact.display == 'Quoted string ""'
        assert (contact.param("newparam"), contact.param("secondparam")) == ("newvalue", "")
        assert contact.param("q") == "0.33"
        assert len(invite.body) == 150

    def test_3_1_1_2_wide_range_of_valid_characters(self, torture: Torture) -> None:
        request = torture.request("intmeth")
        assert request.method == "!interesting-Method0123456789_*+`.%indeed'~"
        assert request.cseq.method == request.method
        assert request.to.display == "BEL:\x07 NUL:\x00 DEL:\x7f"
        assert request.to.sip_uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
        assert request.from_.display == "token1~` token2'+_ token3*%!.-"
        assert request.from_.tag == "_token~1'+`*%!-."
        assert request.from_.param("fromParam''~+*_!.-%") == "работающий"
        assert request.call_id == "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
        assert request.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"

    def test_3_1_1_3_valid_use_of_percent_escaping(self, torture: Torture) -> None:
        invite = torture.request("esc01")
        assert invite.to.sip_uri.user == "user"
        assert invite.from_.sip_uri.user == "I have spaces"
        uri = invite.contacts[0].sip_uri
        assert uri.user == "caller"
        assert uri.params == (("lr", None), ("name", "value%41"))

    def test_3_1_1_4_escaped_nulls_cut_nothing_off(self, torture: Torture) -> None:
        register = torture.request("escnull")
        assert register.to.sip_uri.user == "null-\x00-null"
        assert [contact.sip_uri.user for contact in register.contacts] == ["\x00", "\x00\x00"]
        assert str(register.to.sip_uri) == "sip:null-%00-null@example.com"

    def test_3_1_1_5_percent_where_it_means_nothing(self, torture: Torture) -> None:
        request = torture.request("esc02")
        assert request.method == "RE%47IST%45R"
        assert request.to.display == "%Z%45"
        assert [contact.uri for contact in request.contacts] == [
            "sip:alias1@host1.example.com",
            "sip:alias3@host3.example.com",
        ]
        assert request.headers.get("C%6Fntact") == "<sip:alias2@host2.example.com>"

    def test_3_1_1_6_no_blank_between_name_and_bracket(self, torture: Torture) -> None:
        assert torture.request("lwsdisp").from_.display == "caller"

    def test_3_1_1_7_long_values(self, torture: Torture) -> None:
        invite = torture.request("longreq")
        assert len(invite.headers.values("Via")) == 34
        assert len(invite.body) == 150
        assert invite.to.sip_uri.port == 6000
        assert invite.from_.tag is not None
        assert invite.from_.tag.endswith("982424")
        assert len(invite.from_.tag) == 155

    def test_3_1_1_8_a_second_request_in_the_datagram(self, torture: Torture) -> None:
        register = torture.request("dblreq")
        assert (register.method, register.body) == ("REGISTER", b"")
        framer = StreamFramer()
        methods = [
            message.method
            for message in map(parse_message, framer.feed(torture.data("dblreq")))
            if isinstance(message, Request)
        ]
        assert methods == ["REGISTER", "INVITE"]

    def test_3_1_1_9_semicolon_in_the_user_part(self, torture: Torture) -> None:
        request = torture.request("semiuri")
        assert request.uri == "sip:user;par=u%40example.net@example.com"
        assert len(request.headers.values("Accept")) == 6

    def test_3_1_1_10_unknown_transports(self, torture: Torture) -> None:
        assert [
            value.split()[0].rpartition("/")[2]
            for value in torture.request("transports").headers.values("Via")
        ] == ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]

    def test_3_1_1_11_a_binary_body(self, torture: Torture) -> None:
        request = torture.request("mpart01")
        assert len(request.body) == 553
        assert request.content_type == "multipart/mixed"
        assert request.to_bytes().endswith(request.body)

    def test_3_1_1_12_and_13_reason_phrases(self, torture: Torture) -> None:
        response = torture.response("unreason")
        assert response.reason.startswith("= 2**3 * 5**2 но сто девяносто девять")
        assert torture.response("noreason").reason == ""

    def test_3_1_2_2_and_3_content_length_over_tcp(self, torture: Torture) -> None:
        framer = StreamFramer()
        assert framer.feed(torture.data("clerr")) == []
        assert framer.broken is None
        for name in ("ncl", "mcl01"):
            framer = StreamFramer()
            (head,) = framer.feed(torture.data(name))
            assert framer.broken is not None
            with pytest.raises(SipError) as caught:
                parse_message(head)
            assert caught.value.status == 400

    def test_3_1_2_4_scalars_beyond_all_bounds(self, torture: Torture) -> None:
        with pytest.raises(SipError, match="CSeq number is too large"):
            torture.request("scalar02")

    def test_3_1_2_15_the_names_without_quotes_are_refused_too(self, torture: Torture) -> None:
        data = torture.data("baddn")
        whole = data if data.endswith(b"\r\n\r\n") else data + b"\r\n"
        message = parse_message(whole)
        with pytest.raises(SipError) as caught:
            validate(message)
        assert caught.value.status == 400

    def test_3_3_12_to_14_contact_parameters_stand_where_they_belong(
        self, torture: Torture
    ) -> None:
        (bare,) = torture.request("cparam01").contacts
        assert (bare.param("unknownparam"), bare.sip_uri.params) == ("", ())
        (bracketed,) = torture.request("cparam02").contacts
        assert bracketed.params == ()
        assert bracketed.sip_uri.params == (("unknownparam", None),)
        (escaped,) = torture.request("regescrt").contacts
        assert escaped.sip_uri.headers == (("Route", "<sip:sip.example.com>"),)
        assert str(escaped) == "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"

    def test_3_4_1_a_request_of_the_old_days(self, torture: Torture) -> None:
        invite = torture.request("inv2543")
        assert invite.via.branch is None
        assert invite.from_.tag is None
        assert invite.max_forwards is None
        assert len(invite.body) > 0
