"""A phone that only signals: the sound of its calls is somebody else's."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.errors import ConfigError, MediaError
from voip.events import EndedBy
from voip.phone import Softphone
from voip.sdp.parser import parse
from voip.types import Address

HERE = NetworkConfig(bind_host="127.0.0.1")
THERE, OTHERS = Address("192.0.2.7", 40000), Address("192.0.2.8", 50000)


async def _call(bob: Softphone, alice: Softphone) -> tuple[Call, Call]:
    answered: asyncio.Queue[Call] = asyncio.Queue()

    @bob.on_incoming
    async def take(call: Call) -> None:
        await call.ring()
        await call.answer()
        answered.put_nowait(call)

    ours = await alice.dial(f"sip:bob@127.0.0.1:{bob.port}")
    return ours, await answered.get()


def _phones() -> tuple[Softphone, Softphone]:
    return (
        Softphone(network=HERE, media=MediaConfig(elsewhere=THERE)),
        Softphone(network=HERE, media=MediaConfig(elsewhere=OTHERS, codecs=("pcma",))),
    )


async def test_a_call_is_negotiated_with_the_addresses_given_and_starts_no_thread() -> None:
    threads = threading.active_count()
    bob, alice = _phones()
    async with bob, alice:
        ours, theirs = await _call(bob, alice)
        for call, far in ((ours, THERE), (theirs, OTHERS)):
            agreed = call._session.media.agreed
            assert agreed is not None and agreed.remote_rtp == far
            assert call.codec == "pcma"
        assert threading.active_count() == threads
        offer = theirs._session.invite_request
        assert offer is not None
        (audio,) = parse(offer.body).media
        assert audio.port == 50000 and audio.rtcp is None  # at the port after it
        await ours.hold()
        assert theirs._session.media.held_by_remote
        await ours.hangup()
        assert (await theirs.wait_ended()).by is EndedBy.REMOTE
    assert threading.active_count() == threads


async def test_what_needs_sound_says_that_there_is_none(tmp_path: Path) -> None:
    bob, alice = _phones()
    async with bob, alice:
        ours, _ = await _call(bob, alice)
        silence = np.zeros(800, np.int16)
        wanted = (
            lambda: ours.play(silence),
            lambda: ours.send(silence),
            lambda: ours.record(tmp_path / "heard.wav").start(),
            lambda: ours.audio().read(0.1),
            lambda: ours.send_dtmf("1"),
            ours.echo,
            ours.mute,
        )
        for use in wanted:
            with pytest.raises(MediaError, match="carries no sound") as caught:
                await use()
            assert "elsewhere" in caught.value.hint
        with pytest.raises(ConfigError, match="no media engine"):
            _ = bob.driver
        assert ours.stats.packets_sent == 0 and ours.quality.mos is None
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", [("media.example", 40000), ("0.0.0.0", 40000), ("192.0.2.7", 40001), ("::1", 0)]
)
def test_an_address_where_nobody_can_listen_is_refused(address: tuple[str, int]) -> None:
    with pytest.raises(ConfigError, match="no sound can be sent"):
        MediaConfig(elsewhere=Address(*address))
