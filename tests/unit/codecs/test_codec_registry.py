"""Codecs by name, and what every codec of the registry must be able to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voip.codecs import g711
from voip.codecs.core import CodecFormat
from voip.codecs.g711 import Law
from voip.codecs.g711_codec import PCMU, g711_codec
from voip.codecs.registry import CodecEntry, default_registry
from voip.errors import CodecError

THERE = [
    *("pcmu/8000", "pcma/8000", "g722/8000", "ilbc/8000", "opus/48000/2"),
    *(f"l16/{rate}{ch}" for rate in (8000, 16000, 44100, 48000) for ch in ("", "/2")),
    *("gsm/8000", "speex/8000", "speex/16000", "speex/32000", "amr/8000", "amr-wb/16000"),
    "g729/8000",
]


def test_pcmu_and_pcma_are_there_whatever_the_case() -> None:
    registry = default_registry()
    assert [str(info.format) for info in registry] == THERE
    assert registry.create(CodecFormat("PCMU", 8000)).info is PCMU
    assert CodecFormat("PcMa") in registry
    assert registry.info(CodecFormat("pcma")).bit_rate == 64000


@pytest.mark.parametrize(
    "format_",
    [
        CodecFormat("opus", 48000),
        CodecFormat("speex", 48000),
        CodecFormat("pcmu", 16000),
        CodecFormat("pcmu", 8000, 2),
    ],
)
def test_what_is_not_there_is_named_and_so_is_what_is(format_: CodecFormat) -> None:
    registry = default_registry()
    assert format_ not in registry
    with pytest.raises(CodecError) as caught:
        registry.create(format_)
    assert str(format_) in caught.value.message
    assert caught.value.hint == "there are " + ", ".join(THERE)


@pytest.mark.parametrize(
    ("rtpmap", "fmtp", "format_"),
    [
        ("PCMU/8000", "", CodecFormat("pcmu")),
        ("opus/48000/2", "stereo=1", CodecFormat("opus", 48000, 2, "stereo=1")),
        (" iLBC/8000 ", " mode=20 ", CodecFormat("ilbc", fmtp="mode=20")),
        ("L16/44100/2", "", CodecFormat("l16", 44100, 2)),
        ("AMR-WB/16000/1", "octet-align=1", CodecFormat("amr-wb", 16000, fmtp="octet-align=1")),
    ],
)
def test_a_codec_is_built_of_what_sdp_says(rtpmap: str, fmtp: str, format_: CodecFormat) -> None:
    read = CodecFormat.read(rtpmap, fmtp)
    assert read == format_
    assert read in default_registry()
    if read.name in ("pcmu", "ilbc", "l16"):
        assert default_registry().create(read).info.format == replace(format_, fmtp="")


@given(st.text(max_size=60))
@example("opus/0")
@example("opus/48000/0")
@example("x/" + "9" * 30)
def test_what_is_no_encoding_is_a_codec_error(rtpmap: str) -> None:
    try:
        read = CodecFormat.read(rtpmap)
    except CodecError as error:
        assert error.hint
    else:
        assert rtpmap.strip().lower() in (str(read), f"{read}/1")


def test_static_payload_types_are_only_defaults() -> None:
    registry = default_registry()
    assert registry.static_format(0) == CodecFormat("pcmu")
    assert registry.static_format(8) == CodecFormat("pcma")
    assert registry.static_format(10) == CodecFormat("l16", 44100, 2)
    assert registry.static_format(11) == CodecFormat("l16", 44100, 1)
    with pytest.raises(CodecError, match="Unsupported payload type: 99") as caught:
        registry.static_format(99)
    assert "0 pcmu/8000" in caught.value.hint
    assert "None" not in caught.value.hint


def test_adding_a_codec_makes_another_registry() -> None:
    mine = CodecEntry(PCMU, lambda _: g711_codec(Law.ALAW))
    registry = default_registry()
    more = registry.extended(mine)
    assert len(more) == len(registry) == len(THERE)
    assert more.create(CodecFormat("pcmu")).info.name == "pcma", "the later one"
    assert registry.create(CodecFormat("pcmu")).info.name == "pcmu", "unchanged"


@pytest.mark.parametrize("law", Law)
def test_g711_codec_is_its_tables(law: Law) -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    codec = g711_codec(law)
    assert codec.encode(every) == g711.encode(every, law).tobytes()
    assert (
        codec.decode(bytes(range(256))).tolist()
        == g711.decode(np.arange(256, dtype=np.uint8), law).tolist()
    )
