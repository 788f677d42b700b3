"""Answer every call, and send back what is heard.

    VOIP_PASSWORD=secret python examples/answer_and_echo.py sip:alice@pbx.example

Ctrl-C hangs up, and lets the registrar forget us.
"""

import asyncio
import os
import sys
from contextlib import suppress

from voip import Call, Softphone, VoipError


async def answer(call: Call) -> None:
    print(f"{call.remote} calls", flush=True)
    await call.answer()
    await call.echo()
    ended = await call.wait_ended()
    print(f"{call.remote}: {ended.reason}, {call.stats.packets_received} packets", flush=True)


async def main(account: str) -> None:
    phone = Softphone(account, password=os.environ.get("VOIP_PASSWORD"))
    phone.on_incoming(answer)  # a task for every call: any number of them at a time
    async with phone:
        print(f"{account} is registered", flush=True)
        await asyncio.Event().wait()  # until Ctrl-C


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main(sys.argv[1]))
    except VoipError as error:
        sys.exit(str(error))
