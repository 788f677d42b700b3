"""A silent server is left for Kamailio, the second address of its domain (RFC 3263 section 4.3).

The domain has two SRV records: behind the first is a UDP port that reads and says nothing, or one
that hands on to Kamailio until it falls silent; behind the second is Kamailio itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from callers import answering
from direct import Ladder
from dns_server import DnsServer
from peers.kamailio import Kamailio
from phones import JITTER_MS, ended, until

from voip.config import MediaConfig, NetworkConfig
from voip.desk import TransferRequest, WatchRequest
from voip.errors import CallError
from voip.events import CallState, EndedBy, MessageReceived
from voip.phone import Softphone
from voip.sip.server_request import ServerRequest

pytestmark = [pytest.mark.rfc("3263", "4.3")]

DOMAIN = "voip.test"


class Front(asyncio.DatagramProtocol):
    """The first address of the domain: it counts what it reads, and hands it on while it may."""

    def __init__(self, behind: tuple[str, int] | None = None) -> None:
        self.behind = behind
        self.read: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._back: dict[tuple[str, int], asyncio.DatagramTransport] = {}

    async def __aenter__(self) -> Front:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._front.close()
        for transport in self._back.values():
            transport.close()
        await asyncio.sleep(0)

    @property
    def port(self) -> int:
        return int(self._front.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.read.append(data.partition(b" ")[0].decode())
        if self.behind is not None:
            task = asyncio.ensure_future(self._hand_on(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _hand_on(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self._back:
            front, outer = self._front, addr

            class Back(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                    front.sendto(data, outer)

            loop = asyncio.get_running_loop()
            self._back[addr], _ = await loop.create_datagram_endpoint(
                Back, remote_addr=self.behind, family=socket.AF_INET
            )
        self._back[addr].sendto(data)


@asynccontextmanager
async def domain(kamailio: Kamailio, front: Front) -> AsyncIterator[str]:
    """The DNS of the domain; yields the address of its server."""
    async with DnsServer(
        f"_sip._udp.{DOMAIN}. 60 IN SRV 1 0 {front.port} a.{DOMAIN}.",
        f"_sip._udp.{DOMAIN}. 60 IN SRV 2 0 {kamailio.port} b.{DOMAIN}.",
        f"a.{DOMAIN}. 60 IN A 127.0.0.1",
        f"b.{DOMAIN}. 60 IN A 127.0.0.1",
    ) as server:
        yield server.address


def phone(
    kamailio: Kamailio, user: str, dns: str, artifacts: Path, **settings: object
) -> Softphone:
    return Softphone(
        f"sip:{user}@{DOMAIN}",
        password=kamailio.password(user),
        network=NetworkConfig(bind_host="127.0.0.1", dns_servers=(dns,)),
        media=MediaConfig(jitter_min_ms=JITTER_MS, jitter_policy="fixed"),
        pcap=artifacts / f"{user}.pcap",
        trace=Ladder(artifacts / f"{user}.sip"),
        **settings,  # type: ignore[arg-type]
    )


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_F009_F133_all_that_a_phone_asks_for_reaches_the_server_that_answers(
    kamailio: Kamailio, artifacts: Path
) -> None:
    published: list[str] = []

    def publish(request: ServerRequest) -> None:
        published.append(request.request.body.decode())
        request.reply(200, headers=[("SIP-ETag", "1"), ("Expires", "300")], now=now())

    async with (
        Front() as front,
        domain(kamailio, front) as dns,
        phone(kamailio, "2002", dns, artifacts, requests={"PUBLISH": publish}) as bob,
    ):
        assert front.read.count("REGISTER") >= 3  # Timer E: 0, 0.5, 1.5, 3.5 s
        assert len(kamailio.contacts("2002")) == 1

        @bob.on_watch
        def watched(request: WatchRequest) -> bool:
            return True

        @bob.on_transfer
        def referred(request: TransferRequest) -> bool:
            return False

        answered = answering(bob)
        front.read.clear()

        async def caller(user: str) -> Softphone:
            """A phone to which both addresses are new."""
            alice = phone(kamailio, user, dns, artifacts, register=False)
            await alice.start()
            return alice

        callers = [await caller(user) for user in ("2001", "2003", "2004")]
        more = [await caller("2001") for _ in range(2)]
        calling, starting, watching = callers
        publishing, texting = more
        began = now()
        call, begun, watch, state, _ = await asyncio.gather(
            calling.dial("2002"),
            starting.dial("2002", wait="started"),
            watching.watch("2002", "dialog"),
            publishing.publish("presence", b"in", "text/plain", target=f"sip:2002@{DOMAIN}"),
            texting.message("2002", "hello"),
        )
        took = now() - began
        assert 3.9 < took < 12.0  # four seconds of silence, and what a busy machine takes
        await begun.wait_answered(10)
        incoming = [await answered.get() for _ in range(2)]
        assert {one.state for one in (*incoming, call, begun)} == {CallState.ACTIVE}
        assert published == ["in"]
        assert watch.latest is not None
        texts = [one.text for one in list(bob._events) if isinstance(one, MessageReceived)]
        assert texts == ["hello"]
        for method in ("INVITE", "SUBSCRIBE", "PUBLISH", "MESSAGE"):
            assert front.read.count(method) >= 3, (method, front.read)
        front.read.clear()
        with pytest.raises(CallError, match="603"):
            await texting.refer("2002", f"sip:2001@{DOMAIN}")
        assert front.read == []  # it is left alone for a while
        await call.hangup()
        await begun.hangup()
        for one in incoming:
            assert (await ended(one)).by is EndedBy.REMOTE
        await watch.close()
        await state.close()
        assert published == ["in", ""]
        for one in (*callers, *more):
            await one.close()


async def test_F133_a_refer_leaves_the_silent_server_too(
    kamailio: Kamailio, artifacts: Path
) -> None:
    async with (
        Front() as front,
        domain(kamailio, front) as dns,
        phone(kamailio, "2002", dns, artifacts) as bob,
        phone(kamailio, "2001", dns, artifacts, register=False) as alice,
    ):
        asked: list[str] = []

        @bob.on_transfer
        def referred(request: TransferRequest) -> bool:
            asked.append(request.target)
            return False

        with pytest.raises(CallError, match="603"):
            await alice.refer("2002", f"sip:2003@{DOMAIN}")
        assert asked == [f"sip:2003@{DOMAIN}"]
        assert front.read.count("REFER") >= 3


async def test_F133_a_call_goes_on_by_the_second_address_of_the_name_in_its_route(
    kamailio: Kamailio, artifacts: Path
) -> None:
    async with (
        Front((kamailio.host, kamailio.port)) as front,
        domain(kamailio, front) as dns,
        phone(kamailio, "2002", dns, artifacts) as bob,
        phone(kamailio, "2001", dns, artifacts, register=False) as alice,
    ):
        answered = answering(bob)
        call = await alice.dial("2002")
        incoming = await answered.get()
        await until(lambda: "ACK" in front.read, "the ACK to pass")
        dialog = call._session.dialog
        assert dialog is not None and dialog.flow.remote.port == front.port
        assert DOMAIN in dialog.route_set[0]
        front.behind = None  # it reads, and says nothing any more
        began = now()
        await call.hold()
        assert 3.9 < now() - began < 12.0
        assert dialog.flow.remote.port == kamailio.port
        assert incoming.state is CallState.HELD
        read = len(front.read)
        await call.resume()
        assert incoming.state is CallState.ACTIVE
        await call.hangup()
        assert (await ended(incoming)).by is EndedBy.REMOTE
        late = [method for method in front.read[read:] if method != "INVITE"]
        assert late in ([], ["CANCEL"])  # only what was left is repeated there
