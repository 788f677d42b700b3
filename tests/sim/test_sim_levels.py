"""Calls whose packets say how loud they are (RFC 6464), as phones agree on it."""

from __future__ import annotations

import asyncio

import pytest
from sound_scene import tone, two_phones

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import ConfigError
from voip.media.answers import StreamStats
from voip.sdp.agreement import AgreedAudio
from voip.session.formats import header_extensions
from voip.types import Address

pytestmark = pytest.mark.rfc("6464", "4")

TELLS = ("audio-level", "abs-send-time")
LOUD, SOFT = 12_000, 120
DBOV = {LOUD: -12, SOFT: -52}  # of tones of such amplitudes, rounded


async def says(call: Call, amplitude: float) -> StreamStats:
    """Say a tone that comes back, and return the figures while it does."""
    playing = asyncio.create_task(call.play(tone(400, 1.0, call.rate, amplitude)))
    await asyncio.sleep(0.7)
    stats = await call.measure()
    await playing
    return stats


def agreed(call: Call) -> AgreedAudio:
    found = call._session.media.agreed
    assert found is not None
    return found


@pytest.mark.parametrize("codec", ["pcmu", "g722", "opus"])
def test_both_tell_and_read_levels_where_both_were_asked_and_go_on_after_a_hold(codec: str) -> None:
    media = MediaConfig(codecs=(codec,), header_extensions=TELLS)
    judged = []

    async def talk(call: Call) -> None:
        for _ in range(2):
            numbers = [(one.number, one.send, one.receive) for one in agreed(call).extensions]
            assert numbers == [(1, True, True), (2, True, True)]
            for amplitude in (LOUD, SOFT):
                stats = await says(call, amplitude)
                assert stats.level_told_dbov == pytest.approx(DBOV[amplitude], abs=1)
                judged.append(stats)
            assert judged[-2].voice_told, "it is loud"
            await call.hold()
            assert not any(one.receive for one in agreed(call).extensions)
            await call.resume()

    two_phones(talk, calling=media, answering=media)
    assert len(judged) == 4


def test_who_was_not_asked_reads_them_and_tells_nothing() -> None:
    told = []

    async def answer(call: Call) -> None:
        await call.answer()
        await call.echo()
        while call.ended is None:
            told.append((await call.measure()).level_told_dbov)
            await asyncio.sleep(0.1)

    async def talk(call: Call) -> None:
        assert (await says(call, LOUD)).level_told_dbov is None
        await says(call, SOFT)
        await asyncio.sleep(0.5)

    two_phones(
        talk, calling=MediaConfig(header_extensions=TELLS), answering=MediaConfig(), answer=answer
    )
    for level in (*DBOV.values(), -127):
        assert any(one is not None and abs(one - level) <= 1 for one in told), level


def test_nothing_is_said_of_them_unasked() -> None:
    async def talk(call: Call) -> None:
        stats = await says(call, LOUD)
        assert agreed(call).extensions == ()
        assert (stats.level_told_dbov, stats.voice_told) == (None, None)

    two_phones(talk, calling=MediaConfig(), answering=MediaConfig(header_extensions=TELLS))


def test_where_sound_is_somebody_elses_only_what_was_asked_for_is_agreed_to() -> None:
    there = Address("192.0.2.7", 40000)
    assert header_extensions(MediaConfig(elsewhere=there)) == ()
    asked = header_extensions(MediaConfig(elsewhere=there, header_extensions=TELLS))
    assert [one.offered for one in asked] == [True, True]
    (unasked,) = header_extensions(MediaConfig())
    assert not unasked.offered


def test_what_is_no_header_extension_is_refused() -> None:
    with pytest.raises(ConfigError, match="no header extension is called 'loudness'") as caught:
        MediaConfig(header_extensions=("audio-level", "loudness"))
    assert "audio-level, abs-send-time" in caught.value.hint
