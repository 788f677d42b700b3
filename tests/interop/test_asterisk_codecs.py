"""Asterisk as a translator: it decodes what we encode, and encodes what we decode, both graded.

Two of our phones have no codec in common, so that Asterisk must bring them together; it codes G.722
by spandsp, Opus by libopus, GSM by libgsm.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from codec_floor import (
    AMR,
    AMR_WB,
    G722,
    GSM,
    OPUS,
    OUR_PORTS,
    PCMA,
    PCMU,
    PTIMES,
    SPEEX,
    SPEEX_WIDE,
    Ear,
    Spoken,
    chiefly,
    floor,
    require_floors,
)
from peers.asterisk import Asterisk
from peers.tshark import event_durations, rtp_streams
from phones import echo_of, ended, softphone, until
from stalls import repeated_after_stalls

from voip.call import Call
from voip.events import CallState, DtmfReceived, EndedBy
from voip.harness.audio import Sound

DIGITS = "4711"
SENT_MS = 120
PAUSE_S = 0.8
PAIRS = [
    (OPUS, PCMU),
    (PCMU, OPUS),
    (G722, OPUS),
    (OPUS, G722),
    (G722, PCMA),
    (PCMA, G722),
    (GSM, PCMU),
    (SPEEX, GSM),
    (SPEEX_WIDE, OPUS),
    (AMR, PCMU),
    (AMR_WB, G722),
]
CODECS = [G722, OPUS, GSM, SPEEX, SPEEX_WIDE, AMR, AMR_WB]
LONGEST_MS = {AMR: 20, AMR_WB: 20}
"""What Asterisk bids us by a=maxptime."""
PLAYED_BY_OPUS = replace(OPUS, rate_hz=8000, options=(("b", "11000"), ("application", "voip")))
"""What Asterisk makes of a file of 8 kHz: narrow band, with what libopus thinks enough for it."""
each_codec = pytest.mark.parametrize(
    "codec", chiefly(CODECS, G722, OPUS), ids=lambda codec: codec.name.replace("/", "-")
)
pytestmark = pytest.mark.usefixtures("codec_judges")


def lower(one: Spoken, other: Spoken) -> int:
    """The rate that both have."""
    return min(one.judged_hz, other.judged_hz)


@pytest.mark.parametrize("held", [False, pytest.param(True, marks=pytest.mark.matrix)])
@pytest.mark.parametrize(
    ("calling", "called"),
    chiefly(PAIRS, (OPUS, PCMU), (G722, OPUS), (AMR_WB, G722)),
    ids=lambda codec: codec.name.replace("/", "-"),
)
@repeated_after_stalls
async def test_F017_two_phones_without_a_common_codec_hear_each_other(
    asterisk: Asterisk, artifacts: Path, calling: Spoken, called: Spoken, held: bool
) -> None:
    taken: asyncio.Queue[Call] = asyncio.Queue()

    async def take(call: Call) -> None:
        await call.answer()
        taken.put_nowait(call)
        await call.wait_ended()

    async with (
        softphone(asterisk, "1006", artifacts, register=True, codecs=(called.name,)) as callee,
        softphone(asterisk, "1005", artifacts, codecs=(calling.name,)) as caller,
    ):
        callee.on_incoming(take)
        ours = await caller.dial("1006")
        async with asyncio.timeout(5):
            theirs = await taken.get()
        for call, codec in ((ours, calling), (theirs, called)):
            assert (call.codec, call.rate) == (codec.encoding, codec.rate_hz)
        if held:
            for call in (ours, theirs):
                await call.hold()
                await asyncio.sleep(PAUSE_S)
                await call.resume()
                assert call.state is CallState.ACTIVE
        heard_here, heard_there = await asyncio.gather(
            echo_of(ours, calling.speech(), artifacts / "here.wav"),
            echo_of(theirs, called.speech(turned=True), artifacts / "there.wav"),
        )
        await ours.hangup()
        await ended(theirs)
    hz = lower(calling, called)
    pair = f"{calling.name} and {called.name}{', after holds' if held else ''}"
    require_floors(
        Ear(
            f"{pair}, {called.name} heard",
            calling.speech(),
            heard_there,
            hz,
            floor(calling, called),
        ),
        Ear(
            f"{pair}, {calling.name} heard",
            called.speech(turned=True),
            heard_here,
            hz,
            floor(called, calling, turned=True),
        ),
    )


@pytest.mark.parametrize("ptime_ms", PTIMES)
@each_codec
@repeated_after_stalls
async def test_616_records_what_we_say_at_every_packet_time(
    asterisk: Asterisk, artifacts: Path, codec: Spoken, ptime_ms: int
) -> None:
    phone = softphone(asterisk, "1005", artifacts, codecs=(codec.name,), ptime_ms=ptime_ms)
    async with phone, await phone.dial("616") as call:
        assert call.codec == codec.encoding
        await echo_of(call, codec.speech(), artifacts / "nothing.wav")
    recorded = Sound.read(await asterisk.recording("616"))
    sent = max(rtp_streams(artifacts / "1005.pcap"), key=lambda stream: len(stream.packets))
    assert (sent.name.lower(), sent.lost) == (codec.encoding, 0)
    length_ms = codec.packet_ms(min(ptime_ms, LONGEST_MS.get(codec, ptime_ms)))
    assert {ticks for _, ticks in sent.ticks()} == {codec.clock_hz * length_ms // 1000}
    what = f"{codec.name}, {ptime_ms} ms, Asterisk recorded"
    require_floors(Ear(what, codec.speech(), recorded, codec.judged_hz, floor(codec)))


@each_codec
@pytest.mark.rfc("4733", "2")
async def test_digits_go_both_ways_beside_the_codec(
    asterisk: Asterisk, artifacts: Path, codec: Spoken
) -> None:
    mark = asterisk.mark()
    async with softphone(asterisk, "1005", artifacts, codecs=(codec.name,)) as phone:
        async with await phone.dial("604") as call:
            assert call.codec == codec.encoding
            await call.send_dtmf(DIGITS, duration_ms=SENT_MS)
            assert await asterisk.digits("1005") == DIGITS
        call = await phone.dial("605")
        assert await call.collect(7, timeout=5, terminator=None) == "1234*0#"
        assert (await ended(call)).by is EndedBy.REMOTE
        heard = [event async for event in call.events() if isinstance(event, DtmfReceived)]
    # Asterisk 22 itself takes the first digit's duration for one at 8000 Hz
    spans = event_durations(artifacts / "1005.pcap", OUR_PORTS)
    assert spans == [SENT_MS * codec.clock_hz // 1000] * len(DIGITS), spans
    assert "".join(event.digit for event in heard) == "1234*0#"
    assert all(100 <= event.duration_ms <= 400 for event in heard), heard  # 150 when not busy
    answers = re.findall(r"SIP/2\.0 200 OK.*?(?=<---|\Z)", asterisk.log_since(mark), re.DOTALL)
    described = [answer for answer in answers if "m=audio" in answer]
    assert len(described) == 2
    for answer in described:  # RFC 4733, section 2.1: at the clock of the speech
        assert f"telephone-event/{codec.clock_hz}\n" in answer.replace("\r", ""), answer


@repeated_after_stalls
@pytest.mark.rfc("3264", "8.3.2")
async def test_asterisk_changes_the_codec_while_we_talk(
    asterisk: Asterisk, artifacts: Path
) -> None:
    order = [PCMU, G722, OPUS]
    names = tuple(codec.name for codec in order)
    speech = PCMU.speech()  # the rate of the first codec stays that of the call

    async def converse(user: str, number: str) -> list[Sound]:
        heard = []
        async with softphone(asterisk, user, artifacts, codecs=names) as phone:
            call = await phone.dial(number)
            for name in names:
                await until(lambda: call.codec == name, f"a call by {name}")  # noqa: B023
                assert call.rate == speech.rate_hz
                path = artifacts / f"{number}-{name}.wav"
                heard.append(await echo_of(call, speech, path))
                if name != names[-1]:
                    await until(lambda: call.codec != name, "another codec")  # noqa: B023
            assert (await ended(call)).by is EndedBy.REMOTE
        assert call.stats.packets_lost == 0
        return heard

    told, _ = await asyncio.gather(converse("1005", "617"), converse("1006", "618"))
    recorded = (await asterisk.recordings("618"))[-len(order) :]
    ears = []
    for codec, here, path in zip(order, told, recorded, strict=True):
        assert path.name.endswith(f"-{codec.name}.wav16")
        what, bar = f"{codec.name} after a re-INVITE", floor(codec, said=PCMU)
        played = floor(PLAYED_BY_OPUS, said=PCMU) if codec is OPUS else bar
        ears += [
            Ear(f"{what}, we heard", speech, here, 8000, played),
            Ear(f"{what}, Asterisk heard", speech, Sound.read(path), 8000, bar),
        ]
    require_floors(*ears)
