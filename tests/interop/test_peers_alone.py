"""The machinery itself: peers that call each other, before they call us."""

from __future__ import annotations

from peers.asterisk import Asterisk


def test_asterisk_boots_with_its_numbers_and_phones(asterisk: Asterisk) -> None:
    assert asterisk.version().startswith("Asterisk ")
    assert asterisk.calls() == 0
    assert asterisk.contacts("1001") == []
    assert "600" in asterisk.cli("dialplan show 600@phones")
    assert asterisk.sound("demo-thanks").stat().st_size > 80_000
