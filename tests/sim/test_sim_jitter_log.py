"""What the jitter buffer of a call did, as an application reads it."""

from __future__ import annotations

import asyncio
import csv
import io

import numpy as np
import pytest
from sound_scene import two_phones

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import MediaError
from voip.media.jitter_log import FIELDS, READ_LINES
from voip.sim import Path


def test_J07_a_call_tells_what_its_jitter_buffer_did() -> None:
    """More lines than are told at a time; the last one has the figures of the call."""

    async def talk(call: Call) -> None:
        with pytest.raises(MediaError, match="no jitter log"):
            await call.jitter_log()
        await call.log_jitter()
        assert (await call.jitter_log()).splitlines()[0] == ",".join(FIELDS)
        noise = np.random.default_rng(1).normal(0, 3000, 60 * call.rate).astype(np.int16)
        await call.play(noise)
        lines = list(csv.DictReader(io.StringIO(await call.jitter_log())))
        assert len(lines) > READ_LINES
        times = [float(line["time_s"]) for line in lines]
        assert times == sorted(times) and len(set(times)) == len(times)
        stats = await call.measure()
        assert float(lines[-1]["concealed_ms"]) == pytest.approx(stats.concealed_ms, abs=21)
        assert float(lines[-1]["expanded_ms"]) == pytest.approx(stats.expanded_ms, abs=21)
        assert int(lines[-1]["packets_late"]) == pytest.approx(stats.packets_late, abs=1)
        await call.log_jitter(0)
        await asyncio.sleep(0.1)
        with pytest.raises(MediaError, match="no jitter log"):
            await call.jitter_log()

    path = Path(delay_s=0.03, jitter_s=0.02, loss=0.2)
    two_phones(talk, calling=MediaConfig(), answering=MediaConfig(), path=path)
