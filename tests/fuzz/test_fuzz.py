"""A short run of what `make fuzz` does at length, and everything it has ever found."""

from __future__ import annotations

import random

import pytest
from fuzz_mutation import mutated, seeds
from fuzz_run import block_of
from fuzz_targets import TARGETS
from hypotheses import examples
from hypothesis import example, given
from hypothesis import strategies as st

INPUTS = 400
SLOW = ("silence",)
"""Seconds of a call go by in each input of these."""

FOUND = (
    ("uri", b"sip:+1555;ext=:@hosample;use=phone0;method="),
    ("sdp", b"v=0\r\nt=0 0\r\no=- 7 1 IN IP4 a\r\ns=-\r\nc=IN IP4 a\r\nt=0 0\r\nc=IN IP4 a\r\n"),
    ("header", b"<sip:a@b?a%5C=b>;index=1"),
    ("header", b"<sip:a@b?Reason=x%0D%0A>;index=1"),
    (
        "agent",
        b"INVITE sip:a@b SIP/2.0\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n"
        b"CSeq: 1 INVITE\r\n%b\r\n" % (b"Via: SIP/2.0/UDP a\r\n" * 250),
    ),
    ("stream", b"BYE tel:+1%b SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n\r\n" % (b"," * 9_000)),
    ("stream", b"%b\r\n" % (b"OPTIONS sip:a@b SIP/2.0\r\n" + b"X: y\r\n" * 11_000)),
    ("stream", b"\x16\x03\x01" + b"\r\n\r\n" * 60),
    ("header", b'ACTIVE;65536ES=600;REASON=";R=";RETRY-AFTER=4'),
    ("rtcp", bytes.fromhex("80cb000100000009")),
    ("message", b"OPTIONS sip:a@b SIP/2.0\r\n%b\r\n" % (b"X: y\r\n" * 256)),
)
"""(target, input) that a target could not bear once."""


@pytest.mark.parametrize(
    "target",
    [pytest.param(one, marks=pytest.mark.long) if one in SLOW else one for one in TARGETS],
)
def test_a_target_bears_what_is_nearly_right(target: str) -> None:
    corpus = seeds(target)
    inputs = list(block_of(20, target, 0, INPUTS, corpus))
    assert len(inputs) == INPUTS and len(set(inputs)) > INPUTS / 2
    for data in inputs:
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_bears_its_seeds(target: str) -> None:
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_bears_anything(target: str) -> None:
    corpus = seeds(target)

    @examples(60, database=None)
    @given(st.one_of(st.binary(max_size=400), st.integers(0, 2**64).map(_nearly(corpus))))
    @example(b"")
    @example(b"\r\n\r\n")
    @example(b"\0")
    def bears(data: bytes) -> None:
        TARGETS[target](data)

    bears()


def _nearly(corpus: list[bytes]):  # type: ignore[no-untyped-def]
    return lambda number: mutated(corpus, random.Random(number))


@pytest.mark.parametrize(
    ("target", "data"),
    FOUND,
    ids=[f"{target}-{number}" for number, (target, _) in enumerate(FOUND)],
)
def test_what_was_found_once_is_borne(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_a_number_names_an_input_for_ever() -> None:
    corpus = seeds("message")
    assert list(block_of(1, "message", 7, 20, corpus)) == list(
        block_of(1, "message", 7, 20, corpus)
    )
    assert list(block_of(1, "message", 7, 20, corpus)) != list(
        block_of(1, "message", 8, 20, corpus)
    )
