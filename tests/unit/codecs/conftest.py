"""What the tests of codecs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from voip.codecs.opus.binding import LibOpus, libopus
from voip.errors import CodecError


@pytest.fixture(name="library", scope="session")
def libopus_fixture(missing: Callable[[str], NoReturn]) -> LibOpus:
    """The machine's libopus."""
    try:
        return libopus()
    except CodecError as error:
        missing(str(error))
