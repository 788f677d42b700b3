"""Two phones call each other by one TCP connection, where they let each other (RFC 5923)."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering

from voip import Softphone
from voip.config import MediaConfig, NetworkConfig
from voip.sim import Host, Path, World
from voip.types import Address

pytestmark = pytest.mark.rfc("5923", "8")


def phone(host: Host, *, tcp_alias: bool) -> Softphone:
    one = Softphone(
        network=NetworkConfig(
            bind_host=host.address, bind_port=5060, transport="tcp", tcp_alias=tcp_alias
        ),
        media=MediaConfig(elsewhere=Address(host.address, 40000)),
    )
    answering(one)
    return one


def connections(one: Softphone) -> int:
    streams = one._transport._streams
    return 0 if streams is None else streams.count


@pytest.mark.parametrize(("ours", "theirs"), [(True, True), (True, False), (False, True)])
def test_calls_back_and_forth_go_by_one_connection_where_both_allow_it(
    ours: bool, theirs: bool
) -> None:
    world = World(5, path=Path(delay_s=0.02))
    here, there = world.host("10.0.0.1"), world.host("10.0.0.2")

    async def main() -> None:
        with there.here():
            bob = phone(there, tcp_alias=theirs)
            await bob.start()
        async with phone(here, tcp_alias=ours) as alice:
            async with await alice.dial("sip:bob@10.0.0.2"):
                assert connections(alice) == connections(bob) == 1
            with there.here():
                back = asyncio.ensure_future(bob.dial("sip:alice@10.0.0.1"))
            async with await back:
                expected = 1 if ours and theirs else 2
                assert connections(alice) == connections(bob) == expected
            world.reset(here, there)
            await asyncio.sleep(1.0)
            with there.here():  # by a new one, now that it is gone
                back = asyncio.ensure_future(bob.dial("sip:alice@10.0.0.1"))
            async with await back:
                assert connections(alice) == connections(bob) == 1
        await bob.close()

    world.run(here.run(main()))
