"""SIPVicious, the scanner that everybody's PBX meets: it learns no more than the RFCs demand."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from peers.installed import installed

from voip import NetworkConfig, Softphone
from voip.call import Call
from voip.config import MediaConfig
from voip.harness.pbx import EmbeddedPbx
from voip.sip.message import Response, parse_message
from voip.types import Address

MEDIA = MediaConfig(elsewhere=Address("192.0.2.7", 40000))
PBX, PHONE = "127.0.0.2", "127.0.0.3"
"""The scanner is at 127.0.0.1, as it cannot be told otherwise: where nobody is known."""
NUMBERS = "1001,1002,990-999,1003-1009"
PATIENCE_S = 60.0

Scan = Callable[..., "asyncio.Future[str]"]


@pytest.fixture
def scan(artifacts: Path, missing: Callable[[str], NoReturn]) -> Callable[..., object]:
    """Run one of the three programs; return what it says when it ends, or after `seconds`."""
    programs = installed().sipvicious or missing("SIPVicious is not installed (make peers)")
    paths = {program.name: program for program in programs}

    async def run(name: str, *arguments: str, seconds: float = PATIENCE_S) -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            str(paths[name]),
            *("-P", str(port), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOME": str(artifacts)},
            cwd=artifacts,
        )
        talk = asyncio.ensure_future(process.communicate())
        done, _ = await asyncio.wait([talk], timeout=seconds)
        if not done:
            process.kill()
        output = (await talk)[0].decode(errors="replace")
        (artifacts / f"{name}.log").write_text(output)
        return output

    return run


@asynccontextmanager
async def registered(*, proxy: bool = False) -> AsyncIterator[tuple[EmbeddedPbx, Softphone]]:
    """The PBX, by itself or behind our proxy, and a phone that is registered there as 1001."""
    async with EmbeddedPbx(PBX, media=MEDIA, proxy=proxy) as pbx:
        phone = Softphone(
            pbx.uri("1001"),
            password=pbx.password("1001"),
            network=NetworkConfig(bind_host=PHONE),
            media=MEDIA,
        )

        @phone.on_incoming
        async def ring(call: Call) -> None:
            await call.ring()
            await call.wait_ended()

        async with phone:
            yield pbx, phone


async def test_svmap_finds_what_answers_options_and_no_more(scan) -> None:
    async with registered() as (pbx, phone):
        for host, port in ((PBX, pbx.port), (PHONE, phone.port)):
            found = await scan("svmap", "-p", str(port), host)
            assert f"{host}:{port}" in found
        assert pbx.calls() == 0 and phone.calls == []


@pytest.mark.parametrize(
    ("method", "proxy"),
    [
        *itertools.product(["REGISTER", "INVITE", "OPTIONS"], [False, True]),
        ("SUBSCRIBE", True),
    ],
)
async def test_svwar_finds_no_user(scan, method: str, proxy: bool) -> None:
    async with registered(proxy=proxy) as (pbx, phone):
        for host, port in ((PBX, pbx.port), (PHONE, phone.port)):
            found = await scan(
                *("svwar", "-p", str(port), "-e", NUMBERS, "-m", method, "--force"),
                *("--maximumtime=5", host),
            )
            assert "found nothing" in found, found
            assert not re.search(r"^\| *1001", found, re.MULTILINE), found
        assert pbx.calls() == 0 and phone.calls == []


@pytest.mark.parametrize("proxy", [False, True])
async def test_svcrack_is_held_back_and_does_not_find_the_password(
    scan, artifacts: Path, proxy: bool
) -> None:
    """It sends thousands of passwords in seconds; a handful is heard, and the right one is late."""
    words = [f"guess{number}" for number in range(2000)] + ["secret1001"]
    (artifacts / "words.txt").write_text("\n".join(words) + "\n")
    async with EmbeddedPbx(PBX, media=MEDIA, proxy=proxy) as pbx:
        found = await scan(
            *("svcrack", "-p", str(pbx.port), "-u", "1001", "-d", "words.txt", PBX), seconds=8.0
        )
        agent = pbx._phone._agent if pbx.proxy is None else pbx.proxy.agent
        counters = agent.counters
        assert counters.flooded > 100
        assert "secret1001" not in found
        assert pbx.contacts("1001") == []


# What SIPVicious would compare, compared by ourselves to the letter.


def _message(method: str, user: str, port: int, host: str, here: Address, serial: int) -> bytes:
    return (
        f"{method} sip:{user}@{host}:{port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{serial};rport\r\nMax-Forwards: 70\r\n"
        f"From: <sip:{user}@{host}:{port}>;tag=t{serial}\r\nTo: <sip:{user}@{host}:{port}>\r\n"
        f"Call-ID: c{serial}\r\nCSeq: 1 {method}\r\nContact: <sip:x@{here}>\r\n"
        "Event: presence\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


async def _answer(sock: socket.socket, data: bytes, to: Address) -> tuple[object, ...]:
    """Return what an answer says, without what is new in each."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        await loop.sock_sendto(sock, data, to)
        while True:
            answer = parse_message(await loop.sock_recv(sock, 65536))
            assert isinstance(answer, Response)
            if answer.call_id == parse_message(data).call_id and answer.status >= 200:
                break
    new = ("via", "from", "to", "call-id")
    lines = [(name, value) for name, value in answer.headers if name.lower() not in new]
    nonce = re.compile(r'nonce="[^"]*"')
    return answer.status, tuple((name, nonce.sub("nonce", value)) for name, value in lines)


@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "PUBLISH"])
async def test_who_there_is_and_who_is_not_are_answered_alike(method: str, proxy: bool) -> None:
    async with EmbeddedPbx(PBX, media=MEDIA, proxy=proxy) as pbx:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind(("127.0.0.9", 0))
            here, to = Address(*sock.getsockname()), Address(PBX, pbx.port)
            answers = {
                user: await _answer(sock, _message(method, user, pbx.port, PBX, here, n), to)
                for n, user in enumerate(("1001", "1002", "1003", "nobody", "600"))
            }
    assert len(answers) == 5
    assert len(set(answers.values())) == 1, answers
