"""`voip answer`: calls it takes, what it does with them, and what it says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from voip_program import FURNITURE, PATIENCE_S, SECRETS, Done, PbxThread, is_of, seconds_of

from voip.errors import CallError
from voip.sounds import asset_path

pytestmark = pytest.mark.realtime

Voip = Callable[..., Done]


@pytest.fixture
def sound() -> Iterator[Path]:
    """A second of it: a call takes as long as what is played in it."""
    with asset_path("enter-digits-8k.wav") as path:
        yield path


@pytest.fixture
def answer(voip: Voip, monkeypatch: pytest.MonkeyPatch) -> Voip:
    """Run `voip answer`; the password is that of 1002."""
    monkeypatch.setenv("VOIP_PASSWORD", SECRETS["1002"])
    return lambda *arguments: voip("answer", *arguments)


async def calling(pbx: PbxThread, *, play: Path | None = None, record: Path | None = None) -> None:
    """Wait for 1002, call, play, and hang up; without `play` wait to be hung up on."""
    await pbx.registered("1002")
    async with pbx.phone() as phone, await phone.dial("1002") as call:
        if play is None:
            async with asyncio.timeout(PATIENCE_S):
                if record is not None:
                    async with call.record(record):
                        await call.wait_ended()
                await call.wait_ended()
            return
        async with call.record(record or Path("/dev/null")):
            await call.send_dtmf("5", duration_ms=60)
            await call.play(play)
            await asyncio.sleep(0.8)


def test_an_account_answers_and_echoes_and_records(
    answer: Voip, pbx: PbxThread, sound: Path, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.wav", tmp_path / "ours.wav"
    called = pbx.soon(calling(pbx, play=sound, record=theirs))
    done = answer(*pbx.account("1002"), "--echo", "--calls", "1", "--record", ours, "--json")
    called(PATIENCE_S)
    assert done.status == 0
    assert all(line.startswith("voip: listening on ") for line in done.stderr.splitlines())
    assert done.stderr.count(" udp 0.0.0.0:") == 1
    assert done.json["answered"] == 1
    (report,) = done.json["calls"]
    assert (report["answered"], report["ended_by"]) == (True, "remote")
    assert (report["dtmf_heard"], report["recording"]) == ("5", str(ours))
    assert pbx.uri("1001").split("@")[0] in report["remote"]
    assert is_of(theirs, sound)
    assert is_of(ours, sound)
    assert pbx.contacts("1002") == []


def test_a_file_is_played_and_then_the_call_is_over(
    answer: Voip, pbx: PbxThread, sound: Path, tmp_path: Path
) -> None:
    heard = tmp_path / "heard.wav"
    called = pbx.soon(calling(pbx, record=heard))
    done = answer(*pbx.account("1002"), "--play", sound, "--calls", "1")
    called(PATIENCE_S)
    assert done.status == 0
    assert "ended by: local" in done.stdout
    assert not FURNITURE.search(done.stdout)
    assert seconds_of(heard) > 0.6


def test_calls_are_numbered_and_one_too_many_is_busy(
    answer: Voip, pbx: PbxThread, tmp_path: Path
) -> None:
    recordings = [tmp_path / "call.wav", tmp_path / "call-2.wav"]

    async def three() -> None:
        await pbx.registered("1002")
        async with pbx.phone() as phone:
            calls = [await phone.dial("1002"), await phone.dial("1002")]
            with pytest.raises(CallError, match="486"):
                await phone.dial("1002")
            async with asyncio.timeout(PATIENCE_S):
                while not all(path.exists() and seconds_of(path) > 0.5 for path in recordings):
                    await asyncio.sleep(0.02)
            for call in calls:
                await call.hangup()

    called = pbx.soon(three())
    done = answer(
        *(*pbx.account("1002"), "--calls", "2", "--json", "--record", recordings[0]),
    )
    called(PATIENCE_S)
    assert done.status == 0
    assert {report["recording"] for report in done.json["calls"]} == set(map(str, recordings))
    assert all(seconds_of(path) > 0.5 for path in recordings)


def test_it_hangs_up_after_the_time_that_a_call_may_take(answer: Voip, pbx: PbxThread) -> None:
    called = pbx.soon(calling(pbx))
    done = answer(*pbx.account("1002"), "--calls", "1", "--duration", "0.2", "--json")
    called(PATIENCE_S)
    (report,) = done.json["calls"]
    assert (done.status, report["answered"], report["ended_by"]) == (0, True, "local")


def test_without_an_account_it_listens_where_it_is_told(voip: Voip, pbx: PbxThread) -> None:
    done = voip("answer", "--bind", "127.0.0.1:0", "--timeout", "0.2", "--json")
    assert done.status == 1
    *listening, complaint = done.stderr.splitlines()
    assert [line.split(":")[1].split(" on ")[1] for line in listening] == [
        "udp 127.0.0.1",
        "tcp 127.0.0.1",
    ]
    assert complaint == "voip: no call came in 0.2 s"
    assert done.json == {"answered": 0, "calls": [], "error": "no call came in 0.2 s"}


def test_fewer_calls_than_wanted_is_a_failure(voip: Voip) -> None:
    done = voip("answer", "--bind", "127.0.0.1:0", "--timeout", "0.1", "--calls", "2")
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "voip: 0 of 2 calls were answered"


def test_a_caller_that_gives_up_is_not_counted(answer: Voip, pbx: PbxThread) -> None:
    async def impatient() -> None:
        await pbx.registered("1002")
        async with pbx.phone() as phone:
            with pytest.raises(CallError):
                await phone.dial("1002", timeout=0)
            async with await phone.dial("1002"):
                await asyncio.sleep(0.1)

    called = pbx.soon(impatient())
    done = answer(*pbx.account("1002"), "--calls", "1", "--json")
    called(PATIENCE_S)
    assert (done.status, done.json["answered"]) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bind", "127.0.0.1:{port}"], "127.0.0.1:{port} is in use"),
        (["--play", "none.wav"], "none.wav cannot be read"),
        (["--record", "none/x.wav"], "there is no folder none"),
        (["--codec", "evs"], "no codec 'evs'"),
        (["--from", "sip:"], "not a SIP URI"),
        (["--from", "sip:a@127.0.0.1:9"], "nobody listens at 127.0.0.1:9"),
        (["--from", "sip:1002@127.0.0.1:{port}"], "401 twice: wrong password for 1002@"),
    ],
)
def test_what_cannot_be_is_one_line_and_one_object(
    voip: Voip, pbx: PbxThread, arguments: list[str], complaint: str
) -> None:
    filled = [argument.format(port=pbx.server.port) for argument in arguments]
    done = voip("answer", *filled, "--json")
    assert done.status == 1
    assert complaint.format(port=pbx.server.port) in done.complaint
    assert done.json["error"] == done.complaint
    assert (done.json["answered"], done.json["calls"]) == (0, [])
