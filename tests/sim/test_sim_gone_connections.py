"""Calls whose connection is gone before they are over (RFC 3261 sections 18.1.1 and 18.2.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import EndedBy
from voip.sim import Path, World
from voip.types import Address

PHONE, CALLER = "10.0.0.1", "10.0.0.2"
OFFER = (
    "v=0\r\no=- 7 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\n"
)


class Caller:
    """Speaks SIP by hand: over connections that it opens and closes, and at its port 5070."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[str] = asyncio.Queue()
        self._to = ""

    async def __aenter__(self) -> Caller:
        self._server = await asyncio.start_server(self._accept, CALLER, 5070)
        self._reader, self._writer = await asyncio.open_connection(PHONE, 5060)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while message := await self._read(reader):
            self.accepted.put_nowait(message)
            if message.startswith("SIP/2.0 200"):
                self._writer = writer
            if message.startswith("BYE"):
                kept = [
                    line
                    for line in message.split("\r\n")
                    if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))
                ]
                ok = "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""])
                writer.write(ok.encode())

    async def _read(self, reader: asyncio.StreamReader) -> str:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""
        length = int(head.lower().partition("content-length:")[2].split()[0])
        return head + (await reader.readexactly(length)).decode()

    async def read(self, status: int) -> str:
        """The response of that status, at the connection that it has opened."""
        while not (message := await self._read(self._reader)).startswith(f"SIP/2.0 {status}"):
            assert message, f"closed before {status} came"
        return message

    def send(
        self, method: str, *lines: str, to: str = "<sip:desk@10.0.0.1>", body: str = ""
    ) -> None:
        text = [
            f"{method} sip:desk@{PHONE} SIP/2.0",
            f"Via: SIP/2.0/TCP {CALLER}:5070;branch=z9hG4bK{method}",
            "Max-Forwards: 70", f"From: <sip:caller@{CALLER}>;tag=theirs", f"To: {to}",
            "Call-ID: 1@caller", f"CSeq: 1 {method}", *lines, f"Content-Length: {len(body)}", "",
        ]  # fmt: skip
        self._writer.write(("\r\n".join(text) + "\r\n" + body).encode())

    def invite(self) -> None:
        contact = f"Contact: <sip:caller@{CALLER}:5070;transport=tcp>"
        self.send("INVITE", contact, "Content-Type: application/sdp", body=OFFER)

    def acknowledge(self, answer: str) -> None:
        assert answer.startswith("SIP/2.0 200")
        self.send("ACK", to=answer.partition("To: ")[2].partition("\r\n")[0])

    async def leave(self) -> None:
        """Close the connection, and let the phone notice."""
        self._writer.close()
        await asyncio.sleep(1)


def scene(main: Callable[[asyncio.Queue[Call], Caller], Any]) -> None:
    world = World(3, path=Path(delay_s=0.02))
    desk, far = world.host(PHONE), world.host(CALLER)

    async def whole() -> None:
        calls: asyncio.Queue[Call] = asyncio.Queue()

        async def taken(call: Call) -> None:
            calls.put_nowait(call)
            await call.wait_ended()

        phone = Softphone(
            network=NetworkConfig(bind_host=PHONE, bind_port=5060),
            media=MediaConfig(elsewhere=Address(PHONE, 40000)),
        )
        phone.on_incoming(taken)
        async with phone:
            with far.here():
                caller = Caller()
                await far.run(within(caller, calls))

    async def within(caller: Caller, calls: asyncio.Queue[Call]) -> None:
        async with caller:
            await main(calls, caller)

    world.run(desk.run(whole()))


@pytest.mark.rfc("3261", "18.2.2")
def test_an_answer_whose_connection_is_gone_goes_to_where_the_via_says() -> None:
    async def main(calls: asyncio.Queue[Call], caller: Caller) -> None:
        caller.invite()
        call = await calls.get()
        await caller.leave()
        answering = asyncio.ensure_future(call.answer())
        answer = await caller.accepted.get()
        while answer.startswith("SIP/2.0 1"):
            answer = await caller.accepted.get()
        caller.acknowledge(answer)
        await answering
        await call.hangup()
        assert call.ended is not None
        assert call.ended.status == 200

    scene(main)


@pytest.mark.rfc("3261", "12.2.1.1")
def test_a_call_whose_connection_is_gone_is_hung_up_where_the_contact_says() -> None:
    async def main(calls: asyncio.Queue[Call], caller: Caller) -> None:
        caller.invite()
        call = await calls.get()
        answering = asyncio.ensure_future(call.answer())
        answer = await caller.read(200)
        caller.acknowledge(answer)
        await answering
        await caller.leave()
        await call.hangup()
        assert call.ended is not None
        assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, 200)
        bye = caller.accepted.get_nowait()
        assert bye.startswith(f"BYE sip:caller@{CALLER}:5070;transport=tcp ")
        assert "Via: SIP/2.0/TCP" in bye

    scene(main)
