"""Flows between our own agents, proxy and registrar in a simulated world, with loss and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path as FilePath
from typing import Any

import pytest
from certificates import Authority

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.errors import RegistrationError, VoipError
from voip.events import CallState, EarlyMedia
from voip.proxy import SipProxy
from voip.sim import Host, Path, World
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.digest import Credentials
from voip.sip.endpoint.endpoint import SipEndpoint
from voip.sip.endpoint.trace import SipTraceRecord
from voip.sip.events import InviteFailed, RequestDone, RequestFailed, SipEvent
from voip.sip.message import Request, Response, parse_message
from voip.types import Address, SeededRandom

SERVER = "10.0.0.9"
PASSWORDS = {"alice": "wonderland", "bob": "builder"}
AOR = f"sip:alice@{SERVER}"

lossy = pytest.mark.parametrize("loss", [0.0, 0.2], ids=["no loss", "20% loss"])


class Scene:
    """A proxy that is registrar too, and hosts for phones; `seen` has what the phones exchanged."""

    def __init__(self, loss: float, **proxy: Any) -> None:
        self.loss = loss
        self.world = World(7, path=Path(delay_s=0.02, jitter_s=0.01, loss=loss))
        self.server = self.world.host(SERVER)
        self.alice, self.bob = self.world.host("10.0.0.1"), self.world.host("10.0.0.2")
        self.seen: list[Request | Response] = []
        self.proxy: SipProxy
        self._proxy = proxy

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            with self.server.here():
                self.proxy = SipProxy(PASSWORDS, SERVER, 5060, **self._proxy)
                await self.proxy.__aenter__()
            await self.alice.run(main())
            await self.proxy.__aexit__()

        self.world.run(whole())

    def trace(self, record: SipTraceRecord) -> None:
        with suppress(VoipError):
            self.seen.append(parse_message(record.data))

    def statuses(self, method: str) -> list[int]:
        """The final responses that were seen, repetitions left out."""
        found = {
            (message.cseq.number, message.status): None
            for message in self.seen
            if isinstance(message, Response) and message.cseq.method == method
        }
        return [status for _, status in found if status >= 200]

    def phone(self, name: str, host: Host, **more: Any) -> Softphone:
        more.setdefault("media", MediaConfig(elsewhere=Address(host.address, 40000)))
        more.setdefault("network", NetworkConfig(bind_host=host.address, bind_port=5060))
        more.setdefault("password", PASSWORDS[name])
        return Softphone(f"sip:{name}@{SERVER}", trace=self.trace, **more)

    async def answering(self, **more: Any) -> tuple[Softphone, asyncio.Queue[Call]]:
        """Bob, who answers whatever comes and stays in it."""
        calls: asyncio.Queue[Call] = asyncio.Queue()
        with self.bob.here():
            bob = self.phone("bob", self.bob, **more)

            @bob.on_incoming
            async def taken(call: Call) -> None:
                await call.answer()
                calls.put_nowait(call)
                await call.wait_ended()

            await bob.start()
        return bob, calls

    def contacts(self, user: str) -> list[str]:
        return [one.contact.uri for one in self.proxy.location.bindings(user, self.proxy.now())]


class Stranger:
    """A bare agent that sends REGISTERs and INVITEs of any kind, with Alice's password."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._agent = SipAgent(AgentConfig(), SeededRandom(5))
        self._done: asyncio.Queue[RequestDone | RequestFailed | InviteFailed] = asyncio.Queue()
        platform = scene.alice.platform
        self._endpoint: SipEndpoint[SipEvent] = SipEndpoint(
            self._agent, self._on_event, platform.sip_network(), random=platform.random()
        )
        self._cseq = 1

    async def __aenter__(self) -> Stranger:
        await self._endpoint.start("10.0.0.1", 5070)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.close()

    def _on_event(self, event: SipEvent) -> None:
        if isinstance(event, RequestDone | RequestFailed | InviteFailed):
            self._done.put_nowait(event)

    async def register(self, *headers: tuple[str, str], password: str = "wonderland") -> Response:
        self._agent.request(
            "REGISTER",
            f"sip:{SERVER}",
            flow=await self._endpoint.flow_to(SERVER, 5060),
            from_=f"<{AOR}>",
            to=f"<{AOR}>",
            call_id="register",
            cseq=self._cseq,
            headers=headers,
            credentials=Credentials("alice", password),
            now=self._endpoint.now(),
        )
        self._endpoint.flush()
        self._cseq += 3
        return await self._outcome()

    async def invite(self, uri: str, *headers: tuple[str, str]) -> Response:
        """Return how an INVITE was refused."""
        self._agent.invite(
            uri,
            flow=await self._endpoint.flow_to(SERVER, 5060),
            from_=f"<{AOR}>",
            to=f"<{uri}>",
            contact="<sip:alice@10.0.0.1:5070>",
            headers=headers,
            credentials=Credentials("alice", "wonderland"),
            now=self._endpoint.now(),
        )
        self._endpoint.flush()
        return await self._outcome()

    async def _outcome(self) -> Response:
        outcome = await self._done.get()
        assert outcome.response is not None
        return outcome.response


def told(response: Response) -> set[str]:
    return {contact.uri for contact in response.contacts}


# ---------------------------------------------------------------- registering (RFC 3665 section 2)


@lossy
def test_F001_a_phone_registers_when_it_has_shown_its_password(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        async with scene.phone("alice", scene.alice) as phone:
            assert phone.registered
            assert scene.contacts("alice") == ["sip:alice@10.0.0.1:5060"]
            assert scene.statuses("REGISTER") == [401, 200]
            await asyncio.sleep(3600)  # it keeps registered
            assert phone.registered
            assert scene.contacts("alice") == ["sip:alice@10.0.0.1:5060"]
        assert scene.contacts("alice") == []

    scene.run(main)


@lossy
def test_F002_a_contact_is_added_to_the_list(loss: float) -> None:
    async def main() -> None:
        async with Stranger(scene) as agent:
            await agent.register(("Contact", "<sip:alice@10.0.0.1:5070>"), ("Expires", "600"))
            response = await agent.register(("Contact", "mailto:alice@example.com"))
            assert response.status == 200
            response = await agent.register(("Contact", "<sip:alice@10.0.0.7>;expires=900"))
        assert response.status == 200
        sip = {"sip:alice@10.0.0.1:5070", "sip:alice@10.0.0.7"}
        assert {"mailto:alice@example.com", *sip} <= told(response)
        assert sip <= set(scene.contacts("alice"))

    scene = Scene(loss)
    scene.run(main)


@lossy
def test_F003_the_list_of_contacts_is_asked_for_and_stays_as_it_is(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        async with Stranger(scene) as agent:
            assert told(await agent.register()) == set()
            contact = "<sip:alice@10.0.0.1:5070>"
            await agent.register(("Contact", contact), ("Expires", "600"))
            await asyncio.sleep(100)
            response = await agent.register()
        assert response.status == 200
        [known] = response.contacts
        assert known.uri == "sip:alice@10.0.0.1:5070"
        assert 400 <= int(known.param("expires") or 0) <= 500
        assert scene.contacts("alice") == ["sip:alice@10.0.0.1:5070"]

    scene.run(main)


@lossy
@pytest.mark.parametrize("everything", [True, False], ids=["all of them", "one of them"])
def test_F004_a_registration_is_cancelled(loss: float, everything: bool) -> None:
    scene = Scene(loss)

    async def main() -> None:
        async with Stranger(scene) as agent:
            for port in (5070, 5080):
                await agent.register(("Contact", f"<sip:alice@10.0.0.1:{port}>"))
            assert len(scene.contacts("alice")) == 2
            gone = "*" if everything else "<sip:alice@10.0.0.1:5070>"
            response = await agent.register(("Contact", gone), ("Expires", "0"))
        left = [] if everything else ["sip:alice@10.0.0.1:5080"]
        assert response.status == 200
        assert told(response) == set(left)
        assert scene.contacts("alice") == left

    scene.run(main)


@lossy
def test_F005_a_wrong_password_is_refused_and_not_tried_again(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        with pytest.raises(RegistrationError, match="wrong password") as refused:
            await scene.phone("alice", scene.alice, password="guessed").start()
        assert refused.value.status == 401
        assert scene.statuses("REGISTER") == [401, 401]
        assert scene.contacts("alice") == []

    scene.run(main)


@lossy
@pytest.mark.parametrize("algorithm", ["SHA-256", "SHA-512-256"])
def test_F115_a_call_is_let_through_by_the_algorithm_named_first(
    loss: float, algorithm: str
) -> None:
    scene = Scene(loss, algorithms=(algorithm, "MD5"))

    async def main() -> None:
        bob, calls = await scene.answering()
        async with scene.phone("alice", scene.alice) as alice:
            call = await alice.dial("bob")
            await call.hangup()
        assert (await calls.get()).outgoing is False
        used = {
            value.partition("algorithm=")[2].partition(",")[0].strip('"')
            for message in scene.seen
            if isinstance(message, Request)
            for name in ("Authorization", "Proxy-Authorization")
            if (value := message.headers.get(name)) is not None
        }
        assert used == {algorithm}
        await bob.close()

    scene.run(main)


# ---------------------------------------------------------------- calls


@lossy
def test_F101_a_call_that_demands_to_join_another_is_refused(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Stranger(scene) as agent:
            join = ("Join", "one;to-tag=a;from-tag=b")
            response = await agent.invite(f"sip:bob@{SERVER}", join, ("Require", "join"))
        assert response.status == 420
        assert response.headers.get("Unsupported") == "join"
        assert calls.empty()
        await bob.close()

    scene.run(main)


@lossy
def test_F129_who_calls_anonymously_is_not_named_to_the_callee(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with scene.phone("alice", scene.alice) as alice:
            call = await alice.dial("bob", anonymous=True)
            taken = await calls.get()
            assert taken.remote == "sip:anonymous@anonymous.invalid"
            assert taken.header("P-Preferred-Identity") is None
            assert "id" in (taken.header("Privacy") or "")
            await call.hangup()
        await bob.close()

    scene.run(main)


@lossy
def test_F132_where_the_caller_is_reaches_the_callee(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering()
        where = {"Geolocation": "<https://ls.example/alice>", "Geolocation-Routing": "no"}
        async with scene.phone("alice", scene.alice) as alice:
            call = await alice.dial("bob", headers=where)
            taken = await calls.get()
            assert {name: taken.header(name) for name in where} == where
            await call.hangup()
        await bob.close()

    scene.run(main)


@lossy
def test_F119_the_caller_rings_here_until_sound_comes_from_the_callee(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        with scene.bob.here():
            bob = scene.phone("bob", scene.bob, media=MediaConfig())

            @bob.on_incoming
            async def ring(call: Call) -> None:
                await call.ring()
                await asyncio.sleep(8)
                await call.progress()
                await asyncio.sleep(8)
                await call.answer()
                await call.wait_ended()

            await bob.start()
        async with scene.phone("alice", scene.alice, media=MediaConfig()) as alice:
            call = await alice.dial("bob", wait="ringing")
            assert call.rings_here
            while not any(isinstance(event, EarlyMedia) for event in call._events):
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            await call.measure()
            assert call.state is CallState.EARLY
            assert not call.rings_here
            await call.wait_answered()
            assert not call.rings_here
            await call.hangup()
        await bob.close()

    scene.run(main)


@lossy
def test_F109_the_digits_of_rfc_4733_section_5_are_heard_each_once(loss: float) -> None:
    """911: the events of the section's example, 200, 250 and 160 ms long, over a lossy path."""
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering(media=MediaConfig())
        async with scene.phone("alice", scene.alice, media=MediaConfig()) as alice:
            call = await alice.dial("bob")
            taken = await calls.get()
            for digit, duration_ms in (("9", 200), ("1", 250), ("1", 160)):
                await call.send_dtmf(digit, duration_ms=duration_ms)
            assert await taken.collect(3, timeout=5) == "911"
            assert await taken.collect(1, timeout=2) == ""
            await call.hangup()
        await bob.close()

    scene.run(main)


# ---------------------------------------------------------------- ways


@lossy
def test_F133_the_next_server_is_taken_where_the_first_is_cut_off(loss: float) -> None:
    scene = Scene(loss)
    world = scene.world
    world.dns.add("one.example", SERVER)
    world.dns.add("two.example", scene.bob.address)
    world.dns.add_srv("_sip._udp.office.example", "one.example", 5060, priority=1)
    world.dns.add_srv("_sip._udp.office.example", "two.example", 5060, priority=2)
    world.cut(scene.alice, scene.server)

    async def main() -> None:
        with scene.bob.here():
            bob = scene.phone("bob", scene.bob, register=False)

            @bob.on_incoming
            async def taken(call: Call) -> None:
                await call.answer()
                await call.wait_ended()

            await bob.start()
        async with scene.phone("alice", scene.alice, register=False) as alice:
            call = await alice.dial("sip:bob@office.example", timeout=80)
            assert call.state is CallState.ACTIVE
            await call.hangup()
        await bob.close()

    scene.run(main)


@lossy
@pytest.mark.parametrize("known", [True, False], ids=["its name", "another name"])
def test_F134_a_certificate_holds_for_its_name_alone(
    loss: float, known: bool, tmp_path: FilePath
) -> None:
    authority = Authority(tmp_path)
    scene = Scene(loss)
    scene.world.dns.add("bob.example", scene.bob.address)
    certificate = str(authority.issue("bob.example" if known else "mallory.example"))

    async def main() -> None:
        tls = TlsConfig(certificate=certificate)
        bound = NetworkConfig(bind_host=scene.bob.address, bind_port=5060, tls=tls, tls_port=5061)
        bob, calls = await scene.answering(network=bound, register=False)
        trusting = NetworkConfig(transport="tls", tls=TlsConfig(ca_file=str(authority.file)))
        async with scene.phone("alice", scene.alice, register=False, network=trusting) as alice:
            target = "sip:bob@bob.example:5061;transport=tls"
            if known:
                call = await alice.dial(target, timeout=80)
                assert (await calls.get()).ended is None
                await call.hangup()
            else:
                with pytest.raises(VoipError, match=r"bob\.example"):
                    await alice.dial(target, timeout=80)
                assert calls.empty()
        await bob.close()

    scene.run(main)


@lossy
def test_F135_a_call_by_websocket(loss: float) -> None:
    scene = Scene(loss)

    async def main() -> None:
        bound = NetworkConfig(bind_host=scene.bob.address, bind_port=5060, ws_port=8080)
        bob, calls = await scene.answering(network=bound, register=False)
        async with scene.phone("alice", scene.alice, register=False) as alice:
            call = await alice.dial(f"sip:bob@{scene.bob.address}:8080;transport=ws", timeout=80)
            taken = await calls.get()
            assert "SIP/2.0/WS" in (taken.header("Via") or "")
            await call.hangup()
            assert (await taken.wait_ended()).status in (None, 200)
        await bob.close()

    scene.run(main)
