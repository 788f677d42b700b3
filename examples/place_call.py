"""Place a call, say something, and record what comes back.

    VOIP_PASSWORD=secret python examples/place_call.py sip:alice@pbx.example 600 hello.wav heard.wav

Ctrl-C hangs up.
"""

import asyncio
import os
import sys
from contextlib import suppress

from voip import Softphone, VoipError


async def main(account: str, number: str, hello: str, heard: str) -> None:
    async with Softphone(account, password=os.environ.get("VOIP_PASSWORD")) as phone:
        call = await phone.dial(number)
        print(f"{call.remote} answered, and speaks {call.codec}")
        async with call, call.record(heard):  # leaving hangs up; the recording is whole before
            await call.play(hello)
            await asyncio.sleep(0.5)
        print(f"recorded {heard}: MOS {call.quality.mos}, {call.stats.packets_lost} packets lost")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(*sys.argv[1:]))
    except VoipError as error:
        sys.exit(str(error))
