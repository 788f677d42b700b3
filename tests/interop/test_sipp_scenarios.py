"""Call flows written for PJSIP's own tests, played by SIPp against a phone of ours.

Those about reliable responses, UPDATE, session timers and forks; what our side does in each stands
beside its name. The scenarios are reference data and not in the repository.

Not played: `uac-inv-retrans-after-ack`, which wants a repeated INVITE answered after the ACK, where
RFC 6026 has it absorbed; `uac-early-recv-update-481`, `uas-answer-200-update-without-sdp`,
`uas-answer-*-multiple-fmts-support-update` and `uas-reinv-glare`, which wait for an UPDATE that
PJSIP sends by itself to settle on one codec, and we do not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.sipp import Sipp

from voip.call import Call
from voip.config import CallConfig
from voip.errors import CallError

StartSipp = Callable[..., Awaitable[Sipp]]
SCENARIOS = "sipp-pjproject/scripts-sipp"


async def early(call: Call) -> None:
    """Describe ourselves early, and answer when the caller has had its say."""
    await call.progress()
    await asyncio.sleep(1.0)
    await call.answer()
    await call.wait_ended()


async def at_once(call: Call) -> None:
    await call.answer()
    await call.wait_ended()


CALLED = {
    "test_F091_uac-prack-sdp-offer": early,
    "test_F091_uac-prack-sdp-decline": early,
    "test_F092_uac-upd-sdp-offer": early,
    "test_F092_uac-upd-sdp-decline": early,
    "test_F088_uac-inv-without-sdp": at_once,
    "test_F088_uac-inv-and-ack-without-sdp": at_once,
    "test_F085_uac-inv-multiple-require": at_once,
}
"""Scenarios that call us."""

CALLING = [
    "test_F085_uas-forked-100rel",
    "test_F085_uas-prack_fork",
    "test_F087_uas-forked-200",
    "test_F096_uas-422-then-200-bad-se",
    "test_F051_uas-early-bye",
]
"""Scenarios that we call."""
SLOW = ["test_F096_uas-timer-update", "test_F096_uas-timer-reinvite"]
"""The same, with a timer of 90 s."""


MENDED = {
    # A request's number in a dialog is higher than that of the one before (RFC 3261 12.2.1.1):
    # after PRACK and UPDATE a BYE is not number 2 again, and we say so with 500.
    "CSeq: 2 BYE": "CSeq: [cseq] BYE",
    # The To of the last message has a tag already, that of the other fork.
    "[last_To:];tag=UA_": "To: <sip:[service]@[local_ip]:[local_port]>;tag=UA_",
    # SIPp never sounds. Where it does not say so, we ask after it by OPTIONS.
    "a=fmtp:101 0-16\n": "a=fmtp:101 0-16\n      a=inactive\n",
}
"""What is wrong with the scenarios themselves."""


def scenario(reference_data: Path, artifacts: Path, name: str) -> Path:
    """Return a copy without what MENDED knows of."""
    file = f"{name.split('_', 2)[2]}.xml"
    text = (reference_data / SCENARIOS / file).read_text("latin-1")
    for wrong, right in MENDED.items():
        text = text.replace(wrong, right)
    (artifacts / file).write_text(text, "latin-1")
    return artifacts / file


@pytest.mark.reference
@pytest.mark.parametrize("name", CALLED)
async def test_sipp_calls_us(
    sipp: StartSipp, artifacts: Path, reference_data: Path, name: str
) -> None:
    async with desk(artifacts) as us:
        us.phone.on_incoming(CALLED[name])
        caller = await sipp(
            scenario(reference_data, artifacts, name), remote=f"{HOST}:{us.phone.port}"
        )
        result = await caller.finished()
        print("\n".join(us.ladder.lines))
    result.require(1)


@pytest.mark.reference
@pytest.mark.parametrize("name", CALLING)
async def test_we_call_sipp(
    sipp: StartSipp, artifacts: Path, reference_data: Path, name: str
) -> None:
    await _we_call(sipp, artifacts, scenario(reference_data, artifacts, name))


@pytest.mark.reference
@pytest.mark.matrix
@pytest.mark.parametrize("name", SLOW)
async def test_F096_sipp_has_us_refresh(
    sipp: StartSipp, artifacts: Path, reference_data: Path, name: str
) -> None:
    await _we_call(sipp, artifacts, scenario(reference_data, artifacts, name))


async def _we_call(sipp: StartSipp, artifacts: Path, path: Path) -> None:
    callee = await sipp(path)
    async with desk(artifacts, calling=CallConfig(session_expires_s=90)) as us:
        talking = asyncio.create_task(_talk(us, callee.uri))
        result = await callee.finished()
        talking.cancel()
        print("\n".join(us.ladder.lines))
    result.require(1)


async def _talk(us: Desk, uri: str) -> None:
    try:
        call = await us.phone.dial(uri)
    except CallError:
        return
    await call.wait_ended()
