"""The judges of codecs in calls, judged: what they give to codecs, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from codec_floor import G722, GSM, PCMU, Ear, coded, floor, require_floors

from voip.harness.audio import Sound

pytestmark = pytest.mark.usefixtures("codec_judges")


def test_floors_are_those_that_reference_code_has() -> None:
    assert floor(PCMU) == pytest.approx(4.43, abs=0.05)
    assert floor(G722) == pytest.approx(4.22, abs=0.05)


def test_a_codec_comes_up_to_its_own_floor() -> None:
    speech = PCMU.speech()
    require_floors(Ear("itself", speech, coded(PCMU, speech), 8000, floor(PCMU)))


def test_a_worse_codec_a_hole_and_too_little_are_refused() -> None:
    speech = PCMU.speech()
    hole = coded(PCMU, speech).samples.copy()
    loudest = int(np.abs(hole).argmax())
    hole[loudest - 400 : loudest + 400] = 0
    quarter = speech.samples[: len(speech.samples) // 4]
    for heard, told in (
        (coded(GSM, speech), "MOS-LQO"),
        (Sound(hole, 8000), "MOS-LQO"),
        (Sound(quarter, 8000), r"only 2\.\d+ s"),
        (Sound(np.zeros_like(speech.samples), 8000), "silence"),
    ):
        with pytest.raises(AssertionError, match=told):
            require_floors(Ear("worse", speech, heard, 8000, floor(PCMU)))
