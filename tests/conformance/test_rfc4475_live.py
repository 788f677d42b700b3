"""The torture messages of RFC 4475, sent over UDP to a phone that is up.

It answers with the status the table beside the reference data asks for, or drops the message, and
goes on. The sender has an address of its own on loopback, and listens at every port that the
messages want their answers at.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from test_rfc4475 import Torture, allowed, registrar_status

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import SipError
from voip.phone import Softphone
from voip.sip.check import accepts_answer
from voip.sip.message import Request, Response, parse_message
from voip.sip.server_request import ServerRequest
from voip.types import Address

pytestmark = [pytest.mark.reference, pytest.mark.rfc("4475", "3")]

PORTS: Final = (5050, 5060, 5070)
SILENT: Final = {"badinv01": "no Via can be read: nobody knows the way back"}


class Sender:
    """Sends from one socket; hears answers at all ports."""

    def __init__(self, port: int) -> None:
        number = os.getpid()
        self.host = f"127.{100 + number % 100}.{number >> 8 & 255}.{1 + number % 250}"
        self.to = ("127.0.0.1", port)
        self.socks = [self._socket(at) for at in (0, *PORTS)]
        self._probes = 0

    def _socket(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.host, port))
        sock.setblocking(False)
        return sock

    def send(self, data: bytes) -> None:
        self.socks[0].sendto(data, self.to)

    def heard(self) -> Iterator[Response]:
        for sock in self.socks:
            while True:
                try:
                    answer = parse_message(sock.recv(65536))
                except BlockingIOError:
                    break
                assert isinstance(answer, Response)
                yield answer

    async def answers(self, data: bytes) -> list[int]:
        """Return the statuses of what comes back before the answer to a question put after it.

        Two questions: what a task of the phone says comes after the first one's answer.
        """
        self.send(data)
        statuses = []
        for _ in range(2):
            self._probes += 1
            probe = f"probe-{self._probes}"
            self.send(
                f"OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {self.host};branch="
                f"z9hG4bK{probe};rport\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n"
                f"Call-ID: {probe}\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n".encode()
            )
            async with asyncio.timeout(20):
                alive = False
                while not alive:
                    await asyncio.sleep(0.001)
                    for answer in self.heard():
                        if answer.headers.get("Call-ID") == probe:
                            assert answer.status == 200
                            alive = True
                        else:
                            statuses.append(answer.status)
        return statuses

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


@pytest.fixture
def torture(reference_data: Path) -> Torture:
    return Torture(reference_data / "sip-torture-rfc4475")


async def test_a_live_phone_answers_each_message_as_the_table_says(torture: Torture) -> None:
    def register(request: ServerRequest) -> None:
        status = registrar_status(request.request)
        request.reply(status, now=asyncio.get_running_loop().time())

    wrong, answered, dropped = [], 0, []
    async with Softphone(
        network=NetworkConfig(bind_host="127.0.0.1", stranger_rate=None),
        media=MediaConfig(elsewhere=Address("192.0.2.7", 40000)),
        requests={"REGISTER": register, "MESSAGE": register},
    ) as phone:

        @phone.on_incoming
        async def ring(call: Call) -> None:
            request = call._session.invite_request
            assert request is not None
            if not accepts_answer(request):
                await call.reject(406)
            else:
                await call.ring()
                await call.wait_ended()

        sender = Sender(phone.port)
        try:
            for row in torture.rows:
                name = row["file"].removesuffix(".dat")
                data = torture.data(name)
                statuses = await sender.answers(data)
                if not statuses:
                    dropped.append(name)
                    if _is_request(data) and name not in SILENT:
                        wrong.append(f"{name}: silence, not {row['short']}")
                    continue
                answered += 1
                if str(statuses[0]) not in allowed(row["short"]):
                    wrong.append(f"{name}: {statuses}, not {row['short']}")
            assert sorted({name for name in dropped if _is_request(torture.data(name))}) == [
                *SILENT
            ]
        finally:
            sender.close()
    assert wrong == []
    assert answered + len(dropped) == len(torture.rows) == 49
    assert answered >= 40


def _is_request(data: bytes) -> bool:
    try:
        return isinstance(parse_message(data), Request)
    except SipError as error:
        return error.status is not None
