"""What was made to be dear: the cost of reading it grows with its length, and no faster.

Steps are counted, not timed; `voip bench sip` times the same attacks.
"""

from __future__ import annotations

import pytest
from step_counter import StepCounter, patterns_of, stepping_back

from voip.errors import SipError
from voip.harness.bench.sip_messages import ATTACKS
from voip.sip import (
    digest,
    event_headers,
    grammar,
    headers,
    identity,
    message,
    reason,
    reliable,
    replaces,
    retargeting,
    stream,
    tel,
    uri,
)
from voip.sip.limits import MAX_HEADERS, MAX_MESSAGE_BYTES
from voip.sip.message import parse_message

ROOM = (
    *(digest, event_headers, grammar, headers, identity, message, reason, reliable, replaces),
    *(retargeting, stream, tel, uri),
)
RATIO = 2.5
STEPS_A_BYTE = 30

STEPS_BACK_IN_SHORT_TEXT = {
    "_HOST_NAME": "a host, after its length has been looked at",
    "_SECRET": "512 characters at most",
}
STEPS_BACK_ONCE = {
    "_SCHEME": "one repetition, from the beginning of the text only",
    "_FOLD": "one repetition, and it begins where no other can",
    "_RACK": "zeros, at the beginning and behind the first number",
    "_RSEQ": "zeros, at the beginning",
    "_START": "one repetition, which gives back to find one word",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_twice_as_long_an_attack_costs_twice_as_much(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, read = ATTACKS[name]
    counter = StepCounter(monkeypatch, *ROOM)
    assert counter.patterns >= 15
    half, whole = make(32_768), make(65_536)
    assert len(whole) <= MAX_MESSAGE_BYTES and len(whole) >= 1.9 * len(half)
    few, many = counter.cost(read, half), counter.cost(read, whole)
    assert few > 0
    assert many <= RATIO * few + 100, f"{few} steps for 32 KiB, {many} for 64 KiB"
    assert many <= STEPS_A_BYTE * len(whole), f"{many} steps for {len(whole)} bytes"


def test_the_counter_finds_a_reader_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def quadratic(data: bytes) -> None:
        text = data.decode()
        for start in range(0, len(text), 64):
            grammar._LIST_STOPS.search(text, start)

    counter = StepCounter(monkeypatch, *ROOM)
    few, many = counter.cost(quadratic, b"a" * 4096), counter.cost(quadratic, b"a" * 8192)
    assert many > 3.5 * few


def test_no_pattern_can_step_back_but_where_that_costs_nothing() -> None:
    found = {name for _, name, pattern in patterns_of(*ROOM) if stepping_back(pattern)}
    assert found == {*STEPS_BACK_IN_SHORT_TEXT, *STEPS_BACK_ONCE}


@pytest.mark.parametrize("line", ["X: y", "Via: SIP/2.0/UDP a", "Contact: <sip:a@b>", "a:"])
def test_thousands_of_headers_are_refused_as_too_many(line: str) -> None:
    lines = min(8000, 65_000 // (len(line) + 2))
    assert lines > MAX_HEADERS
    data = f"OPTIONS sip:a SIP/2.0\r\n{(line + chr(13) + chr(10)) * lines}\r\n".encode()
    with pytest.raises(SipError, match="header lines") as caught:
        parse_message(data)
    assert caught.value.status == 400
