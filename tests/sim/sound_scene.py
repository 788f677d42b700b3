"""Two phones of the simulated world that have a call with sound, and what is done with that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import numpy.typing as npt

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.sim import Host, Path, World

Pcm = npt.NDArray[np.int16]
STEADY = MediaConfig(jitter_min_ms=60, jitter_max_ms=60)


def tone(hertz: float, seconds: float, rate: int = 8000, amplitude: float = 8000) -> Pcm:
    t = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * t)).astype(np.int16)


def level_db(pcm: Pcm, hertz: float, rate: int = 8000, amplitude: float = 8000) -> float:
    """How loud a frequency is in `pcm`, against a tone of `amplitude`, in dB."""
    t = np.arange(len(pcm)) / rate
    found = abs(np.exp(-2j * np.pi * hertz * t) @ pcm.astype(float)) * 2 / len(pcm)
    return float(20 * np.log10(max(found, 1e-9) / amplitude))


async def echo(call: Call) -> None:
    await call.answer()
    await call.echo()
    await call.wait_ended()


def two_phones(
    talk: Callable[[Call], Awaitable[None]],
    *,
    calling: MediaConfig,
    answering: MediaConfig,
    answer: Callable[[Call], Awaitable[None]] = echo,
    started: Callable[[Call], Awaitable[None]] | None = None,
    path: Path | None = None,
    world: World | None = None,
    hosts: tuple[Host, Host] | None = None,
    transport: str | None = None,
) -> None:
    """Let Alice call Bob, who sends back what he hears unless told otherwise, and `talk`.

    started: what Alice does before she is answered. hosts: hers and his, of that `world`. When the
    call is over, nothing may be left of it where it was made.
    """
    world = world or World(3, path=path or Path(delay_s=0.02))
    alice, bob = hosts or (world.host("10.0.0.1"), world.host("10.0.0.2"))
    uri = f"sip:bob@{bob.address}"

    async def main() -> None:
        ready = asyncio.Event()

        async def answers() -> None:
            network = NetworkConfig(bind_port=5060)
            async with Softphone(uri, register=False, network=network, media=answering) as phone:
                phone.on_incoming(answer)
                ready.set()
                await asyncio.Event().wait()

        async def calls() -> None:
            account, network = f"sip:alice@{alice.address}", NetworkConfig(transport=transport)
            async with Softphone(account, register=False, network=network, media=calling) as phone:
                async with await phone.dial(uri, wait="started" if started else "answered") as call:
                    if started:
                        await started(call)
                        await call.wait_answered()
                    await talk(call)
                await asyncio.sleep(0.02)  # what has just been closed is gone with the next tick
                assert not phone.driver.figures().streams
                assert not len(phone._stack.arena)

        bob.create_task(answers())
        await ready.wait()
        await alice.run(calls())

    world.run(main())


def call_up(
    talk: Callable[[Call, Call], Awaitable[None]],
    *,
    media: MediaConfig = STEADY,
    path: Path | None = None,
    world: World | None = None,
    early: Callable[[Call], Awaitable[None]] | None = None,
    started: Callable[[Call], Awaitable[None]] | None = None,
) -> None:
    """Let Alice call Bob; `talk` is given the call as Alice has it, and as Bob has it.

    early, started: what he, and she, does before it is answered.
    """
    came = asyncio.Event()
    bobs: list[Call] = []

    async def answer(call: Call) -> None:
        if early is not None:
            await early(call)
        await call.answer()
        bobs.append(call)
        came.set()
        await call.wait_ended()

    async def both(call: Call) -> None:
        await came.wait()
        await talk(call, bobs[0])

    two_phones(
        both, calling=media, answering=media, answer=answer, started=started, path=path, world=world
    )
