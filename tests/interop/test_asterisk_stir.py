"""Signed callers (RFC 8224, RFC 8588): Asterisk verifies what we sign, and we what it signs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import NoReturn

import pytest
from certificates import Authority
from peers.asterisk import Asterisk
from phones import softphone

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState
from voip.sip.passport import Attestation, Who
from voip.sip.stir import Signer, Verifier

ALICE, BOB = "+12155550121", "+12155550131"
ORIGID = "123e4567-e89b-12d3-a456-426655440000"
KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----.*", re.DOTALL)
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)


def certificate_of(file: Path) -> bytes:
    found = CERTIFICATE.search(file.read_bytes())
    assert found is not None
    return found[0]


def key_of(file: Path) -> bytes:
    found = KEY.search(file.read_bytes())
    assert found is not None
    return found[0]


@asynccontextmanager
async def published(certificate: bytes) -> AsyncIterator[str]:
    """Where Asterisk finds a certificate: its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-pem-file\r\nConnection: close\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(certificate) + certificate)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ours.pem"


@pytest.fixture
def signs(asterisk: Asterisk, missing: Callable[[str], NoReturn]) -> Asterisk:
    """An Asterisk that knows signed callers. It compares who calls, not whom."""
    if "Running" not in asterisk.cli("module show like res_pjsip_stir_shaken.so"):
        missing("this Asterisk knows no signed callers")
    return asterisk


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("signed", 200),
        ("not signed", 428),
        ("for another caller", 438),
        ("changed", 438),
        ("an hour ago", 403),
        ("by whom nobody trusts", 437),
    ],
)
async def test_F131_asterisk_lets_in_whom_we_sign_for(
    signs: Asterisk, artifacts: Path, what: str, status: int
) -> None:
    providers = signs.providers
    if what == "by whom nobody trusts":
        providers = Authority(artifacts, "Others")
    ours = providers.issue(common_name="SHAKEN 5678", provider="5678")
    wall = time.time() - 3600 * (what == "an hour ago")
    async with published(certificate_of(ours)) as url, softphone(signs, ALICE, artifacts) as phone:
        identity = Signer(key_of(ours), url).identity(
            BOB if what == "for another caller" else ALICE, "600",
            wall=wall, attest=Attestation.FULL, origid=ORIGID,
        )  # fmt: skip
        if what == "changed":
            token, semicolon, params = identity.partition(";")
            signature = token.rpartition(".")[2]
            identity = token.removesuffix(signature) + signature[::-1] + semicolon + params
        headers = {"Date": formatdate(time.time(), usegmt=True)}
        if what != "not signed":
            headers["Identity"] = identity
        if status == 200:
            async with await phone.dial("600", headers=headers) as call:
                assert call.state is CallState.ACTIVE
            return
        with pytest.raises(CallError) as refused:
            await phone.dial("600", headers=headers)
        assert refused.value.status == status


async def test_F131_what_asterisk_signs_we_take(signs: Asterisk, artifacts: Path) -> None:
    """Of two phones behind it one calls the other, which believes the signature."""
    chain = certificate_of(signs.signing)
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return chain

    trusted = certificate_of(signs.providers.file)
    calls: asyncio.Queue[Call] = asyncio.Queue()
    ours = signs.providers.issue(common_name="SHAKEN 5678", provider="5678")
    async with (
        published(certificate_of(ours)) as url,
        softphone(signs, ALICE, artifacts) as alice,
        softphone(signs, BOB, artifacts, register=True) as bob,
    ):

        @bob.on_incoming
        async def take(call: Call) -> None:
            calls.put_nowait(call)
            await call.answer()
            await call.wait_ended()

        identity = Signer(key_of(ours), url).identity(
            ALICE, BOB, wall=time.time(), attest=Attestation.FULL, origid=ORIGID
        )
        headers = {"Date": formatdate(time.time(), usegmt=True), "Identity": identity}
        async with await alice.dial(BOB, headers=headers):
            call = await calls.get()
            judged = Verifier(trusted, fetch).verify(call.headers, time.time())
            assert judged.valid, judged
            assert judged.passport is not None
            assert judged.passport.orig == Who("tn", ALICE[1:])
            assert judged.attest is Attestation.FULL
            assert asked == ["https://cert.example.org/asterisk.pem"]
            later = Verifier(trusted, fetch).verify(call.headers, time.time() + 3600)
            assert later.status == 403
            others = Authority(artifacts, "Others").file.read_bytes()
            assert Verifier(others, fetch).verify(call.headers, time.time()).status == 437
