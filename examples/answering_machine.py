"""Record calls: an answering machine that greets, beeps, and keeps what is said.

    VOIP_PASSWORD=secret python examples/answering_machine.py sip:alice@pbx.example hello.wav inbox/

Ctrl-C hangs up; what was said until then is kept.
"""

import asyncio
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from voip import Call, Softphone, VoipError

BEEP = (8000 * np.sin(np.arange(2400) * 2 * np.pi * 1000 / 8000)).astype(np.int16)
LONGEST_S = 60


async def main(account: str, greeting: str, inbox: Path) -> None:
    phone = Softphone(account, password=os.environ.get("VOIP_PASSWORD"))

    @phone.on_incoming
    async def answer(call: Call) -> None:
        await call.answer()
        await call.play(greeting)
        await call.play(BEEP)
        path = inbox / f"{datetime.now():%Y-%m-%d %H.%M.%S} {call.id[:6]}.wav"
        async with call.record(path) as recording:
            with suppress(TimeoutError):
                await asyncio.wait_for(call.wait_ended(), LONGEST_S)
        await call.hangup()
        print(f"{call.remote} spoke for {recording.duration_s:.1f} s: {path}", flush=True)

    async with phone:
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    except VoipError as error:
        sys.exit(str(error))
