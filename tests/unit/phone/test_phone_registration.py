"""A phone that stays registered: renewals, lost connections, refusals, the end.

On real sockets where no time passes, in a simulated world (`virtually`) where it does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from callers import until

from voip.config import NetworkConfig
from voip.errors import (
    AuthenticationError,
    ConfigError,
    RegistrationError,
    TransportError,
    VoipError,
)
from voip.events import Registered, RegistrationFailed, Unregistered
from voip.phone import Softphone
from voip.sim import World
from voip.sip.server_request import ServerRequest

HERE = NetworkConfig(bind_host="127.0.0.1")
OVER_TCP = NetworkConfig(bind_host="127.0.0.1", transport="tcp")


class Desk:
    """A registrar that grants what it is told to, and remembers who asked."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.asked: list[ServerRequest] = []
        self.expires = 300
        self.refusal: int | None = None
        self.answers = True
        self.more: list[tuple[str, str]] = []
        self.contact_more = ""
        self.after: Callable[[], None] = lambda: None
        self.phone = Softphone(
            network=NetworkConfig(bind_host=host, bind_port=port),
            requests={"REGISTER": self._register},
        )

    def _register(self, request: ServerRequest) -> None:
        self.asked.append(request)
        if not self.answers:
            return
        now = self.phone._transport.now()
        contact = request.request.headers.get("Contact")
        if request.request.headers.get("Expires") == "0":
            request.reply(200, now=now)
        elif self.refusal is not None:
            request.reply(self.refusal, now=now)
        else:
            granted = [("Contact", f"{contact};expires={self.expires}{self.contact_more}")]
            request.reply(200, headers=granted + self.more, now=now)
        asyncio.get_running_loop().call_soon(self.after)

    def hang_up(self) -> None:
        """Close every TCP connection, as a server that is started anew."""
        for connection in tuple(self.phone._transport._streams._open):
            connection.finish()

    @property
    def uri(self) -> str:
        return f"sip:alice@127.0.0.1:{self.phone.port}"

    def asked_for(self) -> list[str]:
        return [one.request.headers.get("Expires") for one in self.asked]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with desk.phone:
        yield desk


def phone(desk: Desk, **settings: object) -> Softphone:
    settings.setdefault("network", HERE)
    return Softphone(desk.uri, **settings)  # type: ignore[arg-type]


def virtually(story: Callable[[Desk], Awaitable[None]]) -> Callable[[], None]:
    """Let a test run on a host of a simulated world, where nothing waits, with a desk there."""

    async def main() -> None:
        desk = Desk()
        async with desk.phone:
            await story(desk)

    def test() -> None:
        world = World()
        world.run(main(), on=world.host("192.0.2.1"))

    return test


# ---------------------------------------------------------------- staying registered


async def test_events_come_in_order_and_the_last_is_heard_though_the_phone_closes(desk):
    alice = phone(desk)
    told: list[object] = []

    async def listen() -> None:
        async for event in alice.events():
            told.append(event)
            await asyncio.sleep(0)

    listening = asyncio.create_task(listen())
    async with alice:
        assert alice.registered
        await alice.register()
        await alice.unregister()
        assert not alice.registered
        await alice.register()
    await listening
    assert [type(event) for event in told] == [
        Registered, Registered, Unregistered, Registered, Unregistered
    ]  # fmt: skip
    assert desk.asked_for() == ["300", "300", "0", "300", "0"]
    assert [event async for event in alice.events()] == told


@virtually
async def test_a_binding_of_a_second_is_renewed_in_time_and_a_later_refusal_is_told(desk):
    desk.expires = 1
    async with phone(desk, expires_s=30) as alice:
        await until(lambda: len(desk.asked) == 3)
        desk.refusal = 403
        await until(lambda: not alice.registered)
        failed = list(alice._events)[-1]
        assert isinstance(failed, RegistrationFailed)
        assert (failed.status, failed.retry_in_s) == (403, None)
        desk.refusal = None
        await alice.register()
        assert alice.registered


@virtually
async def test_a_refusal_that_may_pass_says_when_it_is_tried_again(desk):
    desk.expires = 1
    async with phone(desk) as alice:
        desk.refusal = 503
        await until(lambda: not alice.registered)
        failed = list(alice._events)[-1]
        assert isinstance(failed, RegistrationFailed)
        assert failed.status == 503
        assert 15 <= failed.retry_in_s <= 60


async def test_a_connection_that_is_lost_is_replaced_at_once(desk):
    async with phone(desk, network=OVER_TCP) as alice:
        desk.hang_up()
        await until(lambda: len(desk.asked) == 2)
        await until(lambda: list(alice._events)[1:] == [Registered(300.0)])
        assert desk.phone._transport._streams.count == 1
        contacts = {one.request.headers.get("Contact") for one in desk.asked}
        assert contacts == {f"<sip:alice@127.0.0.1:{alice.port};transport=tcp>"}


@virtually
async def test_F111_a_connection_that_dies_in_silence_is_replaced(desk):
    desk.more = [("Require", "outbound")]
    async with phone(desk, network=OVER_TCP) as alice:
        (connection,) = desk.phone._transport._streams._open
        connection._send = lambda data: None
        await until(lambda: len(desk.asked) == 2, 131)  # a ping, and 10 s for its answer
        await until(lambda: list(alice._events)[1:] == [Registered(300.0)])
        assert alice.registered
        assert len(alice._transport._keeper) == 1
        await alice.unregister()
        assert len(alice._transport._keeper) == 0


@virtually
async def test_F111_a_flow_that_nobody_answers_for_is_kept_and_not_judged(desk):
    desk.expires = 3600
    async with phone(desk, network=OVER_TCP) as alice:
        (connection,) = desk.phone._transport._streams._open
        asked = []
        connection._send = lambda data: asked.append(data)
        await asyncio.sleep(610)
        assert 5 <= len(asked) <= 6  # one in 96 to 120 s
        assert (len(desk.asked), alice.registered) == (1, True)
    async with phone(desk) as alice:  # UDP without a NAT needs nothing
        assert len(alice._transport._keeper) == 0


@virtually
async def test_a_registrar_that_closes_after_every_answer_is_not_asked_for_ever(desk):
    desk.after = desk.hang_up
    async with phone(desk, network=OVER_TCP) as alice:
        await until(lambda: len(desk.asked) == 2 and not desk.phone._transport._streams.count)
        await asyncio.sleep(50)
        assert len(desk.asked) == 2
        assert alice.registered


async def test_a_registrar_that_is_started_anew_is_told_again():
    desk = Desk()
    await desk.phone.start()
    port = desk.phone.port
    async with phone(desk, network=OVER_TCP) as alice:
        await desk.phone.close()
        await until(lambda: not alice.registered)
        failed = list(alice._events)[-1]
        assert isinstance(failed, RegistrationFailed)
        assert "nobody listens" in failed.reason
        assert failed.retry_in_s is not None
        anew = Desk(port=port)
        async with anew.phone:
            await alice.register()
            assert alice.registered
            await alice.unregister()


async def test_a_renewal_goes_where_the_name_leads_by_then():
    here = Desk()
    async with here.phone:
        there = Desk("127.0.0.2", here.phone.port)
        async with there.phone:
            where = ["127.0.0.1"]

            async def look_up(name: str) -> list[str]:
                return list(where)

            here.expires = 1
            alice = Softphone(
                f"sip:alice@registrar.example:{here.phone.port}",
                register=False,
                network=NetworkConfig("127.0.0.1"),
            )
            async with alice:
                alice._transport._network.addresses = look_up
                await alice.register()
                where[0] = "127.0.0.2"
                await until(lambda: there.asked)
                await until(lambda: len(alice._events) == 2)


async def test_a_transport_named_by_the_address_is_taken(desk):
    async with Softphone(f"{desk.uri};transport=tcp", network=HERE) as alice:
        assert desk.asked[0].flow.transport == "tcp"
        assert alice.registered


# ---------------------------------------------------------------- asked by several


async def test_two_that_register_at_once_make_one_binding(desk):
    async with phone(desk, register=False) as alice:
        granted = await asyncio.gather(alice.register(), alice.register())
        assert granted == [Registered(300.0)] * 2
        assert len({one.request.call_id for one in desk.asked}) == 1


async def test_unregistering_while_registering_ends_both(desk):
    desk.answers = False
    async with phone(desk, register=False) as alice:
        registering = asyncio.create_task(alice.register())
        await until(lambda: desk.asked)
        unregistering = asyncio.create_task(alice.unregister())
        await asyncio.sleep(0)
        desk.answers = True
        desk.asked[0].reply(200, now=desk.phone._transport.now())
        desk.phone._transport.flush()
        await unregistering
        assert registering.done()
        assert desk.asked_for()[-1] == "0"


async def test_thousands_of_renewals_later_events_are_still_told(desk):
    async with phone(desk) as alice:
        for _ in range(3000):
            alice._tell(Registered(300.0))
        alice._tell(RegistrationFailed("gone", 403))
    last = [event async for event in alice.events()][-2:]
    assert last == [RegistrationFailed("gone", 403), Unregistered()]


# ---------------------------------------------------------------- what goes wrong


async def test_a_registrar_that_refuses_keeps_the_phone_from_starting(desk):
    desk.refusal = 403
    alice = phone(desk)
    with pytest.raises(RegistrationError, match="403"):
        await alice.start()
    with pytest.raises(ConfigError):
        await alice.start()
    with pytest.raises(RegistrationError, match="closed"):
        await alice.register()
    await alice.close()


async def test_a_wrong_password_is_told_and_not_tried_again():
    def challenge(request: ServerRequest) -> None:
        asked.append(request)
        header = ("WWW-Authenticate", 'Digest realm="pbx", nonce="abc", qop="auth"')
        request.reply(401, headers=[header], now=desk._transport.now())

    asked: list[ServerRequest] = []
    async with Softphone(network=HERE, requests={"REGISTER": challenge}) as desk:
        alice = Softphone(f"sip:alice@127.0.0.1:{desk.port}", password="no", network=HERE)
        with pytest.raises(AuthenticationError, match="401 twice: wrong password for alice@"):
            await alice.start()
        assert len(asked) == 2


@virtually
async def test_a_registrar_that_is_gone_is_not_waited_for_for_ever(desk):
    alice = phone(desk)
    await alice.start()
    desk.answers = False
    with pytest.raises(RegistrationError, match="not agreed to unregister"):
        await alice.unregister()
    async with asyncio.timeout(5):
        await alice.close()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_closing_ends_a_start_that_waits_for_the_registrar(transport, monkeypatch):
    monkeypatch.setattr("voip.registration.GOODBYE_S", 0.1)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as full,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
    ):
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        deaf.bind(("127.0.0.1", port))
        queue = [socket.socket() for _ in range(3)]  # nobody accepts: the next one waits
        for one in queue:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        alice = Softphone(
            f"sip:alice@127.0.0.1:{port}", network=NetworkConfig("127.0.0.1", transport=transport)
        )
        starting = asyncio.create_task(alice.start())
        await until(lambda: alice._open and (alice._transport._streams is not None))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await alice.close()
            with pytest.raises((RegistrationError, TransportError)):
                await starting
        for one in queue:
            one.close()


async def test_registering_is_refused_where_there_is_nothing_to_register(desk):
    async with Softphone(network=HERE) as nobody:
        with pytest.raises(ConfigError, match="nothing to register"):
            await nobody.register()
    alice = phone(desk)
    for use in (alice.register, alice.unregister):
        with pytest.raises(VoipError, match="not started"):
            await use()
    assert not alice.registered
    await alice.start()
    await alice.close()
    with pytest.raises(RegistrationError, match="closed"):
        await alice.register()
    assert not alice.registered
