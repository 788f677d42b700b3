"""What phones write to the log of their calls: whose line each is, and that no secret is in any."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from flow_scene import AOR, PASSWORDS, SERVER, Scene

import voip
from voip import Answering, AuthenticationError, CallError, Softphone
from voip.call import Call
from voip.config import MediaConfig
from voip.logs import log_to
from voip.media.commands import WatchStream
from voip.sim import World
from voip.sip.digest import DigestClient, parse_digest, unquoted

CALL_LOGGERS = re.compile(
    r"(voip\.(call|session|incoming|dialling|transfers|callbacks|journal)\b|app)"
)
"""Those whose lines are about a call, all of them: the application's are of handlers of calls."""
KEYS, MORE_KEYS = "4711*2255*99#", "99##99##"
SRTP_KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
OF_EVERY_CALL = (
    "time",
    "level",
    "logger",
    "message",
    "event",
    "call_id",
    "direction",
    "peer",
    "sip_call_id",
)
app = logging.getLogger("app")

Line = dict[str, Any]


class Log:
    """Everything that is logged, as lines of JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self._handler = log_to(self.stream, level="debug", as_json=True, loggers=("voip", "app"))

    def close(self) -> None:
        for name in ("voip", "app"):
            logging.getLogger(name).removeHandler(self._handler)
            logging.getLogger(name).setLevel(logging.NOTSET)

    @property
    def lines(self) -> list[Line]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def about_calls(self) -> list[Line]:
        """What phones say of calls, and not their proxy."""
        lines = (line for line in self.lines if "proxy" not in line)
        return [line for line in lines if CALL_LOGGERS.match(line["logger"])]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Call]:
    """All calls of all phones, by their ids."""
    made: dict[str, Call] = {}
    new_call = Softphone._new_call

    def noted(self: Softphone, *given: Any, **more: Any) -> Call:
        call = new_call(self, *given, **more)
        assert call.id not in made
        made[call.id] = call
        return call

    monkeypatch.setattr(Softphone, "_new_call", noted)
    return made


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Everything that was secret or might help to guess a password in an Authorization."""
    found: set[str] = set()
    authorize = DigestClient.authorize

    def noted(self: DigestClient, *given: Any, **more: Any) -> str | None:
        value = authorize(self, *given, **more)
        params = parse_digest(value or "") or {}
        found.update(unquoted(params[name]) for name in ("response", "nonce", "cnonce"))
        return value

    monkeypatch.setattr(DigestClient, "authorize", noted)
    return found


def test_every_line_about_a_call_names_it_and_no_line_has_a_secret(
    log: Log, calls: dict[str, Call], proofs: set[str], tmp_path: FilePath
) -> None:
    """Answered, held, pressed keys in, busy, cancelled, transferred, refused; all challenged."""
    scene = Scene(0.0)

    async def reception(call: Call) -> None:
        app.info("somebody is at the door")
        wish = call.header("X-Wish")
        if wish == "busy":
            await call.reject(486)
        elif wish == "ring":
            await call.ring()
            await call.wait_ended()
        else:
            call.on_event(lambda event: app.debug("told of %s", type(event).__name__))
            await call.answer()
            app.info("answered it")
            await call.wait_ended()
        app.info("the visitor has gone")

    async def main() -> None:
        sound = MediaConfig()
        bob = await scene.taking("bob", reception, media=sound)
        carol = await scene.taking("carol", reception, media=sound)
        with scene.alice.here():
            wrong = scene.phone("alice", scene.alice, password="looking-glass")
            with pytest.raises(AuthenticationError):
                await wrong.start()
            alice = scene.phone("alice", scene.alice, media=sound)
            await alice.start()
        one, other = await asyncio.gather(alice.dial("bob"), alice.dial("carol"))
        async with one, other, other.record(tmp_path / "heard.wav"):
            await one.send_dtmf(KEYS)
            await other.play(np.full(8000, 99, np.int16))
            await one.hold()
            await one.resume()
            await one.send_dtmf(MORE_KEYS, mode="info")
        for wish in ("busy", "ring"):
            with pytest.raises(CallError):
                await alice.dial("bob", headers={"X-Wish": wish}, timeout=3)
        await asyncio.gather(*(alice.dial("nobody", wait="started") for _ in range(3)))
        call = await alice.dial("bob")
        await call.transfer("carol")
        await crypto(scene)
        await asyncio.sleep(5)
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)

    looked_at = 0
    events: defaultdict[str, list[str]] = defaultdict(list)
    for line in log.about_calls():
        looked_at += 1
        call = calls[line["call_id"]]  # KeyError: it names none
        assert line["peer"] == call.remote
        assert line["direction"] == ("outgoing" if call.outgoing else "incoming")
        assert call.account is not None
        assert line["account"] == call.account.uri
        invite = call._session.invite_request
        assert invite is not None
        assert line["sip_call_id"] == invite.call_id
        if "event" in line:
            events[call.id].append(line["event"])
    print(f"{looked_at} lines of {len(calls)} calls, {len(log.lines)} lines in all")
    assert looked_at > 100
    assert events.keys() == calls.keys()
    for of_call in events.values():
        assert of_call[0] in ("call_started", "call_incoming")
        assert of_call[-1] == "call_ended"
        assert of_call.count("call_ended") == 1
    told = Counter(event for of_call in events.values() for event in of_call)
    assert {
        "call_answered",
        "call_ringing",
        "call_held",
        "call_held_by_peer",
        "call_resumed",
        "call_resumed_by_peer",
        "session_change",
        "session_change_by_peer",
        "dtmf_sent",
        "dtmf_received",
        "transfer_asked",
        "transfer_requested",
        "call_transferred",
    } <= told.keys()
    assert told["dtmf_received"] == len(KEYS + MORE_KEYS)
    keys_heard = [line for line in log.lines if line.get("event") == "dtmf_received"]
    assert {line["message"] for line in keys_heard} == {"a key was heard"}
    assert {name for line in keys_heard for name in line} == {*OF_EVERY_CALL, "account"}
    of_app = [line for line in log.lines if line["logger"] == "app"]
    assert len(of_app) > 20

    ended = [line for line in log.lines if line.get("event") == "call_ended"]
    assert {line["status"] for line in ended} >= {486, 487, 404, 488}
    keys = {line["keys_sent"] for line in ended}, {line["keys_heard"] for line in ended}
    assert keys == ({0, len(KEYS + MORE_KEYS)}, {0, len(KEYS + MORE_KEYS)})
    assert any(line["mos"] and line["mos"] > 4 for line in ended)

    registered = [line for line in log.lines if line["logger"] == "voip.registration"]
    assert {(line["event"], line["account"]) for line in registered} >= {
        ("registered", AOR),
        ("registration_failed", AOR),
        ("unregistered", AOR),
    }
    listening = [line for line in log.lines if line.get("event") == "sip_listening"]
    assert len(listening) >= 6
    secrets = {*PASSWORDS.values(), "looking-glass", KEYS, MORE_KEYS, SRTP_KEY, *proofs}
    assert len(proofs) > 20
    assert_no_secret(log, secrets)


async def crypto(scene: Scene) -> None:
    """Call Bob with an offer of SRTP, from the server, which is believed."""
    sdp = (
        "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n"
        "m=audio 40000 RTP/SAVP 0\r\n"
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SRTP_KEY}|2^20|1:4\r\n"
    )
    invite = (
        "INVITE sip:bob@10.0.0.2 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {SERVER}:5099;branch=z9hG4bKcrypto\r\nMax-Forwards: 70\r\n"
        f"From: <sip:mallory@{SERVER}>;tag=m\r\nTo: <sip:bob@{SERVER}>\r\n"
        f"Call-ID: crypto\r\nCSeq: 1 INVITE\r\nContact: <sip:mallory@{SERVER}:5099>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
    )

    async def send() -> None:
        loop = asyncio.get_running_loop()
        mouth, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=(SERVER, 5099)
        )
        mouth.sendto(invite.encode(), ("10.0.0.2", 5060))
        await asyncio.sleep(1)
        mouth.close()

    await scene.server.run(send())


def assert_no_secret(log: Log, secrets: set[str]) -> None:
    text = log.stream.getvalue()
    assert text.count("\n") == len(log.lines) > 100
    for secret in secrets:
        assert len(secret) >= 4
        found = [line for line in text.splitlines() if secret in line]
        assert not found, (secret, found)
    for words in ("Digest ", "a=crypto", "inline:", "Authorization", "Signal="):
        assert words not in text


def test_what_handlers_and_callbacks_break_is_told_of_their_call(
    log: Log, calls: dict[str, Call]
) -> None:
    world = World(1)
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")

    async def broken(call: Call) -> None:
        call.on_event(breaks)
        await call.answer()
        raise RuntimeError("password=hunter2 is wrong")

    def breaks(event: object) -> None:
        app.warning("the pin: 4711")
        raise ValueError("Authorization: Digest response=abcdef")

    async def main() -> None:
        with bob.here():
            phone = Softphone("sip:bob@10.0.0.2", register=False, network=AT_5060)
            phone.on_incoming(broken)
            await phone.start()
        async with Softphone("sip:alice@10.0.0.1", register=False) as caller:
            call = await caller.dial("sip:bob@10.0.0.2")
            await call.wait_ended()
        await phone.close()

    world.run(alice.run(main()))
    errors = [line for line in log.lines if line["level"] == "error"]
    assert len(errors) >= 3
    (incoming,) = (call for call in calls.values() if not call.outgoing)
    assert {line["call_id"] for line in errors} == {incoming.id}
    assert any("RuntimeError: password=***" in line["error"] for line in errors)
    assert any("ValueError: Authorization: ***" in line["error"] for line in errors)
    pins = [line for line in log.lines if line["logger"] == "app"]
    assert {(line["message"], line["call_id"]) for line in pins} == {("the pin: ***", incoming.id)}
    for secret in ("hunter2", "abcdef", "4711"):
        assert secret not in log.stream.getvalue()


def test_what_the_media_engine_refuses_is_told_of_its_call(
    log: Log, calls: dict[str, Call]
) -> None:
    world = World(1)
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")

    async def main() -> None:
        with bob.here():
            phone = Softphone("sip:bob@10.0.0.2", register=False, network=AT_5060)
            phone.on_incoming(lambda call: call.answer())
            await phone.start()
        async with Softphone("sip:alice@10.0.0.1", register=False) as caller:
            call = await caller.dial("sip:bob@10.0.0.2")
            driver, stream = caller.driver, call._session.media.stream
            driver.post(WatchStream(stream, 0.0))
            given_up = asyncio.ensure_future(driver.apply(WatchStream(stream, -1.0)))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.sleep(1)
        await phone.close()

    world.run(alice.run(main()))
    refused = [line for line in log.lines if "engine refused a command" in line["message"]]
    (outgoing,) = (call for call in calls.values() if call.outgoing)
    assert [line["message"].rpartition(": ")[2] for line in refused] == [
        "no peer is silent for 0.0 s",
        "no peer is silent for -1.0 s",
    ]
    assert {(line["level"], line["call_id"]) for line in refused} == {("warning", outgoing.id)}


def test_a_call_that_never_was_one_is_told_by_the_id_of_its_invite(log: Log) -> None:
    scene = Scene(0.0)

    async def main() -> None:
        async def unasked(call: Call) -> None:
            raise AssertionError(call)

        bob = await scene.taking("bob", unasked)
        with scene.alice.here():
            alice = scene.phone("alice", scene.alice)
            await alice.start()
        for rules, status in (
            (Answering(do_not_disturb=True), 486),
            (Answering(forward_always="carol"), 302),
        ):
            bob.answering = rules
            with pytest.raises(CallError) as failed:
                await alice.dial("bob", redirect=False)
            assert failed.value.status == status
        await alice.close()
        await bob.close()

    scene.run(main)
    refused = [line for line in log.about_calls() if line.get("event") == "call_refused"]
    begun = [line for line in log.about_calls() if line.get("event") == "call_started"]
    assert [line["status"] for line in refused] == [486, 302]
    assert [line["sip_call_id"] for line in refused] == [line["sip_call_id"] for line in begun]
    assert all(line["call_id"] == line["sip_call_id"] for line in refused)
    assert {line["peer"] for line in refused} == {AOR}
    assert refused[1]["message"] == f"refused, as it is sent on to sip:carol@{SERVER}"


AT_5060 = voip.NetworkConfig(bind_port=5060)


def test_nothing_about_calls_is_written_but_by_their_logs() -> None:
    """A module that is about calls has no logger of its own, whose lines would name no call."""
    rooms = FilePath(voip.__file__).parent
    modules = [
        *sorted((rooms / "session").glob("*.py")),
        *(
            rooms / f"{name}.py"
            for name in (
                "call",
                "callbacks",
                "dialling",
                "incoming",
                "transfers",
                "quality_reports",
            )
        ),
    ]
    assert len(modules) > 20
    for module in modules:
        assert "getLogger" not in module.read_text(), module.name
