"""Streams between simulated hosts: asyncio's servers, clients and TLS, with delay and resets."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath

import pytest
from certificates import Authority

from voip.sim import Host, NatType, Path, World

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DELAY = 0.05


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every line in capitals."""
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


def two_hosts(path: Path | None = None, version: int = 4) -> tuple[World, Host, Host]:
    world = World(1, path=path or Path(delay_s=DELAY))
    names = {4: ("10.0.0.1", "10.0.0.2"), 6: ("2001:db8::1", "2001:db8::2")}[version]
    world.dns.add("shout.example", names[1])
    return world, world.host(names[0]), world.host(names[1])


async def serve(host: Host, handler: Handler = shout, **settings: object) -> asyncio.Server:
    with host.here():
        return await asyncio.start_server(handler, host.address, 7000, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_and_an_answer_take_a_round_trip_each(version: int) -> None:
    world, client, server = two_hosts(version=version)

    async def main() -> None:
        listening = await serve(server)
        assert listening.sockets[0].getsockname()[:2] == (server.address, 7000)
        reader, writer = await asyncio.open_connection("shout.example", 7000)
        assert world.elapsed == pytest.approx(2 * DELAY)
        assert writer.get_extra_info("peername")[:2] == (server.address, 7000)
        assert writer.get_extra_info("sockname")[0] == client.address
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert world.elapsed == pytest.approx(4 * DELAY)
        writer.close()
        await writer.wait_closed()
        listening.close()
        await listening.wait_closed()

    world.run(main(), on=client)


def test_what_is_written_arrives_whole_and_in_order_over_a_path_that_loses_a_fifth() -> None:
    path = Path(delay_s=DELAY, loss=0.2, jitter_s=0.1, reorder=0.1, duplicate=0.1)
    world, client, server = two_hosts(path)
    sent = b"".join(f"line {number}\n".encode() * 30 for number in range(2000))
    taken = bytearray()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            taken.extend(data)
        writer.write(b"thank you")
        writer.close()

    async def main() -> None:
        await serve(server, swallow)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        for start in range(0, len(sent), 10_000):
            writer.write(sent[start : start + 10_000])
            await writer.drain()
        writer.write_eof()
        assert await reader.read() == b"thank you"
        writer.close()

    world.run(main(), on=client)
    assert bytes(taken) == sent
    assert len(sent) > 400_000


def test_a_peer_that_does_not_read_makes_the_writer_wait() -> None:
    world, client, server = two_hosts()
    written = 0

    async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(100)
        assert written < 1_000_000
        total = 0
        while data := await reader.read(65536):
            total += len(data)
        writer.write(str(total).encode())
        writer.close()

    async def main() -> None:
        nonlocal written
        await serve(server, sleepy)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        for _ in range(200):
            writer.write(bytes(10_000))
            await writer.drain()
            written += 10_000
        assert world.elapsed > 100
        writer.write_eof()
        assert await reader.read() == b"2000000"
        writer.close()

    world.run(main(), on=client)


def test_a_port_where_nobody_listens_refuses_and_a_host_that_is_not_there_is_not_reached() -> None:
    world, client, server = two_hosts()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.address, 7000)
        assert world.elapsed == pytest.approx(2 * DELAY)
        with pytest.raises(OSError, match="route") as told:
            await asyncio.open_connection("10.9.9.9", 7000)
        assert told.value.errno == errno.EHOSTUNREACH

    world.run(main(), on=client)


def test_connecting_over_a_cut_is_tried_again_and_given_up_in_the_end() -> None:
    world, client, server = two_hosts()

    async def main() -> None:
        await serve(server)
        world.cut(client, server, 10)
        _, writer = await asyncio.open_connection(server.address, 7000)
        writer.close()
        assert 10 < world.elapsed < 20  # at the next of 1, 3, 7, 15 ... s
        world.cut(client, server)
        began = world.elapsed
        with pytest.raises(TimeoutError):
            await asyncio.open_connection(server.address, 7000)
        assert 120 < world.elapsed - began < 260

    world.run(main(), on=client)


def test_a_cut_delays_what_is_written_and_a_long_one_breaks_the_connection() -> None:
    world, client, server = two_hosts()

    async def main() -> None:
        await serve(server)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        world.cut(client, server, 30)
        writer.write(b"one\n")
        writer.write(b"two\n")
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        assert 30 < world.elapsed < 60
        world.cut(client, server)
        began = world.elapsed
        writer.write(b"three\n")
        with pytest.raises(TimeoutError):
            await reader.readline()
        assert 900 < world.elapsed - began < 1200

    world.run(main(), on=client)


def test_a_reset_breaks_both_sides_at_once() -> None:
    world, client, server = two_hosts()
    told: list[type[BaseException]] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
        except ConnectionResetError as error:
            told.append(type(error))

    async def main() -> None:
        await serve(server, listen)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        await asyncio.sleep(1)
        assert world.reset(client, server) == 1
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        await asyncio.sleep(0)
        assert told == [ConnectionResetError]
        assert world.reset(client) == 0
        writer.close()

    world.run(main(), on=client)


def test_whoever_aborts_resets_the_other_side_a_delay_later() -> None:
    world, client, server = two_hosts()

    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def main() -> None:
        await serve(server, rude)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        assert world.elapsed == pytest.approx(4 * DELAY)
        writer.close()

    world.run(main(), on=client)


def test_a_client_behind_a_nat_is_seen_by_its_address_and_nobody_connects_to_it() -> None:
    world = World(1, path=Path(delay_s=DELAY))
    nat = world.nat("9.9.9.9", NatType.FULL_CONE)
    client, server = world.host("192.168.1.2", behind=nat), world.host("10.0.0.2")
    seen: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await shout(reader, writer)

    async def main() -> None:
        await serve(server, note)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        writer.write(b"hello\n")
        assert await reader.readline() == b"HELLO\n"
        assert seen == [nat.address]
        writer.close()
        with server.here(), pytest.raises(TimeoutError):
            await asyncio.open_connection(nat.address, 7000)

    world.run(main(), on=client)


def test_closing_a_server_leaves_connections_and_lets_its_port_be_bound_again() -> None:
    world, client, server = two_hosts()

    async def main() -> None:
        listening = await serve(server)
        with pytest.raises(OSError, match="in use"):
            await serve(server)
        reader, writer = await asyncio.open_connection(server.address, 7000)
        listening.close()
        await (await serve(server)).start_serving()
        writer.write(b"still there\n")
        assert await reader.readline() == b"STILL THERE\n"
        writer.close()

    world.run(main(), on=client)


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def contexts(authority: Authority, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(authority.issue(name))
    return theirs, ssl.create_default_context(cafile=authority.file)


def test_tls_is_asyncio_s_own_over_a_path_that_loses(authority: Authority) -> None:
    world, client, server = two_hosts(Path(delay_s=DELAY, loss=0.1))
    theirs, ours = contexts(authority, "shout.example")

    async def main() -> None:
        await serve(server, ssl=theirs)
        reader, writer = await asyncio.open_connection("shout.example", 7000, ssl=ours)
        writer.write(b"secret\n" * 5000)
        for _ in range(5000):
            assert await reader.readline() == b"SECRET\n"
        assert writer.get_extra_info("cipher") is not None
        writer.close()
        await writer.wait_closed()

    world.run(main(), on=client)


def test_a_certificate_of_somebody_else_is_refused(authority: Authority) -> None:
    world, client, server = two_hosts()
    theirs, ours = contexts(authority, "whisper.example")

    async def main() -> None:
        await serve(server, ssl=theirs)
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("shout.example", 7000, ssl=ours)

    world.run(main(), on=client)


def test_a_connection_goes_over_to_tls(authority: Authority) -> None:
    world, client, server = two_hosts()
    theirs, ours = contexts(authority, "shout.example")

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"GO\n")
        await writer.start_tls(theirs)
        await shout(reader, writer)

    async def main() -> None:
        await serve(server, upgrade)
        reader, writer = await asyncio.open_connection("shout.example", 7000)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"GO\n"
        await writer.start_tls(ours, server_hostname="shout.example")
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        writer.close()

    world.run(main(), on=client)


def test_nothing_readable_of_tls_is_in_the_capture(
    authority: Authority, tmp_path: FilePath
) -> None:
    world, client, server = two_hosts()
    theirs, ours = contexts(authority, "shout.example")
    world.capture(tmp_path / "all.pcap")

    async def main() -> None:
        with server.here():
            await asyncio.start_server(shout, server.address, 7001)
        await serve(server, ssl=theirs)
        for port, context in ((7000, ours), (7001, None)):
            reader, writer = await asyncio.open_connection("shout.example", port, ssl=context)
            writer.write(f"said at {port}\n".encode())
            await reader.readline()
            writer.close()

    world.run(main(), on=client)
    captured = (tmp_path / "all.pcap").read_bytes()
    assert b"said at 7001" in captured
    assert b"SAID AT 7001" in captured
    assert b"7000" not in captured
