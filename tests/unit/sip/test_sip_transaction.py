"""The four machines against RFC 3261's figures, table 4 and the intervals its text prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from virtual_sip import Stranger, request_text

from voip.sip.flow import Flow
from voip.sip.machines import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Again,
    Machine,
    On,
    Start,
    State,
    TimerName,
)
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.timers import Timers
from voip.sip.transaction import ClientTransaction, Durations
from voip.sip.transactions import Transactions
from voip.types import Address

pytestmark = [pytest.mark.rfc("3261", "17"), pytest.mark.rfc("6026", "7")]

UDP = Flow("udp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
TCP = Flow("tcp", Address("192.0.2.1", 5060), Address("192.0.2.9", 5060))
MACHINES = {
    "INVITE client": INVITE_CLIENT,
    "non-INVITE client": NON_INVITE_CLIENT,
    "INVITE server": INVITE_SERVER,
    "non-INVITE server": NON_INVITE_SERVER,
}


class Bench:
    """A transaction layer whose sends and tidings are written down."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.now = 0.0
        self.sent: list[tuple[float, Request | Response]] = []
        self.told: list[tuple[float, str]] = []
        self.layer = Transactions(
            Durations(), self.timers, self._send, max_client=100, max_server=100, max_completed=100
        )

    def _send(self, data: bytes, flow: Flow) -> None:
        self.sent.append((self.now, parse_message(data)))

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self.told.append((now, str(response.status)))

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        self.told.append((now, "timeout"))

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        self.told.append((now, message))

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.timers.next()) is not None and due <= end:
            self.now = due
            self.timers.run(due)
        self.now = end

    def times(self) -> list[float]:
        return [round(now, 3) for now, _ in self.sent]


class Client(Bench):
    def __init__(self, method: str, flow: Flow) -> None:
        super().__init__()
        request = parse_message(request_text(method).encode())
        assert isinstance(request, Request)
        self.transaction = self.layer.request(request, flow, self, 0.0)

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        self.told.append((now, "over"))

    def answered(self, status: int) -> None:
        response = make_response(self.transaction.request, status, to_tag="t")
        found = self.layer.of_response(response)
        if found is not None:
            found.receive(response, self.now)


class Server(Bench):
    def __init__(self, method: str, flow: Flow) -> None:
        super().__init__()
        request = parse_message(request_text(method).encode())
        assert isinstance(request, Request)
        self.request = request
        self.transaction = self.layer.accept(request, flow, self, 0.0)

    def on_ack(self, request: Request, now: float) -> None:
        self.told.append((now, "ACK"))

    def on_terminated(self, now: float) -> None:
        self.told.append((now, "over"))

    def respond(self, status: int) -> bool:
        return self.transaction.respond(make_response(self.request, status), self.now)

    def ack(self) -> None:
        ack = parse_message(request_text("ACK", to_tag="t").encode())
        assert isinstance(ack, Request)
        found = self.layer.of_request(ack)
        if found is not None:
            found.receive_ack(ack, self.now)

    def statuses(self) -> list[int]:
        return [message.status for _, message in self.sent if isinstance(message, Response)]


# Table 4.


@pytest.mark.reference
def test_durations_are_those_of_rfc3261_table_4(reference_data: Path) -> None:
    text = (reference_data / "rfc-text" / "rfc3261.txt").read_text("utf-8", "replace")
    end = text.index("Table 4: Summary of timers")
    table = text[text.rindex("Timer    Value", 0, end) : end]
    values = {"initially T1": 0.5, "64*T1": 32.0, "> 32s for UDP": 32.0, "T4 for UDP": 5.0}
    durations = Durations()
    compared = 0
    name = None
    for line in table.splitlines():
        if match := re.match(r"Timer ([A-K])\s+(.+?)(\s{2,}|$)", line):
            name = TimerName.__members__.get(match[1])  # Timer C is a proxy's
            if name is not None:
                key = next(key for key in values if match[2].startswith(key))
                assert durations.of(name, reliable=False) == values[key], line
                compared += 1
        elif "0s for TCP/SCTP" in line and name is not None:
            assert durations.of(name, reliable=True) == 0.0, name
            compared += 1
    assert compared == 14


def test_F116_accepted_states_last_64_t1_on_every_transport() -> None:
    durations = Durations(t1=0.1)
    for reliable in (False, True):
        assert durations.of(TimerName.L, reliable) == pytest.approx(6.4)
        assert durations.of(TimerName.M, reliable) == pytest.approx(6.4)


# The tables as a whole.


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_can_be_reached_and_left(name: str) -> None:
    machine = MACHINES[name]
    reached = {State.INIT}
    while new := {to for (state, _), (to, _) in machine.items() if state in reached} - reached:
        reached |= new
    assert reached == {state for state, _ in machine} | {State.TERMINATED}
    for state in reached - {State.TERMINATED}:
        assert any(key[0] is state and to is not state for key, (to, _) in machine.items()), state


@pytest.mark.parametrize("name", MACHINES)
def test_every_started_timer_does_something_in_the_state_it_is_started_for(name: str) -> None:
    machine = MACHINES[name]
    started = 0
    for _, (state, actions) in machine.items():
        for action in actions:
            if isinstance(action, Start | Again):
                started += 1
                assert (state, action.timer) in machine, (state, action)
    assert started >= 4


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_but_a_ringing_invite_is_left_by_time_alone(name: str) -> None:
    machine = MACHINES[name]
    for state in {to for to, _ in machine.values()} - {State.TERMINATED}:
        if state is State.PROCEEDING and machine in (INVITE_CLIENT, INVITE_SERVER):
            continue  # the core has Timer C for ours; theirs ends with CANCEL or Expires
        assert _ends_by_timers(machine, state), state


def _ends_by_timers(machine: Machine, state: State) -> bool:
    return any(
        isinstance(event, TimerName) and of is state and to is State.TERMINATED
        for (of, event), (to, _) in machine.items()
    )


def test_nothing_follows_terminated() -> None:
    assert not [key for table in MACHINES.values() for key in table if key[0] is State.TERMINATED]


# INVITE client (figure 5 of RFC 6026).


def test_an_invite_over_udp_is_repeated_at_doubling_intervals_until_timer_b() -> None:
    client = Client("INVITE", UDP)
    client.wait(40)
    assert client.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert client.told == [(32.0, "timeout"), (32.0, "over")]
    assert len(client.layer) == 0


def test_an_invite_over_tcp_is_sent_once_and_times_out_alike() -> None:
    client = Client("INVITE", TCP)
    client.wait(40)
    assert client.times() == [0.0]
    assert client.told == [(32.0, "timeout"), (32.0, "over")]


def test_a_provisional_response_ends_the_repetition_of_an_invite() -> None:
    client = Client("INVITE", UDP)
    client.wait(0.6)
    client.answered(100)
    client.answered(180)
    client.wait(300)
    assert client.times() == [0.0, 0.5]
    assert [what for _, what in client.told] == ["100", "180"]
    assert client.transaction.state is State.PROCEEDING


def test_a_refused_invite_is_acknowledged_each_time_and_told_once() -> None:
    client = Client("INVITE", UDP)
    client.answered(486)
    client.wait(1)
    client.answered(486)
    assert [m.method for _, m in client.sent if isinstance(m, Request)] == ["INVITE", "ACK", "ACK"]
    assert [what for _, what in client.told] == ["486"]
    client.wait(30.9)
    assert client.transaction.state is State.COMPLETED
    client.wait(0.2)
    assert client.told[-1] == (32.0, "over")
    client.answered(486)
    assert len(client.sent) == 3


def test_the_ack_to_a_failure_is_built_as_section_17_1_1_3_says() -> None:
    client = Client("INVITE", UDP)
    client.answered(486)
    invite, ack = client.transaction.request, client.sent[-1][1]
    assert isinstance(ack, Request)
    assert (ack.method, ack.uri, ack.cseq.number, ack.cseq.method) == ("ACK", invite.uri, 1, "ACK")
    assert ack.headers.get_all("Via") == [invite.headers.get("Via")]
    assert ack.headers.get("From") == invite.headers.get("From")
    assert ack.to.tag == "t"
    assert ack.call_id == invite.call_id
    assert ack.headers.get("Max-Forwards") == "70"


def test_over_tcp_a_refused_invite_is_forgotten_at_once() -> None:
    client = Client("INVITE", TCP)
    client.answered(486)
    client.wait(0)
    assert client.told == [(0.0, "486"), (0.0, "over")]


def test_F116_every_2xx_is_told_for_64_t1_and_none_is_acknowledged_here() -> None:
    client = Client("INVITE", UDP)
    client.answered(200)
    client.wait(10)
    client.answered(200)
    client.answered(486)
    client.answered(180)
    assert [what for _, what in client.told] == ["200", "200"]
    client.wait(22.1)
    assert client.told[-1] == (32.0, "over")
    assert client.times() == [0.0]


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
@pytest.mark.parametrize("progress", [None, 100])
def test_a_failed_transport_ends_a_client_transaction(method: str, progress: int | None) -> None:
    client = Client(method, UDP)
    if progress:
        client.answered(progress)
    client.layer.flow_failed(TCP, "not this way", 0.0)
    client.layer.flow_failed(UDP, "connection refused", 0.0)
    assert client.told[-2:] == [(0.0, "connection refused"), (0.0, "over")]
    assert len(client.layer) == len(client.timers) == 0


# Non-INVITE client (figure 6 of RFC 3261).


def test_another_request_over_udp_is_repeated_up_to_t2_until_timer_f() -> None:
    client = Client("OPTIONS", UDP)
    client.wait(40)
    # Section 17.1.2.2: 500 ms, 1 s, 2 s, 4 s, 4 s, 4 s ...
    assert client.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert client.told == [(32.0, "timeout"), (32.0, "over")]


def test_after_a_provisional_response_another_request_is_repeated_at_t2() -> None:
    client = Client("OPTIONS", UDP)
    client.answered(100)
    client.wait(40)
    assert client.times() == [0.0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert client.told == [(0.0, "100"), (32.0, "timeout"), (32.0, "over")]


def test_repeated_final_responses_are_absorbed_for_t4() -> None:
    client = Client("OPTIONS", UDP)
    client.answered(200)
    client.answered(200)
    client.wait(4.9)
    client.answered(404)
    assert client.told == [(0.0, "200")]
    client.wait(0.2)
    assert client.told[-1] == (5.0, "over")
    assert client.times() == [0.0]


# INVITE server (figure 7 of RFC 6026).


def test_100_is_sent_when_nobody_answers_in_200_ms() -> None:
    server = Server("INVITE", UDP)
    server.transaction.repeated(0.0)
    assert server.sent == []
    server.wait(1)
    assert [(round(now, 3), m.status) for now, m in server.sent] == [(0.2, 100)]  # type: ignore[union-attr]


def test_100_is_not_sent_when_the_user_was_faster() -> None:
    server = Server("INVITE", UDP)
    server.respond(180)
    server.wait(1)
    server.transaction.repeated(1.0)
    assert server.statuses() == [180, 180]


def test_a_refusal_over_udp_is_repeated_until_its_ack() -> None:
    server = Server("INVITE", UDP)
    server.respond(486)
    server.wait(4)
    assert server.times() == [0.0, 0.5, 1.5, 3.5]
    server.ack()
    server.ack()
    server.wait(4.9)
    assert server.transaction.state is State.CONFIRMED
    server.wait(0.2)
    assert server.told == [(9.0, "over")]
    assert len(server.sent) == 4


def test_a_refusal_nobody_acknowledges_is_repeated_up_to_t2_until_timer_h() -> None:
    server = Server("INVITE", UDP)
    server.respond(486)
    server.wait(40)
    assert server.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert server.told == [(32.0, "over")]


def test_a_refusal_over_tcp_is_sent_once_and_still_waits_for_its_ack() -> None:
    server = Server("INVITE", TCP)
    server.respond(486)
    server.wait(31)
    assert server.times() == [0.0]
    server.ack()
    server.wait(0)
    assert server.told == [(31.0, "over")]


def test_F116_an_accepted_invite_absorbs_repetitions_and_hands_acks_up() -> None:
    server = Server("INVITE", UDP)
    server.respond(200)
    server.transaction.repeated(0.0)
    server.wait(10)
    assert server.statuses() == [200]
    server.respond(200)
    assert server.statuses() == [200, 200]
    server.ack()
    server.wait(22.1)
    assert server.told == [(10.0, "ACK"), (32.0, "over")]
    assert server.respond(200) is False


def test_no_final_response_follows_another() -> None:
    server = Server("INVITE", UDP)
    assert server.respond(486)
    assert not server.respond(200)
    server.transaction.repeated(0.0)
    assert server.statuses() == [486, 486]


# Non-INVITE server (figure 8 of RFC 3261).


def test_a_repeated_request_gets_the_same_response_until_timer_j() -> None:
    server = Server("OPTIONS", UDP)
    server.transaction.repeated(0.0)
    assert server.sent == []
    server.respond(200)
    server.transaction.repeated(0.0)
    assert not server.respond(404)
    server.wait(31.9)
    server.transaction.repeated(server.now)
    server.wait(0.2)
    assert server.statuses() == [200, 200, 200]
    assert server.told == [(32.0, "over")]


def test_over_tcp_an_answered_request_is_forgotten_at_once() -> None:
    server = Server("OPTIONS", TCP)
    server.respond(200)
    server.wait(0)
    assert server.told == [(0.0, "over")]


@pytest.mark.parametrize("flow", [UDP, TCP], ids=["UDP", "TCP"])
def test_F117_100_is_sent_when_a_clients_timer_e_has_come_to_t2_and_no_sooner(flow: Flow) -> None:
    server = Server("OPTIONS", flow)
    server.wait(3.4)
    server.transaction.repeated(server.now)
    assert server.sent == []
    server.wait(0.2)
    assert [(at, m.status) for at, m in server.sent if isinstance(m, Response)] == [(3.5, 100)]
    server.transaction.repeated(server.now)
    server.respond(200)
    assert server.statuses() == [100, 100, 200]


def test_F117_no_100_follows_an_answer() -> None:
    server = Server("OPTIONS", UDP)
    server.wait(3.4)
    server.respond(200)
    server.wait(20)
    assert server.statuses() == [200]


def test_F117_a_request_nobody_answers_is_given_up_after_64_t1_without_408() -> None:
    server = Server("OPTIONS", UDP)
    server.wait(33)
    assert server.statuses() == [100]
    assert server.told == [(32.0, "over")]
    assert not server.respond(200)


# Matching (sections 17.1.3, 17.2.3).


def test_a_response_matches_by_branch_and_method() -> None:
    client = Client("INVITE", UDP)
    response = make_response(client.transaction.request, 200)
    assert client.layer.of_response(response) is client.transaction
    response.headers.set("CSeq", "1 CANCEL")
    assert client.layer.of_response(response) is None
    response.headers.set("CSeq", "1 INVITE")
    response.headers.set("Via", "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKother")
    assert client.layer.of_response(response) is None


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"branch": "z9hG4bKother"}, False),
        ({"via": "SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bKabc"}, False),
        ({"via": "SIP/2.0/UDP 192.0.2.9:5062;branch=z9hG4bKabc"}, False),
        ({"via": "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKabc;received=1.2.3.4"}, True),
    ],
)
def test_a_request_matches_by_branch_and_sent_by(change: dict[str, str], same: bool) -> None:
    server = Server("INVITE", UDP)
    other = parse_message(request_text("INVITE", **change).encode())
    assert isinstance(other, Request)
    assert (server.layer.of_request(other) is server.transaction) is same


def test_an_rfc2543_request_without_branch_matches_by_the_rest() -> None:
    old = "SIP/2.0/UDP 192.0.2.9:5060"
    stranger = Stranger()
    assert stranger.tell(request_text("INVITE", via=old)) == []
    assert stranger.tell(request_text("INVITE", via=old)) == []
    [event] = stranger.agent.events()
    stranger.agent.respond(event.invite, 486, now=0.0)  # type: ignore[union-attr]
    [refusal] = stranger.heard()
    assert isinstance(refusal, Response)
    assert stranger.tell(request_text("ACK", via=old, to_tag=refusal.to.tag or "")) == []
    assert stranger.wait(33) == []
    assert stranger.empty()


def test_what_happens_to_a_transaction_has_a_name() -> None:
    events = {event for table in MACHINES.values() for _, event in table}
    assert events == set(On) | set(TimerName)
