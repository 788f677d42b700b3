"""MESSAGE, INFO, PUBLISH and OPTIONS by the public API (RFC 3428, 6086, 3903)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from callers import answering
from phone_scene import Network, Server, flow, in_virtual_time, quiet, uri

from voip.errors import CallError, ConfigError, RequestError
from voip.events import DtmfReceived, InfoReceived, MessageReceived
from voip.session.info import Info, dtmf_relay, read_info
from voip.sip.config import AgentConfig
from voip.sip.events import RequestReceived
from voip.sip.message import Request, parse_message
from voip.sip.packages.presence import CONTENT_TYPE as PIDF
from voip.sip.packages.presence import Presence

# ---------------------------------------------------------------- MESSAGE


@flow
async def test_F107_a_text_comes_once_and_is_acknowledged(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        heard: list[MessageReceived] = []
        bob.on_message(heard.append)
        await alice.message(uri(bob), "Watson, come here. ☎")
        await asyncio.sleep(1)
        expected = [MessageReceived(uri(alice), "Watson, come here. ☎", "text/plain")]
        assert heard == expected
        assert [event for event in bob._events if isinstance(event, MessageReceived)] == expected
        await quiet(alice, bob)


@flow
async def test_F107_a_text_that_cannot_be_taken_says_so(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        with pytest.raises(RequestError, match=r"refuses the MESSAGE: .*\(415\)"):
            await alice.message(uri(bob), "x", content_type="application/x-unknown")
        with pytest.raises(ConfigError, match="1301 bytes"):
            await alice.message(uri(bob), "x" * 1301)
        net.silence("192.0.2.66")
        with pytest.raises(RequestError, match="no answer to the MESSAGE") as failure:
            await alice.message("sip:nobody@192.0.2.66", "hello?")
        assert failure.value.status == 408
        await quiet(alice, bob)


# ---------------------------------------------------------------- INFO


@flow
async def test_F108_digits_go_by_info_both_ways(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = answering(bob)
        call = await alice.dial(uri(bob))
        theirs = await calls.get()
        await call.send_dtmf("12#*d", mode="info", duration_ms=200)
        assert await theirs.collect(5, terminator=None) == "12#*D"
        heard = [event for event in theirs._events if isinstance(event, DtmfReceived)]
        assert heard[0] == DtmfReceived("1", 200.0)
        await theirs.send_dtmf("7", mode="info")
        assert await call.collect(1) == "7"
        await call.hangup()
        await quiet(alice, bob)


@flow
async def test_F108_an_info_package_is_taken_where_it_was_announced(net: Network) -> None:
    alice = net.phone("alice")
    bob = net.phone("bob", info_packages=("x-door", "x-lamp"))
    async with alice, bob:
        calls = answering(bob)
        call = await alice.dial(uri(bob))
        theirs = await calls.get()
        assert call.header("Recv-Info") == "x-door, x-lamp"
        assert theirs.header("Recv-Info") == ""
        await call.send_info("x-door", b"open", "text/plain")
        heard = [event for event in theirs._events if isinstance(event, InfoReceived)]
        assert heard == [InfoReceived("x-door", "text/plain", b"open")]
        with pytest.raises(CallError) as refused:
            await theirs.send_info("x-door")
        assert refused.value.status == 469
        await call.hangup()
        with pytest.raises(CallError):
            await call.send_info("x-door")
        await quiet(alice, bob)


def info(body: bytes, kind: str | None, package: str | None = None) -> Request:
    text = b"INFO sip:a@b SIP/2.0\r\n"
    text += f"Content-Type: {kind}\r\n".encode() if kind else b""
    text += f"Info-Package: {package}\r\n".encode() if package else b""
    message = parse_message(text + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("body", "kind", "digit", "ms"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay", "5", 160),
        (b"Signal= 11\nDuration= 99999", "application/dtmf-relay", "#", 5000),
        (b"signal=d", "Application/DTMF-Relay", "D", 160),
        (b"9", "application/dtmf", "9", 160),
        (b"10\r\n", "application/dtmf", "*", 160),
    ],
)
def test_F108_digits_are_read_as_phones_write_them(
    body: bytes, kind: str, digit: str, ms: float
) -> None:
    answer = read_info(info(body, kind), ())
    assert (answer.status, answer.event) == (200, DtmfReceived(digit, ms))


@pytest.mark.parametrize(
    ("body", "kind", "package", "status"),
    [
        (b"Signal=x", "application/dtmf-relay", None, 400),
        (b"17", "application/dtmf", None, 400),
        (b"<x/>", "application/media_control+xml", None, 415),
        (b"", None, None, 200),
        (b"", None, "x-unknown", 469),
        (b"x", "nonsense", None, 400),
    ],
)
def test_F108_what_says_nothing_to_us_is_refused(
    body: bytes, kind: str | None, package: str | None, status: int
) -> None:
    answer = read_info(info(body, kind, package), ("x-door",))
    assert (answer.status, answer.event) == (status, None)
    if status == 469:
        assert answer.headers == (("Recv-Info", "x-door"),)


def test_F108_what_is_no_package_cannot_be_named() -> None:
    assert dtmf_relay("1", 100).body == b"Signal=1\r\nDuration=100\r\n"
    with pytest.raises(ConfigError, match="no Info package"):
        Info("two words")


# ---------------------------------------------------------------- PUBLISH


class Compositor:
    """Holds states by their names, as an event state compositor does (RFC 3903 section 6)."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.operations: list[str] = []
        self.count = 0
        self.least = 60
        self.forget = False

    def __call__(self, event: Any, server: Server) -> None:
        assert isinstance(event, RequestReceived)
        request, now = event.request.request, server.now()
        match, expires = request.headers.get("SIP-If-Match"), int(request.headers.get("Expires"))
        if match is not None and (match not in self.held or self.forget):
            self.forget = False
            self.held.pop(match, None)
            self.operations.append("412")
            event.request.reply(412, now=now)
            return
        if 0 < expires < self.least:
            self.operations.append("423")
            least = [("Min-Expires", str(self.least))]
            event.request.reply(423, headers=least, now=now)
            return
        kind = {(0, 1): "initial", (1, 0): "refresh", (1, 1): "modify"}
        name = kind[(int(match is not None), int(bool(request.body)))]
        self.operations.append("remove" if expires == 0 else name)
        body = request.body or self.held.get(match or "", b"")
        self.held.pop(match or "", None)
        self.count += 1
        etag = f"e{self.count}"
        if expires:
            self.held[etag] = body
        headers = [("SIP-ETag", etag), ("Expires", str(expires))]
        event.request.reply(200, headers=headers, now=now)


PUBLISHING = AgentConfig(allow=(*AgentConfig().allow, "PUBLISH"))


def state(note: str) -> bytes:
    return Presence("sip:alice@x", note=note).to_bytes()


@flow
async def test_F105_a_state_is_published_refreshed_modified_and_removed(net: Network) -> None:
    compositor = Compositor()
    server = await net.server("esc", PUBLISHING, compositor)
    async with net.phone("alice") as alice:
        published = await alice.publish(
            "presence", state("in"), PIDF, target=server.uri, expires_s=300
        )
        assert list(compositor.held.values()) == [state("in")]
        await asyncio.sleep(600)  # refreshed, under another name each time
        assert list(compositor.held.values()) == [state("in")]
        assert compositor.operations.count("refresh") >= 2
        await published.update(state("out"), PIDF)
        assert list(compositor.held.values()) == [state("out")]
        await published.close()
        if not net.loss:
            assert compositor.held == {}
            assert compositor.operations[0] == "initial"
            assert compositor.operations[-2:] == ["modify", "remove"]
        with pytest.raises(RequestError):
            await published.update(state("again"), PIDF)
        await quiet(alice)


@flow
async def test_F105_a_state_that_was_forgotten_is_published_anew(net: Network) -> None:
    compositor = Compositor()
    server = await net.server("esc", PUBLISHING, compositor)
    async with net.phone("alice") as alice:
        async with await alice.publish(
            "presence", state("in"), PIDF, target=server.uri, expires_s=300
        ):
            compositor.forget = True
            await asyncio.sleep(400)
            assert list(compositor.held.values()) == [state("in")]
            assert "412" in compositor.operations
            after = compositor.operations[compositor.operations.index("412") + 1]
            assert after == "initial"
        await quiet(alice)


@flow
async def test_F105_a_longer_interval_is_taken_where_it_is_asked_for(net: Network) -> None:
    compositor = Compositor()
    server = await net.server("esc", PUBLISHING, compositor)
    async with net.phone("alice") as alice:
        async with await alice.publish(
            "presence", state("in"), PIDF, target=server.uri, expires_s=10
        ):
            assert compositor.operations[:2] == ["423", "initial"]
        await quiet(alice)


@flow
async def test_F105_a_phone_that_closes_takes_its_states_back(net: Network) -> None:
    compositor = Compositor()
    server = await net.server("esc", PUBLISHING, compositor)
    async with net.phone("alice") as alice:
        await alice.publish("presence", state("in"), PIDF, target=server.uri)
        await alice.publish("x-other", b"1", "text/plain", target=server.uri)
    if not net.loss:
        assert compositor.held == {}
    assert compositor.operations.count("initial") == 2


def test_F105_who_does_not_take_states_says_so() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            with pytest.raises(RequestError, match="refuses the PUBLISH") as refused:
                await alice.publish("presence", state("in"), PIDF, target=uri(bob))
            assert refused.value.status == 405
            await quiet(alice, bob)

    in_virtual_time(run)
