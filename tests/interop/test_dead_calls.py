"""Peers that die in the middle of a call, as far as we can see: stopped, killed, forgetful, dumb.

Whoever can still hear our BYE, or hears it later, is told why (RFC 3326).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from peers.sipp import Sipp
from phones import until
from sipp_flow import ACKED, CONTACT, OURS, asked, described, replied, scenario
from test_asterisk_command import voip

from voip.call import Call
from voip.config import CallConfig
from voip.errors import CallError
from voip.events import CallEnded, EndedBy, PeerHeard, PeerSilent
from voip.sip.reason import Reason

LIMIT_S = 4.0
LATE_S = 0.5
"""For the real clock, and other tests beside this one."""


class Watched:
    """What a call is told, and when."""

    def __init__(self, call: Call) -> None:
        self._loop = asyncio.get_running_loop()
        self.at: dict[type, list[float]] = {}
        call.on_event(self._note)

    def _note(self, event: object) -> None:
        self.at.setdefault(type(event), []).append(self._loop.time())


def reason_sent(us: Desk) -> Reason:
    """The reason our last BYE gives."""
    return Reason.parse(us.ladder.header("> BYE", "Reason"))


def callee(
    artifacts: Path,
    *,
    reason: str,
    status: int = 200,
    asked_times: int = 0,
    at: str = "IN IP[media_ip_type] [media_ip]",
) -> Path:
    """A callee of SIPp's that says nothing in RTP, is asked so often, and expects this reason."""
    return scenario(
        artifacts,
        "callee",
        asked("INVITE", 1),
        replied(200, 1, CONTACT, *described("[media_port]", at), tag=OURS, again=True),
        ACKED,
        *(asked("OPTIONS", 9), replied(status, 9)) * asked_times,
        asked("BYE", 80, ("Reason:", reason)),
        replied(200, 80),
    )


async def test_a_pjsip_that_is_stopped_is_hung_up_on_and_hears_of_it_when_it_goes_on(
    pjsua: Callable[..., Awaitable[Pjsua]], artifacts: Path
) -> None:
    """Its sockets take what comes, and nobody reads: the network shows nothing."""
    peer = await pjsua()
    calling = CallConfig(media_timeout_s=LIMIT_S)
    async with desk(artifacts, calling=calling) as us:
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.phone.dial(peer.uri))
            number = await peer.incoming()
            await peer.answer(number)
        call = dialling.result()
        await peer.established(number)
        await until(lambda: call.stats.packets_received > 50, "sound from PJSIP")
        watched = Watched(call)
        try:
            peer.send_signal(signal.SIGSTOP)
            stopped = asyncio.get_running_loop().time()
            async with asyncio.timeout(20):
                end = await call.wait_ended()
        finally:
            peer.send_signal(signal.SIGCONT)
        (silent,), (over,) = watched.at[PeerSilent], watched.at[CallEnded]
        print(f"told after {silent - stopped:.2f} s, over after {over - stopped:.2f} s")
        assert silent - stopped <= LIMIT_S / 2 + LATE_S
        assert LIMIT_S - 0.1 <= over - stopped <= LIMIT_S + LATE_S
        assert (end.by, end.status) == (EndedBy.FAILURE, 408)
        assert reason_sent(us) == Reason("SIP", 408, end.reason)
        await peer.closed(number)
        await until(lambda: "< 200 BYE" in us.ladder.lines, "PJSIP's answer to our BYE")
    assert "Reason: SIP;cause=408" in peer.log.read_text(errors="replace")
    assert (
        b'\r\nReason: SIP;cause=408;text="media timeout: ' in (artifacts / "desk.pcap").read_bytes()
    )


async def test_a_pjsip_that_goes_on_in_time_is_heard_again(
    pjsua: Callable[..., Awaitable[Pjsua]], artifacts: Path
) -> None:
    peer = await pjsua()
    async with desk(artifacts, calling=CallConfig(media_timeout_s=8.0)) as us:
        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.answer()
        await peer.established(number)
        await until(lambda: call.stats.packets_received > 50, "sound from PJSIP")
        watched = Watched(call)
        try:
            peer.send_signal(signal.SIGSTOP)
            await until(lambda: PeerSilent in watched.at, "the news of its silence", 8)
        finally:
            peer.send_signal(signal.SIGCONT)
        await until(lambda: PeerHeard in watched.at, "the news of its sound", 4)
        await peer.hangup(number)
        async with asyncio.timeout(5):
            assert (await call.wait_ended()).by is EndedBy.REMOTE


async def test_a_baresip_that_is_killed_is_noticed_in_time(
    baresip: Callable[..., Awaitable[Baresip]], artifacts: Path
) -> None:
    """Nobody listens any more where it was: the first question shows it."""
    peer = await baresip(answer="auto")
    async with desk(artifacts, calling=CallConfig(media_timeout_s=LIMIT_S)) as us:
        call = await us.phone.dial(peer.uri)
        await peer.established()
        await until(lambda: call.stats.packets_received > 50, "sound from baresip")
        watched = Watched(call)
        peer.send_signal(signal.SIGKILL)
        killed = asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            end = await call.wait_ended()
        took = watched.at[CallEnded][0] - killed
        print(f"over after {took:.2f} s: {end.reason}")
        assert took <= LIMIT_S + LATE_S
        assert end.by is EndedBy.FAILURE
        assert (reason_sent(us).protocol, reason_sent(us).cause) == ("SIP", end.status)


async def test_a_sipp_that_answers_and_never_sounds_reads_why_it_is_hung_up_on(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path
) -> None:
    file = callee(
        artifacts, status=200, asked_times=3, reason='SIP;cause=408;text="media timeout: neither'
    )
    peer = await sipp(file)
    async with desk(artifacts, calling=CallConfig(media_timeout_s=LIMIT_S)) as us:
        call = await us.phone.dial(peer.uri)
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            end = await call.wait_ended()
        took = asyncio.get_running_loop().time() - begun
        assert LIMIT_S - 0.1 <= took <= LIMIT_S + LATE_S
        assert (end.by, end.status) == (EndedBy.FAILURE, 408)
        (await peer.finished()).require(1)


@pytest.mark.parametrize(("status", "by"), [(481, EndedBy.REMOTE), (408, EndedBy.FAILURE)])
async def test_a_sipp_that_has_forgotten_the_call_is_found_out_by_a_ping(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path, status: int, by: EndedBy
) -> None:
    file = callee(artifacts, status=status, asked_times=1, reason=f"SIP;cause={status};text=")
    peer = await sipp(file)
    async with desk(artifacts, calling=CallConfig(media_timeout_s=None)) as us:
        call = await us.phone.dial(f"sip:service@{HOST}:{peer.port}")
        call.media_timeout_s = 86_400  # nothing but the ping asks
        call.ping_s = 5.0
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            end = await call.wait_ended()
        took = asyncio.get_running_loop().time() - begun
        assert (end.by, end.status) == (by, status)
        assert took <= 5.0 + LATE_S
        (await peer.finished()).require(1)


async def test_a_sipp_that_answers_with_an_address_we_cannot_send_to_reads_why_it_is_hung_up_on(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path
) -> None:
    file = callee(artifacts, at="IN IP6 2001:db8::1", reason="SIP;cause=488;text=")
    peer = await sipp(file)
    async with desk(artifacts) as us:
        with pytest.raises(CallError, match="the peer is at 2001:db8::1") as caught:
            await us.phone.dial(peer.uri)
        assert caught.value.status == reason_sent(us).cause == 488
        (await peer.finished()).require(1)


async def test_the_command_line_hangs_up_on_a_sipp_that_never_sounds(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path
) -> None:
    """`--media-timeout`: SIPp's verdict is that it was asked, and told why by the BYE."""
    file = callee(
        artifacts, status=200, asked_times=3, reason='SIP;cause=408;text="media timeout: neither'
    )
    peer = await sipp(file)
    options = ("--media-timeout", f"{LIMIT_S:g}", "--bind", HOST, "--json")
    async with voip("call", peer.uri, *options, password="") as command:
        done = await command.done()
    found = done.json()
    assert done.status == 1
    assert (found["answered"], found["ended_by"], found["status"]) == (True, "failure", 408)
    (await peer.finished()).require(1)


async def test_the_command_line_asks_a_sipp_every_so_often(
    sipp: Callable[..., Awaitable[Sipp]], artifacts: Path
) -> None:
    """`--ping`, long before silence counts: SIPp has forgotten the call, and reads that."""
    file = callee(artifacts, status=481, asked_times=1, reason="SIP;cause=481;text=")
    peer = await sipp(file)
    options = ("--ping", "5", "--media-timeout", "86400", "--bind", HOST, "--json")
    async with voip("call", peer.uri, *options, password="") as command:
        done = await command.done()
    assert (done.json()["ended_by"], done.json()["status"]) == ("remote", 481)
    (await peer.finished()).require(1)
