"""Two phones on a network in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from virtual_sip import Net, Phone, assert_nothing_left


@pytest.fixture
def net() -> Iterator[Net]:
    """A network on which nothing may be left in the end."""
    net = Net()
    yield net
    assert_nothing_left(net)


@pytest.fixture
def alice(net: Net) -> Phone:
    return net.phone("192.0.2.1")


@pytest.fixture
def bob(net: Net) -> Phone:
    return net.phone("192.0.2.2")
