"""An engine with its peers, for every test of engines."""

from __future__ import annotations

import pytest
from engine_desk import Desk


@pytest.fixture
def desk() -> Desk:
    return Desk()
