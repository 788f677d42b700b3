"""`voip doctor`: print what works on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voip.cli import options
from voip.cli.report import print_table
from voip.cli.run import fail, print_json, telling

if TYPE_CHECKING:
    from voip.harness.doctor import Check

__all__ = ["doctor"]


def doctor(as_json: options.JsonFlag = False) -> None:
    """Say what works on this machine: libraries, codecs, ports, peers.

    Exit status 1 when something is amiss without which there are no calls.
    """
    from voip.harness.doctor import examine  # here: other commands start without it

    with telling(as_json=as_json):
        checks = examine()
    fatal = [check for check in checks if check.is_fatal]
    fault = "; ".join(f"{check.name}: {check.detail or check.health.value}" for check in fatal)
    if as_json:
        report = {"ok": not fatal, "checks": [_plain(check) for check in checks]}
        print_json({**report, "error": fault} if fault else report)
    else:
        print_table(
            "what works on this machine",
            [(check.name, check.health.value, check.detail, _hint(check)) for check in checks],
        )
    if fault:
        fail(fault)


def _plain(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "status": check.health.value,
        "detail": check.detail or None,
        "hint": _hint(check) or None,
        "needed": check.needed,
    }


def _hint(check: Check) -> str:
    from voip.harness.doctor import Health

    return "" if check.health is Health.OK else check.hint
