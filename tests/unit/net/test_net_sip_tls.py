"""SIP over TLS: who is believed, who is refused and why, judged by OpenSSL's programs too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from callers import until
from certificates import Authority
from sip_station import HOST, Names, Station, message

from voip.config import TlsConfig
from voip.errors import ConfigError, TransportError
from voip.sip.endpoint.tls import identities
from voip.sip.flow import Flow

pytestmark = pytest.mark.rfc("5922", "7")

OK = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"

Stations = Callable[..., Awaitable[Station]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def station() -> AsyncIterator[Stations]:
    """Make stations; one with a certificate listens for TLS."""
    async with AsyncExitStack() as stack:

        async def make(host: str | None = HOST, **tls: object) -> Station:
            config = TlsConfig(**{k: v if v is True else str(v) for k, v in tls.items()})
            one = Station(Names(), tls=config)
            stack.push_async_callback(one.transport.close)
            streams = {"tls": 0} if config.certificate else {}
            await one.transport.start(host, streams=streams)
            return one

        yield make


async def test_F134_messages_go_both_ways_over_one_verified_connection(
    station: Stations, authority: Authority
) -> None:
    callee = await station(certificate=authority.issue("pbx.example"))
    caller = await station(ca_file=authority.file)
    callee.agent.answer = lambda data, flow: OK
    flow = await caller.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    assert (flow.domain, flow.secure, flow.reliable) == ("pbx.example", True, True)
    caller.say(message("sip:a@b", "hello"), flow)
    await until(lambda: caller.agent.received)
    assert caller.agent.received == [(OK, flow)]
    data, back = callee.agent.received[0]
    assert data == message("sip:a@b", "hello")
    assert (back.transport, back.domain, back.local) == ("tls", "", callee.at("tls"))
    assert await caller.transport.flow_to("PBX.example", callee.at("tls").port, "tls") != flow
    assert await caller.transport.flow_to("pbx.example", callee.at("tls").port, "tls") == flow
    streams = caller.transport._streams
    assert streams is not None and streams.count == 2


@pytest.mark.parametrize("transport", ["tls", "wss"])
async def test_F134_ipv6_has_tls_too(authority: Authority, transport: str) -> None:
    certificate = str(authority.issue("::1"))
    callee = Station(tls=TlsConfig(certificate=certificate))
    caller = Station(tls=TlsConfig(ca_file=str(authority.file)))
    await callee.transport.start("::1", streams={transport: 0})
    await caller.transport.start("::1")
    flow = await caller.transport.flow_to("[::1]", callee.at(transport).port, transport)
    assert (flow.domain, flow.remote.host) == ("::1", "::1")
    caller.say(message("sip:x"), flow)
    await until(lambda: callee.agent.received)
    await caller.transport.close()
    await callee.transport.close()


@pytest.mark.parametrize(
    ("names", "domain"),
    [
        (["pbx.example"], "pbx.example"),
        (["PBX.Example"], "pbx.example"),
        (["pbx.example"], "PBX.EXAMPLE."),
        (["sip:pbx.example"], "pbx.example"),
        (["sip:pbx.example", "sip:other.example"], "other.example"),
        (["im:nobody.example", "pbx.example"], "pbx.example"),
        (["sip:alice@a.example", "pbx.example"], "pbx.example"),  # a person, no domain
        ([HOST], HOST),
    ],
)
async def test_F134_a_certificate_for_the_domain_is_believed(
    station: Stations, authority: Authority, names: list[str], domain: str
) -> None:
    callee = await station(certificate=authority.issue(*names))
    caller = await station(ca_file=authority.file)
    flow = await caller.transport.flow_to(domain, callee.at("tls").port, "tls")
    caller.say(message("sip:x"), flow)
    await until(lambda: callee.agent.received)


@pytest.mark.parametrize(
    ("names", "domain", "words"),
    [
        (["other.example"], "pbx.example", "is for other.example, not for pbx.example"),
        (["pbx.example"], "sub.pbx.example", "is for pbx.example, not for sub.pbx.example"),
        (["*.example"], "pbx.example", "is for *.example, not for pbx.example (wildcards and"),
        (["sip:other.example", "pbx.example"], "pbx.example", "is for other.example, not for"),
        (["sips:pbx.example"], "pbx.example", "for no SIP domain at all"),
        (["sip:alice@pbx.example"], "pbx.example", "for no SIP domain at all"),
        ([], "pbx.example", "for no SIP domain at all, not for pbx.example (wildcards and common"),
        (["pbx.example"], HOST, f"is for pbx.example, not for {HOST}"),
        (["127.0.0.9"], HOST, f"is for 127.0.0.9, not for {HOST}"),
    ],
)
async def test_F134_a_certificate_for_somebody_else_is_refused_by_name(
    station: Stations, authority: Authority, names: list[str], domain: str, words: str
) -> None:
    callee = await station(certificate=authority.issue(*names, common_name="pbx.example"))
    caller = await station(ca_file=authority.file)
    with pytest.raises(TransportError) as caught:
        await caller.transport.flow_to(domain, callee.at("tls").port, "tls")
    assert words in str(caught.value)
    # ... nor is anything sent by a route that leads there
    flow = Flow("tls", caller.at("tcp"), callee.at("tls"), domain)
    caller.say(message("sip:secret"), flow)
    await until(lambda: caller.agent.failed)
    assert words in f"{caller.agent.failed[0][1]} (wildcards and common"
    assert callee.agent.received == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"until_days": -0.5}, "the certificate of pbx.example at {0} has expired"),
        ({"since_days": 1}, "the certificate of pbx.example at {0} is not valid yet"),
        ({"self_signed": True}, "the certificate of pbx.example at {0} is self-signed"),
    ],
)
async def test_F134_a_certificate_that_proves_nothing_is_refused_and_says_which(
    station: Stations, authority: Authority, how: dict[str, float], words: str
) -> None:
    certificate = authority.issue("pbx.example", **how)  # type: ignore[arg-type]
    callee = await station(certificate=certificate)
    caller = await station(ca_file=authority.file)
    with pytest.raises(TransportError) as caught:
        await caller.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    assert caught.value.message == words.format(callee.at("tls"))
    assert caught.value.hint


async def test_F134_verification_is_on_unless_somebody_turns_it_off(
    station: Stations, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    callee = await station(certificate=authority.issue("other.example", until_days=-0.5))
    trusting_nobody_special = await station()
    with pytest.raises(TransportError, match=r"authority that is not trusted here \(name the"):
        await trusting_nobody_special.transport.flow_to(HOST, callee.at("tls").port, "tls")
    careless = await station(insecure=True)
    flow = await careless.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    careless.say(message("sip:x"), flow)
    await until(lambda: callee.agent.received)
    assert "certificates are not checked" in caplog.text


async def test_F134_callers_can_be_asked_for_their_certificate(
    station: Stations, authority: Authority
) -> None:
    callee = await station(
        certificate=authority.issue("pbx.example"),
        ca_file=authority.file,
        client_certificates=True,
    )
    known = await station(certificate=authority.issue("alice.example"), ca_file=authority.file)
    flow = await known.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    known.say(message("sip:x"), flow)
    await until(lambda: callee.agent.received)
    unknown = await station(ca_file=authority.file)
    # with TLS 1.3 the refusal comes after the handshake, from asyncio without a word
    flow = await unknown.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    unknown.say(message("sip:y"), flow)
    await until(lambda: unknown.agent.failed)
    assert "it may want a certificate of ours" in unknown.agent.failed[0][1]
    assert len(callee.agent.received) == 1


async def test_F134_a_connection_that_is_lost_is_opened_again_for_the_same_domain(
    station: Stations, authority: Authority
) -> None:
    callee = await station(certificate=authority.issue("pbx.example"))
    caller = await station(ca_file=authority.file)
    flow = await caller.transport.flow_to("pbx.example", callee.at("tls").port, "tls")
    assert callee.transport._streams is not None
    await until(lambda: callee.transport._streams.count)  # type: ignore[union-attr]
    for connection in tuple(callee.transport._streams._open):
        connection.abort()
    await until(lambda: caller.agent.failed)
    caller.say(message("sip:x"), flow)
    await until(lambda: callee.agent.received)
    # what they opened, they have to open again: nobody knows whose certificate that would be
    back = callee.agent.received[0][1]
    for connection in tuple(callee.transport._streams._open):
        connection.abort()
    await until(lambda: not callee.transport._streams.count)  # type: ignore[union-attr]
    callee.agent.failed.clear()
    callee.say(message("sip:back"), back)
    await until(lambda: callee.agent.failed)
    assert "nobody can tell whose certificate" in callee.agent.failed[-1][1]


async def test_tls_and_what_is_not_tls_part_with_words(
    station: Stations, authority: Authority
) -> None:
    callee = await station(certificate=authority.issue("pbx.example"))
    caller = await station(ca_file=authority.file)
    with pytest.raises(TransportError, match=r"ended the TLS handshake \(does it speak TLS"):
        await caller.transport.flow_to("pbx.example", callee.at("tcp").port, "tls")
    flow = await caller.transport.flow_to("pbx.example", callee.at("tls").port, "tcp")
    caller.say(message("sip:x"), flow)
    await until(lambda: caller.agent.failed)
    assert callee.agent.received == []


async def test_files_that_are_no_certificates_are_named(
    station: Stations, authority: Authority, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"no certificate with its key .*garbage\.pem"):
        await station(certificate=garbage)
    with pytest.raises(ConfigError, match=r"certificate with its key .*Laboratory\.pem"):
        await station(certificate=authority.file)  # without a key
    with pytest.raises(ConfigError, match="nowhere has no certificate of an authority: No such"):
        one = await station(ca_file="/nowhere")
        await one.transport.flow_to("pbx.example", 9, "tls")
    with pytest.raises(ConfigError, match="ca_file or insecure"):
        TlsConfig(ca_file="x", insecure=True)


def test_F134_identities_are_uris_then_names_and_never_the_common_name() -> None:
    def of(*names: tuple[str, str]) -> list[str]:
        subject = ((("commonName", "cn.example"),),)
        return identities({"subject": subject, "subjectAltName": names})

    assert of() == identities({}) == []
    assert of(("DNS", "A.example"), ("DNS", "b.example.")) == ["a.example", "b.example"]
    assert of(("URI", "SIP:A.example"), ("DNS", "b.example")) == ["a.example"]
    assert of(("URI", "sip:a.example:5061;transport=tls"), ("URI", "http://b")) == ["a.example"]
    assert of(("URI", "sip:u@a.example"), ("URI", "sip:"), ("DNS", "b")) == ["b"]
    assert of(("IP Address", "2001:DB8:0:0:0:0:0:1"), ("email", "x@y")) == ["2001:db8::1"]


# ---------------------------------------------------------------- judged by OpenSSL's programs


async def test_openssl_s_client_verifies_us_and_is_answered(
    station: Stations, authority: Authority
) -> None:
    callee = await station(certificate=authority.issue("pbx.example"))
    callee.agent.answer = lambda data, flow: OK
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", str(callee.at("tls")), "-servername", "pbx.example"),
        *("-CAfile", str(authority.file), "-verify_hostname", "pbx.example"),
        *("-verify_return_error", "-brief", "-ign_eof"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(message("sip:a@b"))
    async with asyncio.timeout(20):
        assert await process.stdout.readuntil(b"\r\n\r\n") == OK
    assert callee.agent.received[0][0] == message("sip:a@b")
    process.terminate()
    _, told = await process.communicate()
    assert b"Verification: OK" in told and b"Verified peername: pbx.example" in told
    assert b"TLSv1.3" in told


class OpensslServer:
    """`openssl s_server`, started for a test."""

    def __init__(self, port: int, process: asyncio.subprocess.Process) -> None:
        self.port = port
        assert process.stdin is not None and process.stdout is not None
        self.stdin, self.stdout = process.stdin, process.stdout

    async def called_by(self, caller: Station, domain: str = "pbx.example") -> Flow:
        """Return the flow there, once it listens."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await caller.transport.flow_to(domain, self.port, "tls")
                except TransportError as error:
                    if "nobody listens" not in str(error):
                        raise
                    await asyncio.sleep(0.01)
        raise AssertionError


@pytest.fixture
async def s_server(authority: Authority) -> AsyncIterator[Callable[..., Awaitable[OpensslServer]]]:
    async with AsyncExitStack() as stack:

        async def start(*options: str) -> OpensslServer:
            with closing(socket.create_server((HOST, 0))) as free:
                port = free.getsockname()[1]
            certificate = str(authority.issue("pbx.example"))
            process = await asyncio.create_subprocess_exec(
                *("openssl", "s_server", "-accept", f"{HOST}:{port}", "-quiet", *options),
                *("-cert", certificate, "-key", certificate, "-CAfile", str(authority.file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            stack.push_async_callback(process.communicate)
            stack.callback(process.terminate)
            return OpensslServer(port, process)

        yield start


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_s_server_is_verified_by_us(
    station: Stations, authority: Authority, s_server: Callable[..., Awaitable[OpensslServer]],
    version: str,
) -> None:  # fmt: skip
    server = await s_server(version)
    caller = await station(ca_file=authority.file)
    flow = await server.called_by(caller)
    caller.say(message("sip:a@b"), flow)
    async with asyncio.timeout(20):
        assert await server.stdout.readuntil(b"\r\n\r\n") == message("sip:a@b")
    server.stdin.write(OK)
    await until(lambda: caller.agent.received)
    assert caller.agent.received == [(OK, flow)]
    assert caller.transport._streams is not None
    await caller.transport.close()
    other = await station(ca_file=authority.file)
    with pytest.raises(TransportError, match=r"is for pbx\.example, not for other\.example"):
        await server.called_by(other, "other.example")


async def test_openssl_s_server_tells_us_that_it_wants_a_certificate(
    station: Stations, authority: Authority, s_server: Callable[..., Awaitable[OpensslServer]]
) -> None:
    server = await s_server("-Verify", "2", "-verify_return_error", "-tls1_3")
    caller = await station(ca_file=authority.file)
    flow = await server.called_by(caller)
    caller.say(message("sip:a@b"), flow)
    await until(lambda: caller.agent.failed)
    assert caller.agent.failed[0][1].endswith("alert certificate required")
    known = await station(ca_file=authority.file, certificate=authority.issue("alice.example"))
    known.say(message("sip:a@b"), await server.called_by(known))
    async with asyncio.timeout(20):
        assert await server.stdout.readuntil(b"\r\n\r\n") == message("sip:a@b")
