"""Bridge two calls: whoever calls us is put through to another number.

    VOIP_PASSWORD=secret python examples/forward.py sip:alice@pbx.example 600

Ctrl-C hangs up both.
"""

import asyncio
import os
import sys
from contextlib import suppress

from voip import Call, CallError, Softphone, VoipError


async def put_through(phone: Softphone, caller: Call, number: str) -> None:
    await caller.ring()
    dialling = asyncio.create_task(phone.dial(number))
    caller.on_ended(lambda end: dialling.cancel())  # who gives up lets nobody ring for nothing
    try:
        callee = await dialling
    except CallError as error:
        print(f"{number}: {error}", flush=True)
        await caller.reject(error.status or 480)
        return
    async with caller, callee:  # however it ends, both have ended
        await caller.answer()
        await caller.bridge(callee)
        print(f"{caller.remote} talks to {callee.remote}", flush=True)
        ends = [asyncio.create_task(call.wait_ended()) for call in (caller, callee)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


async def main(account: str, number: str) -> None:
    phone = Softphone(account, password=os.environ.get("VOIP_PASSWORD"))
    phone.on_incoming(lambda call: put_through(phone, call, number))
    async with phone:
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1], sys.argv[2]))
    except VoipError as error:
        sys.exit(str(error))
