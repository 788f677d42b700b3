"""What a phone says of comfort noise, by the codecs it is told to use."""

from __future__ import annotations

import pytest

from voip.cli.options import media_config
from voip.session.formats import capabilities


@pytest.mark.parametrize(
    ("codecs", "clocks"),
    [
        (("pcmu", "pcma"), [8000]),
        (("opus",), []),
        (("opus", "g722", "l16/16000"), [8000, 16000]),
    ],
)
@pytest.mark.parametrize("dtx", [True, False])
def test_comfort_noise_is_there_for_each_clock_that_needs_it(codecs, clocks, dtx) -> None:
    said = capabilities(codecs, 20, dtx=dtx)
    noise = [one for one in said if one.name == "cn"]
    assert [one.clock_rate for one in noise] == clocks
    assert {one.offered for one in noise} <= {dtx}
    for one in said:
        if one.name == "opus":
            assert ("usedtx" in one.fmtp) == dtx


def test_the_option_is_the_setting() -> None:
    assert media_config("pcmu", dtx=True).dtx
    assert not media_config("pcmu").dtx
