"""The parts of the SIP benchmark: a benchmark that cannot find a fault is worth nothing."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from voip.errors import ConfigError
from voip.harness.bench.comparison import compare, read_earlier
from voip.harness.bench.sip import SipReport, run
from voip.harness.bench.sip_load import CallLoad, CallTotals
from voip.harness.bench.sip_messages import ATTACKS, INVITE_BYTES, invite, route
from voip.sdp.parser import parse as parse_sdp
from voip.sip.check import validate
from voip.sip.message import Request, make_response, parse_message

# ---------------------------------------------------------------- messages


def test_the_invite_is_a_sound_one_of_its_length() -> None:
    for number in (0, 1, 0xFFFFFFFF):
        data = invite(number)
        assert len(data) == INVITE_BYTES
        request = parse_message(data)
        assert isinstance(request, Request)
        validate(request)
        assert len(parse_sdp(request.body).media) == 1


def test_no_two_invites_route_alike() -> None:
    routes = {route(invite(number)) for number in range(200)}
    assert len({branch for _, branch, *_ in routes}) == len(routes) == 200
    method, branch, from_tag, to_tag, call_id, cseq = route(invite(255))
    assert (method, to_tag, cseq) == ("INVITE", None, 102)
    assert branch == "z9hG4bK000000ff74bf9" and from_tag == "9f000000ffsl"
    assert call_id.startswith("000000ff")


def test_attacks_are_as_long_as_asked() -> None:
    for name, (make, _) in ATTACKS.items():
        assert 0.99 * 65_536 <= len(make(65_536)) <= 65_536, name
    assert len(ATTACKS) > 200


# ---------------------------------------------------------------- the load


class Phone:
    """What a phone says to the load, in a thread: `fault` names what it does wrong."""

    def __init__(self, fault: str = "") -> None:
        self._fault = fault
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.settimeout(0.05)
        self.port: int = self._sock.getsockname()[1]
        self.seen: list[str] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                data, source = self._sock.recvfrom(65535)
            except TimeoutError:
                continue
            request = parse_message(data)
            assert isinstance(request, Request)
            validate(request)
            self.seen.append(request.method)
            for status in self._statuses(request):
                self._sock.sendto(make_response(request, status, to_tag="p").to_bytes(), source)

    def _statuses(self, request: Request) -> tuple[int, ...]:
        match request.method, self._fault:
            case "ACK", _:
                return ()
            case "INVITE", "busy":
                return (486,)
            case "INVITE", "twice":
                return (180, 200, 200)
            case "INVITE", "late" if self.seen.count("INVITE") == 1:
                return ()
            case "INVITE", _:
                return (100, 180, 200)
        return (200,)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._sock.close()


def _load(fault: str = "", seconds: float = 0.3) -> tuple[CallTotals, list[str]]:
    phone = Phone(fault)
    load = CallLoad(phone.port)
    try:
        return load.run(seconds, 1), phone.seen
    finally:
        load.close()
        phone.close()


def test_the_load_makes_whole_calls() -> None:
    totals, seen = _load()
    assert totals.completed > 3
    assert (totals.failed, totals.retransmissions, totals.reasons) == (0, 0, {})
    assert totals.rang == totals.completed
    assert seen[:6] == ["INVITE", "ACK", "BYE"] * 2
    assert seen.count("BYE") == totals.completed


def test_the_load_counts_what_is_refused() -> None:
    totals, _ = _load("busy")
    assert totals.completed == 0
    assert totals.failed == totals.reasons["486 to INVITE"] > 3


def test_the_load_counts_what_is_said_twice() -> None:
    totals, _ = _load("twice")
    assert totals.completed > 3
    assert totals.retransmissions >= totals.completed


def test_the_load_says_again_what_is_not_answered_and_counts_that() -> None:
    totals, seen = _load("late", 0.9)
    assert seen[:2] == ["INVITE", "INVITE"]
    assert totals.retransmissions == 1 and totals.failed == 0 and totals.completed > 0


def test_the_load_holds_calls_and_ends_them() -> None:
    phone = Phone()
    load = CallLoad(phone.port)
    try:
        held = load.hold(7, 3)
        assert (held.held, held.completed, phone.seen.count("BYE")) == (7, 0, 0)
        ended = load.hang_up(3)
        assert (ended.held, ended.completed, phone.seen.count("BYE")) == (0, 7, 7)
    finally:
        load.close()
        phone.close()


# ---------------------------------------------------------------- the report

GOOD = SipReport(
    peer="own",
    seconds=40,
    held=5000,
    parse=[(30_000, 2.0), (50_000, 1.0), (44_000, 1.0)],
    attacks={"a": (2.0, 3.0), "b": (2.4, 1.0)},
    bytes_per_dialog=9_000,
    bytes_per_call=20_000,
    calls=30_000,
    failed=0,
    retransmissions=0,
    reasons={},
    calls_per_second=500,
    cpu_us_per_call=2000,
    busy=0.9,
    collector_ms_max=30,
    factor=1.5,
    registrations={"wanted": 10, "held": 10, "refreshed": 10, "failed": 0},
)


def test_figures_are_adjusted_to_the_reference_machine() -> None:
    bars = GOOD.bars()
    assert bars["parse_route_per_s"] == {"figure": 50_000, "bar": 40_000, "met": True}
    assert bars["calls_per_second"] == {"figure": 750, "bar": 600, "met": True}
    assert {name for name, bar in bars.items() if not bar["met"]} == set()
    report = GOOD.to_json()
    assert (report["parse_route_per_s"], report["calls_per_second"]) == (44_000, 500)
    assert (report["attack_worst"], report["attack_dearest"]) == ("b", "a")
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"parse": [(39_000, 1.0)]}, "parse_route_per_s"),
        ({"factor": 1.0}, "calls_per_second"),
        ({"failed": 1}, "failed"),
        ({"calls": 0}, "failed"),
        ({"retransmissions": 1}, "retransmissions"),
        ({"bytes_per_dialog": 12_001}, "bytes_per_dialog"),
        ({"bytes_per_call": 40_001}, "bytes_per_call"),
        ({"attacks": {"a": (2.6, 1.0)}}, "attack_cost_ratio"),
        (
            {"registrations": {"wanted": 10, "held": 10, "refreshed": 9, "failed": 0}},
            "registrations_refreshed",
        ),
        (
            {"registrations": {"wanted": 10, "held": 10, "refreshed": 10, "failed": 1}},
            "registrations_refreshed",
        ),
    ],
)
def test_each_bar_can_be_missed(change: dict[str, object], missed: str) -> None:
    bars = replace(GOOD, **change).bars()  # type: ignore[arg-type]
    assert {name for name, bar in bars.items() if bar["met"] is False} == {missed}


def test_a_phone_that_was_starved_says_nothing_of_what_was_sent_again() -> None:
    bars = replace(GOOD, retransmissions=3, busy=0.5).bars()
    assert bars["retransmissions"]["met"] is None
    bars = replace(GOOD, failed=1, busy=0.5).bars()
    assert bars["failed"]["met"] is False


def test_calls_are_those_of_a_whole_core_however_few_the_caller_makes() -> None:
    slow_caller = replace(GOOD, calls_per_second=100, busy=0.2).bars()
    assert slow_caller["calls_per_second"] == GOOD.bars()["calls_per_second"]


@pytest.mark.parametrize(
    "wrong", [{"peer": "asterisk"}, {"seconds": 0.5}, {"held": 0}, {"registrations": 0}]
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        run(**wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- an earlier run


def test_an_earlier_run_is_compared_figure_by_figure(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps({"a": 2, "b": {"c": 4.0}, "zero": 0, "met": True, "gone": 1}))
    found = compare({"a": 3, "b": {"c": 2.0}, "zero": 7, "met": True, "new": 1}, read_earlier(path))
    assert found == {
        "a": {"earlier": 2, "now": 3, "ratio": 1.5},
        "b.c": {"earlier": 4.0, "now": 2.0, "ratio": 0.5},
    }


@pytest.mark.parametrize("text", ["", "[1]", "no report"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no report"):
        read_earlier(path)


def test_reports_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of these figures"):
        compare({"a": 1}, {"b": 1})
    with pytest.raises(ConfigError, match="cannot read"):
        read_earlier(tmp_path / "nowhere.json")
