"""Calls that a phone could not expect: for somebody else, or from elsewhere than its registrar."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering, status_of

from voip import CallConfig, NetworkConfig, Softphone
from voip.config import MediaConfig
from voip.errors import CallError, ConfigError
from voip.harness.pbx import EmbeddedPbx
from voip.types import Address

MEDIA = MediaConfig(elsewhere=Address("192.0.2.7", 40000))
HERE = NetworkConfig(bind_host="127.0.0.1")
ELSEWHERE = NetworkConfig(bind_host="127.0.0.9")


def answers(phone: Softphone) -> Softphone:
    answering(phone)
    return phone


async def test_a_phone_without_an_account_answers_whatever_comes_to_its_port() -> None:
    async with (
        answers(Softphone(network=HERE, media=MEDIA)) as phone,
        Softphone(network=ELSEWHERE, media=MEDIA) as caller,
    ):
        for user in ("alice@", "anybody@", ""):
            assert await status_of(caller, f"sip:{user}127.0.0.1:{phone.port}") == 200, user


async def test_a_phone_with_an_account_answers_for_that_account_only() -> None:
    account = Softphone("sip:alice@127.0.0.1", register=False, network=HERE, media=MEDIA)
    async with answers(account) as alice, Softphone(network=ELSEWHERE, media=MEDIA) as caller:
        there = f"127.0.0.1:{alice.port}"
        asked = [f"sip:alice@{there}", f"sip:{there}", f"sip:bob@{there}", f"sip:Alice@{there}"]
        assert [await status_of(caller, uri) for uri in asked] == [200, 200, 404, 404]
        assert alice._agent.transactions <= 6  # refusals leave nothing behind
        assert alice.calls == []


@pytest.mark.parametrize(
    ("calling", "network", "status"),
    [
        (CallConfig(), HERE, 404),
        (CallConfig(strangers="accept"), HERE, 200),
        (CallConfig(), NetworkConfig(bind_host="127.0.0.1", trusted=("127.0.0.9",)), 200),
    ],
)
async def test_a_registered_phone_is_called_by_its_registrar_and_by_others_as_it_says(
    calling: CallConfig, network: NetworkConfig, status: int
) -> None:
    async with EmbeddedPbx(media=MEDIA) as pbx:
        alice = Softphone(
            pbx.uri("1001"),
            password=pbx.password("1001"),
            network=network,
            media=MEDIA,
            calling=calling,
        )
        bob = Softphone(pbx.uri("1002"), password=pbx.password("1002"), network=HERE, media=MEDIA)
        async with answers(alice), bob, Softphone(network=ELSEWHERE, media=MEDIA) as stranger:
            assert await status_of(bob, "1001") == 200
            assert await status_of(stranger, f"sip:1001@127.0.0.1:{alice.port}") == status
            assert await status_of(stranger, f"sip:1003@127.0.0.1:{alice.port}") == status


async def test_a_stranger_who_takes_the_place_of_a_call_is_none() -> None:
    """An attended transfer is not bound to come by the registrar (RFC 3891)."""
    async with EmbeddedPbx() as pbx:  # which bridges the sound of its users' calls
        alice = answers(
            Softphone(pbx.uri("1001"), password=pbx.password("1001"), network=HERE, media=MEDIA)
        )
        bob = Softphone(pbx.uri("1002"), password=pbx.password("1002"), network=HERE, media=MEDIA)
        async with alice, bob, Softphone(network=ELSEWHERE, media=MEDIA) as other:
            call = await bob.dial("1001")
            async with asyncio.timeout(5):
                while not alice.calls or not alice.calls[0]._session.is_up:
                    await asyncio.sleep(0.01)
            dialog = alice.calls[0]._session.dialog
            assert dialog is not None
            value = f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"
            there = f"sip:1001@127.0.0.1:{alice.port}"
            wrong = [("Replaces", value.replace(dialog.call_id, "another"))]
            with pytest.raises(CallError) as refused:
                await other.dial(there, headers=wrong)
            assert refused.value.status == 481
            taken = await other.dial(there, headers=[("Replaces", value)])
            await call.wait_ended()
            await taken.hangup()


def test_what_a_policy_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError):
        CallConfig(strangers="perhaps")  # type: ignore[arg-type]
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            NetworkConfig(stranger_rate=rate)
