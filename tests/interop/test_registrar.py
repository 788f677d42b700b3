"""What our registrar and proxy grant to other people's phones: names, paths, flows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from peers.baresip import Baresip
from peers.kamailio import Kamailio
from peers.pjsua import Pjsua
from test_embedded_pbx import require_tone

from voip.config import NetworkConfig
from voip.phone import Softphone
from voip.proxy import SipProxy
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.registrar import RegistrarConfig
from voip.sip.via import Via

StartBaresip = Callable[..., Awaitable[Baresip]]
StartPjsua = Callable[..., Awaitable[Pjsua]]
USERS = {"1001": "secret1001", "1002": "secret1002"}


class Seen:
    """What a proxy sent and received, as messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[bool, Request | Response]] = []

    def __call__(self, record: SipTraceRecord) -> None:
        self.messages.append((record.sent, parse_message(record.data)))

    def requests(self, method: str, *, sent: bool) -> list[Request]:
        return [
            message
            for was_sent, message in self.messages
            if was_sent is sent and isinstance(message, Request) and message.method == method
        ]

    def granted(self, user: str) -> list[tuple[str, str]]:
        """Return the names (public, temporary) of each 200 to a REGISTER of a user's."""
        return [
            (contact.param("pub-gruu") or "", contact.param("temp-gruu") or "")
            for sent, message in self.messages
            if sent and isinstance(message, Response) and message.cseq.method == "REGISTER"
            if message.status == 200 and message.to.sip_uri.user == user
            for contact in message.contacts
        ]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def proxy(seen: Seen) -> AsyncIterator[SipProxy]:
    async with SipProxy(USERS, trace=seen) as proxy:
        yield proxy


def account(proxy: SipProxy, user: str) -> dict[str, str]:
    return {"user": user, "registrar": proxy.address, "password": USERS[user]}


def outbound(proxy: SipProxy, *transports: str) -> dict[str, object]:
    """Have baresip register a flow by each of these transports (RFC 5626), as itself (RFC 5627)."""
    ways = [
        f'outbound{number}="sip:{proxy.address};transport={transport}"'
        for number, transport in enumerate(transports, 1)
    ]
    return {"modules": ["uuid"], "account": ";".join(["sipnat=outbound", *ways])}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("kind", ["public", "temporary"])
async def test_F112_baresip_is_given_names_and_called_by_them(
    proxy: SipProxy, seen: Seen, baresip: StartBaresip, kind: str, transport: str
) -> None:
    """Two phones of one user: the one that is named rings, and the call goes on by its name."""
    alice = await baresip(**account(proxy, "1001"), **outbound(proxy, transport), tone_hz=700)
    await alice.registered()
    public, temporary = seen.granted("1001")[-1]
    assert public.startswith(f"sip:1001@{proxy.address};gr=urn:uuid:")
    assert temporary.startswith("sip:tgruu.")
    other = await baresip(**account(proxy, "1001"))
    await other.registered()
    bob = await baresip(**account(proxy, "1002"), tone_hz=1004)
    await bob.registered()

    await bob.dial(public if kind == "public" else temporary)
    await alice.incoming()
    await alice.accept()
    await bob.established()
    await alice.established()
    await asyncio.sleep(2.2)
    await bob.hangup()
    await alice.closed()

    assert {bye.uri for bye in seen.requests("BYE", sent=False)} == {public}  # what it says it is
    assert not [event for event in other.events if event.kind.startswith("CALL_")]
    require_tone((await alice.recording()).received, 1004)
    require_tone((await bob.recording()).received, 700)


async def test_F111_flows_of_baresip_are_kept_beside_each_other_and_lead_back_to_it(
    proxy: SipProxy, seen: Seen, baresip: StartBaresip
) -> None:
    """It registers by two ways, and rings once."""
    alice = await baresip(**account(proxy, "1001"), **outbound(proxy, "udp", "tcp"))
    await alice.registered()
    await alice.registered()
    flows = proxy.location.bindings("1001", proxy.now())
    ways = [(one.reg_id, one.flow and one.flow.transport) for one in flows]
    assert sorted(ways) == [(1, "udp"), (2, "tcp")]
    assert len({one.instance for one in flows}) == 1
    answers = [m for sent, m in seen.messages if sent and isinstance(m, Response)]
    assert [m.headers.get("Require") for m in answers if m.status == 200] == ["outbound"] * 2
    bob = await baresip(**account(proxy, "1002"))
    await bob.registered()
    await bob.dial(f"sip:1001@{proxy.address}")
    await alice.incoming()
    await alice.accept()
    await bob.established()
    assert len(seen.requests("INVITE", sent=True)) == 1
    await bob.hangup()
    await alice.closed()


async def test_F111_pjsip_registers_a_flow_and_is_called_by_it_and_by_its_instance(
    proxy: SipProxy, seen: Seen, pjsua: StartPjsua, baresip: StartBaresip
) -> None:
    """It knows outbound (over TCP) and no GRUU: whoever knows its instance can name it still."""
    bob = await pjsua(**account(proxy, "1002"), transport="tcp")
    await bob.registered()
    (flow,) = proxy.location.bindings("1002", proxy.now())
    assert (flow.reg_id, flow.flow and flow.flow.transport) == (1, "tcp")
    assert flow.instance is not None
    alice = await baresip(**account(proxy, "1001"))
    await alice.registered()
    for name in ("", f";gr={flow.instance.strip('<>')}"):
        await alice.dial(f"sip:1002@{proxy.address}{name}")
        call = await bob.incoming()
        await bob.answer(call)
        await alice.established()
        await bob.established(call)
        await bob.hangup(call)
        await alice.closed()
    await alice.dial(f"sip:1002@{proxy.address};gr=urn:uuid:another")
    assert "480" in (await alice.closed()).param


async def test_F007_F113_baresip_behind_kamailio_is_called_by_the_path_it_has_registered_by(
    proxy: SipProxy, seen: Seen, baresip: StartBaresip, kamailio: Kamailio
) -> None:
    """Kamailio is the edge, our registrar keeps the Path and our proxy goes by it."""
    edge = f"sip:{kamailio.address};lr"
    alice = await baresip(**account(proxy, "1001"), account=f'outbound="{edge}"', tone_hz=700)
    await alice.registered()
    (binding,) = proxy.location.bindings("1001", proxy.now())
    assert binding.flow is None
    (path,) = (NameAddr.parse(value).sip_uri for value in binding.path)
    assert (path.host, path.port, path.is_loose_router) == (kamailio.host, kamailio.port, True)
    bob = await baresip(**account(proxy, "1002"), tone_hz=1004)
    await bob.registered()

    await bob.dial(f"sip:1001@{proxy.address}")
    event = await alice.incoming()
    assert "1002" in event.peer_uri
    await alice.accept()
    await bob.established()
    await alice.established()
    await asyncio.sleep(2.2)
    await alice.hangup()
    await bob.closed()

    (invite,) = seen.requests("INVITE", sent=True)
    assert invite.headers.values("Route") == list(binding.path)
    answers = [m for sent, m in seen.messages if isinstance(m, Response) and not sent]
    ways = [m.headers.values("Record-Route") for m in answers if m.cseq.method == "INVITE"]
    assert all(kamailio.address in way[0] for way in ways if way)
    require_tone((await alice.recording()).received, 1004)
    require_tone((await bob.recording()).received, 700)


async def test_F007_F114_our_phone_calls_by_kamailio_where_our_registrar_says_so(
    seen: Seen, baresip: StartBaresip, kamailio: Kamailio
) -> None:
    route = f"<sip:{kamailio.address};lr>"
    config = RegistrarConfig(service_route=(route,))
    async with SipProxy(USERS, registrar=config, trace=seen) as proxy:
        bob = await baresip(**account(proxy, "1002"), answer="auto")
        await bob.registered()
        async with Softphone(
            f"sip:1001@{proxy.address}",
            password=USERS["1001"],
            network=NetworkConfig(bind_host="127.0.0.1", bind_port=0),
        ) as alice:
            call = await alice.dial("1002")
            await call.hangup()
            await bob.closed()
    invites = seen.requests("INVITE", sent=False)
    assert invites
    for invite in invites:
        hops = [Via.parse(value) for value in invite.headers.values("Via")]
        assert (hops[0].host, hops[0].port) == (kamailio.host, kamailio.port)
        assert len(hops) == 2


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_F113_baresip_is_called_at_kamailio_by_the_flow_that_our_edge_keeps(
    seen: Seen, baresip: StartBaresip, kamailio: Kamailio, transport: str
) -> None:
    """The other way round: Kamailio has the users and keeps our Path, we keep the flow."""
    async with SipProxy({}, edge_of=f"sip:{kamailio.address}", trace=seen) as edge:
        way = outbound(edge, transport)  # without `Supported: path` Kamailio wants none (420)
        users = {
            user: {
                "user": user,
                "registrar": kamailio.address,
                "password": kamailio.password(user),
            }
            for user in ("2001", "2002")
        }
        alice = await baresip(**users["2001"], **way, tone_hz=700)
        bob = await baresip(**users["2002"], tone_hz=1004)
        await alice.registered()
        await bob.registered()

        await bob.dial(kamailio.uri("2001"))
        await alice.incoming()
        await alice.accept()
        await bob.established()
        await alice.established()
        await asyncio.sleep(2.2)
        await bob.hangup()
        await alice.closed()
        require_tone((await alice.recording()).received, 1004)
        require_tone((await bob.recording()).received, 700)

        await alice.dial(kamailio.uri("2002"))
        await bob.incoming()
        await bob.accept()
        await alice.established()
        await bob.hangup()
        await alice.closed()
    (called,) = [
        one for one in seen.requests("INVITE", sent=False) if len(one.headers.values("Via")) == 2
    ][:1]
    (route,) = (NameAddr.parse(value).sip_uri for value in called.headers.values("Route"))
    assert (route.host, route.port, route.param("ob")) == ("127.0.0.1", edge.port, "")
    assert seen.requests("BYE", sent=False)
