"""Calls that do not begin, because of this machine and not of the callee."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from voip.call import Call
from voip.config import NetworkConfig
from voip.errors import CallError, MediaError, SipError
from voip.phone import Softphone

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """An even UDP port that somebody else has."""
    held: list[socket.socket] = []
    try:
        while not held or held[-1].getsockname()[1] % 2:
            held.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            held[-1].bind((HOST, 0))
        yield held[-1].getsockname()[1]
    finally:
        for one in held:
            one.close()


async def test_a_call_without_a_free_rtp_port_is_a_call_error_that_says_so(taken: int) -> None:
    network = NetworkConfig(HOST, rtp_ports=(taken, taken + 1))
    async with Softphone(network=network) as phone:
        for wait in ("answered", "started"):
            with pytest.raises(CallError, match="no free pair of RTP ports") as caught:
                await phone.dial(f"sip:bob@{HOST}:9", wait=wait)  # type: ignore[arg-type]
            assert isinstance(caught.value.__cause__, MediaError)
            assert "widen the range" in caught.value.hint
            assert caught.value.status is None
        assert phone.calls == []


async def test_a_call_beyond_what_the_agent_can_hold_is_a_call_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> None:
        raise SipError("10000 requests are waiting for an answer already", status=503, hint="wait")

    async with Softphone(network=NetworkConfig(HOST)) as phone:
        monkeypatch.setattr(phone._agent._core.transactions, "check_room", full)
        with pytest.raises(CallError, match="requests are waiting") as caught:
            await phone.dial(f"sip:bob@{HOST}:9")
        assert (caught.value.status, caught.value.hint) == (503, "wait")
        assert phone.calls == []


async def test_a_callee_without_a_free_rtp_port_may_be_tried_again(taken: int) -> None:
    """503, and no fault of its program's (500): the next call may find a pair."""
    network = NetworkConfig(HOST, rtp_ports=(taken, taken + 1))
    async with (
        Softphone(network=network) as callee,
        Softphone(network=NetworkConfig(HOST)) as phone,
    ):

        @callee.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()

        with pytest.raises(CallError) as caught:
            await phone.dial(f"sip:bob@{HOST}:{dict(callee.addresses)['udp'].port}")
        assert caught.value.status == 503
