"""A meeting room: whoever calls hears all others who have, and is announced by a beep.

    VOIP_PASSWORD=secret python examples/meeting.py sip:room@pbx.example [recording.wav]

Ctrl-C ends the meeting.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack, suppress

import numpy as np

from voip import Call, Softphone, VoipError

BEEP = np.rint(6000 * np.sin(2 * np.pi * 880 / 8000 * np.arange(1200))).astype(np.int16)


async def main(account: str, recording: str | None) -> None:
    phone = Softphone(account, password=os.environ.get("VOIP_PASSWORD"), register=False)
    async with phone, await phone.conference() as room:

        @phone.on_incoming
        async def enter(call: Call) -> None:
            await call.answer()
            await room.add(call)
            print(f"{call.remote} comes in, {len(room.parties)} are there", flush=True)
            await room.play(BEEP)
            await call.wait_ended()
            print(f"{call.remote} leaves, {len(room.parties)} are there", flush=True)

        await phone.register()  # now that somebody is there to open the door
        async with AsyncExitStack() as until_the_end:
            if recording is not None:
                while not room.parties:
                    await asyncio.sleep(0.1)
                await until_the_end.enter_async_context(room.record(recording))
            await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None))
    except VoipError as error:
        sys.exit(str(error))
