"""An IVR: a door that asks for a code, three times at most, and opens with the key 9.

    DOOR_CODE=4711 VOIP_PASSWORD=secret python examples/door.py sip:door@pbx.example [ask.wav]

Whoever knows the question need not hear it out. Ctrl-C hangs up.
"""

import asyncio
import os
import sys
from contextlib import suppress

import numpy as np

from voip import Call, Softphone, VoipError

CODE = os.environ.get("DOOR_CODE", "4711")
BUZZ = (6000 * np.sign(np.sin(np.arange(4000) * 2 * np.pi * 90 / 8000))).astype(np.int16)
ASK = sys.argv[2] if len(sys.argv) > 2 else BUZZ[:800]


async def ask(call: Call) -> str:
    """Return what is entered; the first digit silences the question."""
    asking = asyncio.create_task(call.play(ASK))
    call.on_dtmf(lambda digit: asking.cancel())
    code = await call.collect(len(CODE), timeout=8)
    asking.cancel()
    await asyncio.wait({asking})
    return code


async def answer(call: Call) -> None:
    await call.answer()
    async with call:
        for _ in range(3):
            if await ask(call) == CODE:
                print(f"{call.remote} may come in", flush=True)
                await call.send_dtmf("9")
                await asyncio.sleep(0.5)  # a PBX between us passes it on before the end
                return
            await call.play(BUZZ)
        print(f"{call.remote} stays outside", flush=True)


async def main(account: str) -> None:
    phone = Softphone(account, password=os.environ.get("VOIP_PASSWORD"))
    phone.on_incoming(answer)
    async with phone:
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1]))
    except VoipError as error:
        sys.exit(str(error))
