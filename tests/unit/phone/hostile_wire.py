"""Bob, who has a call with Alice, and a wire beside it that says whatever it is told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from loopback_phones import tone, uri

from voip.call import Call
from voip.config import NetworkConfig
from voip.events import CallState
from voip.phone import Softphone
from voip.sip.message import Request, Response, parse_message

HERE = NetworkConfig(bind_host="127.0.0.1", stranger_rate=None)
SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\n"
)


class Wire:
    """A UDP socket that says whatever it is told to, to one phone."""

    def __init__(self, phone: Softphone) -> None:
        self.phone = phone
        self.to = ("127.0.0.1", phone.port)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port = self.sock.getsockname()[1]
        self._serial = 0

    def message(
        self,
        method: str,
        *,
        to_tag: str = "",
        from_tag: str = "wire",
        call_id: str | None = None,
        cseq: int = 1,
        body: str = "",
        more: str = "",
        via: str | None = None,
    ) -> bytes:
        self._serial += 1
        via = via or f"SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{self._serial};rport"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"{method} sip:bob@127.0.0.1:{self.phone.port} SIP/2.0\r\nVia: {via}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:wire@127.0.0.1>;tag={from_tag}\r\n"
            f"To: <sip:bob@127.0.0.1>{';tag=' + to_tag if to_tag else ''}\r\n"
            f"Call-ID: {call_id or f'call-{self._serial}'}\r\nCSeq: {cseq} {method}\r\n"
            f"Contact: <sip:wire@127.0.0.1:{self.port}>\r\n{kind}{more}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, self.to)

    def heard(self) -> list[Response | Request]:
        messages = []
        while True:
            try:
                messages.append(parse_message(self.sock.recv(65536)))
            except BlockingIOError:
                return messages

    async def ask(self, data: bytes, *, status: range = range(200, 700)) -> Response:
        """Send, repeat as long as nothing comes, and return the answer to it."""
        wanted = parse_message(data)
        async with asyncio.timeout(20):
            while True:
                self.send(data)
                for _ in range(25):
                    await asyncio.sleep(0.02)
                    for answer in self.heard():
                        if isinstance(answer, Response) and answer.status in status:
                            names = ("Call-ID", "CSeq")
                            if all(answer.headers.get(n) == wanted.headers.get(n) for n in names):
                                return answer

    def close(self) -> None:
        self.sock.close()


class Scene:
    """Bob, whom the wire bothers, and Alice, who has a call with him that goes on."""

    def __init__(self, bob: Softphone, alice: Softphone, call: Call, theirs: Call) -> None:
        self.bob, self.alice, self.call, self.theirs = bob, alice, call, theirs
        self.wire = Wire(bob)

    async def assert_unharmed(self) -> None:
        answer = await self.wire.ask(self.wire.message("OPTIONS"))
        assert answer.status == 200, answer
        assert self.call.state is self.theirs.state is CallState.ACTIVE, self.call
        async with self.call.audio() as heard, asyncio.timeout(10):  # or it is not heard any more
            await heard.read(0.1)  # what may have come before
            while np.abs(await heard.read(0.02)).max() < 4000:
                pass


@asynccontextmanager
async def bothered() -> AsyncIterator[Scene]:
    """Bob, who rings when the wire calls him and plays a tone to Alice, who hears it."""
    answered: asyncio.Queue[Call] = asyncio.Queue()
    async with Softphone(network=HERE) as bob, Softphone(network=HERE) as alice:

        @bob.on_incoming
        async def take(call: Call) -> None:
            if "wire" in call.remote:
                await call.ring()
                await call.wait_ended()
                return
            await call.answer()
            answered.put_nowait(call)
            await call.play(tone(1.0), loop=True)

        scene = Scene(bob, alice, await alice.dial(uri(bob)), await answered.get())
        await scene.assert_unharmed()
        yield scene
        scene.wire.close()
