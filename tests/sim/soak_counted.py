"""A short soak whose memory is counted: run by a test, in a process of its own.

Prints what was found as JSON. With `leak` each call leaves a kilobyte and four objects.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from voip.call import Call
from voip.dialling import Dialling
from voip.harness.soak.media import soak_media
from voip.harness.soak.media_report import MediaSoakPlan

PLAN = MediaSoakPlan(360.0, calls_per_s=1.0, mean_s=1.0, most=6, virtual=True, loss=0.01, looks=4)
"""Of 360 s 160 are quiet: calls come in between."""


def main() -> None:
    kept: list[object] = []
    dial = Dialling.dial

    async def forgets_nothing(self: Dialling, *args: Any, **more: Any) -> Call:
        kept.append((bytes(1000), object(), object(), object()))
        return await dial(self, *args, **more)

    if "leak" in sys.argv:
        Dialling.dial = forgets_nothing  # type: ignore[method-assign]
    found = soak_media(PLAN, seed=5).to_json()
    json.dump({"kept": len(kept), **found}, sys.stdout)


if __name__ == "__main__":
    main()
