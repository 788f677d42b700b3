"""Flows between our own agents, proxy and registrar in a simulated world, with loss and without."""

from __future__ import annotations

import asyncio
from pathlib import Path as FilePath

import pytest
from callers import answering
from certificates import Authority
from flow_scene import SERVER, Scene, Stranger, lossy, told

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig, TlsConfig
from voip.errors import RegistrationError, VoipError
from voip.events import CallState, EarlyMedia
from voip.sip.message import Request

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
    """911: the events of the section's example, 200, 250 and 220 ms long, over a lossy path."""
    scene = Scene(loss)

    async def main() -> None:
        bob, calls = await scene.answering(media=MediaConfig())
        async with scene.phone("alice", scene.alice, media=MediaConfig()) as alice:
            call = await alice.dial("bob")
            taken = await calls.get()
            for digit, duration_ms in (("9", 200), ("1", 250), ("1", 220)):
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
            answering(bob)
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
