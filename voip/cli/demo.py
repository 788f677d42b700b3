"""`voip demo`: a real call to a PBX in the same process, heard and measured."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Final

import typer

from voip.call import Call
from voip.cli import options
from voip.cli.report import print_call
from voip.cli.run import INTERRUPTED, Interrupted, fail, print_json, run, unless_stopped
from voip.config import NetworkConfig
from voip.errors import VoipError
from voip.phone import Softphone
from voip.sounds import asset_path
from voip.types import SecureRandom

__all__ = ["demo"]

USER: Final = "1001"
NUMBER: Final = "600"
DIGITS: Final = "4711#"
SPEECH: Final = "speech-8k.wav"
RECORDING: Final = "voip-demo.wav"
LINGER_S: Final = 0.5
"""How long the call goes on after the last digit: what comes back is heard."""
REPORTS_S: Final = 13.0
"""By then both sides have reported by RTCP; a call that knows its round trip ends sooner."""
POLL_S: Final = 0.25
ALLOWED_SHARE: Final = 0.3
"""Share of the speech that a busy machine may spoil: it is judged what is heard, not how well."""

Say = Callable[[str], None]


@dataclass(slots=True)
class _Outcome:
    """What is known of the call, so far."""

    call: Call | None = None
    setup_s: float | None = None
    dtmf_sent: str | None = None
    dtmf_heard: str | None = None
    recording: Path | None = None

    def report(self) -> dict[str, Any]:
        """Return what `--json` prints; what is not known is None."""
        call = self.call if self.setup_s is not None else None
        stats = call.stats if call else None
        return {
            "answered": call is not None,
            "codec": call.codec if call else None,
            "setup_ms": _rounded(None if self.setup_s is None else 1000 * self.setup_s),
            "packets_sent": stats.packets_sent if stats else None,
            "packets_received": stats.packets_received if stats else None,
            "packets_lost": stats.packets_lost if stats else None,
            "jitter_ms": _rounded(stats.jitter_ms if stats else None),
            "rtt_ms": _rounded(stats.rtt_ms if stats else None),
            "mos": _rounded(call.quality.mos if call else None),
            "dtmf_sent": self.dtmf_sent,
            "dtmf_heard": self.dtmf_heard,
            "recording": None if self.recording is None else str(self.recording),
        }


def demo(
    pcap: options.PcapFile = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="F.wav", help="Record here. Default: voip-demo.wav."),
    ] = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Place a call to a PBX of our own on loopback, and say what was heard: about 10 s.

    Registers with digest, calls 600 (echo), plays human speech, presses 4711# (RFC 4733), records
    what comes back: to voip-demo.wav in the current directory, or in one for temporary files where
    that is not writable. Exit status 0: the call was answered, the speech is in the recording, and
    the PBX heard the digits. 130: given up by Ctrl-C.
    """
    path = (record or _default_recording()).absolute()
    outcome = _Outcome()

    async def command(stop: asyncio.Event) -> bool:
        with _progress(quiet=as_json) as say:
            try:
                await unless_stopped(stop, _place(outcome, path, pcap, say), "its end")
            except Interrupted:
                return False
            return True

    def failed(message: str, error: VoipError) -> dict[str, Any]:
        return {**outcome.report(), "error": message, "code": error.code}

    finished = run(command, as_json=as_json, failed=failed)
    report = outcome.report()
    fault = "; ".join(_faults(outcome)) if finished else "interrupted"
    if as_json:
        print_json({**report, "error": fault} if fault else report)
    else:
        print_call(report, f"call to {NUMBER}, the echo of the embedded PBX")
    if fault:
        fail(fault, 1 if finished else INTERRUPTED)


async def _place(outcome: _Outcome, recording: Path, pcap: Path | None, say: Say) -> None:
    """Start the PBX, register, call, and take everything down again."""
    from voip.harness.pbx import EmbeddedPbx  # here: other commands start without it

    password = SecureRandom().token(32)
    say("starting a PBX")
    async with EmbeddedPbx(users={USER: password}) as pbx:
        say(f"registering {USER} with digest")
        async with Softphone(
            pbx.uri(USER),
            password=password,
            network=NetworkConfig(bind_host=pbx.host),
            pcap=pcap,
        ) as phone:
            say(f"calling {NUMBER}")
            began = monotonic()
            outcome.call = call = await phone.dial(NUMBER)
            outcome.setup_s = monotonic() - began
            heard = pbx.mark()
            try:
                async with call:
                    await _converse(outcome, call, recording, say)
            finally:
                outcome.dtmf_heard = "".join(item.digit for item in pbx.heard_digits(heard))


async def _converse(outcome: _Outcome, call: Call, recording: Path, say: Say) -> None:
    """Speak, press digits, record; stay until both sides have reported."""
    began = monotonic()
    async with call.record(recording):
        outcome.recording = recording
        say("speaking; the PBX sends it back")
        with asset_path(SPEECH) as speech:
            await call.play(speech)
        say(f"pressing {DIGITS}")
        await call.send_dtmf(DIGITS)
        outcome.dtmf_sent = DIGITS
        await asyncio.sleep(LINGER_S)
    say("waiting for the reports of both sides (RTCP)")
    while (await call.measure()).rtt_ms is None and monotonic() - began < REPORTS_S:
        await asyncio.sleep(POLL_S)


def _faults(outcome: _Outcome) -> list[str]:
    """Say what did not happen as it should have."""
    faults = []
    if outcome.dtmf_heard != DIGITS:
        faults.append(f"{DIGITS} was pressed, and the PBX heard {outcome.dtmf_heard or 'nothing'}")
    fault = _missing_speech(outcome.recording) if outcome.recording is not None else "no recording"
    if fault:
        faults.append(fault)
    return faults


def _missing_speech(recording: Path) -> str:
    """Return "" where the speech is in the recording, else what is there instead."""
    from voip.harness.audio import Sound  # here: SciPy loads longer than all of the rest
    from voip.harness.grade import Bar, grade_waveform

    with asset_path(SPEECH) as speech:
        grade = grade_waveform(
            Sound.read(speech), Sound.read(recording), bar=Bar(allowed=ALLOWED_SHARE)
        )
    faults = list(grade.faults)
    if (grade.coverage or 0.0) < 1 - ALLOWED_SHARE:
        faults.append(f"it holds {grade.coverage or 0.0:.0%} of it")
    return f"the speech is not in {recording}: {'; '.join(faults)}" if faults else ""


def _default_recording() -> Path:
    """Return voip-demo.wav in the current directory, or in a new one for temporary files."""
    here = Path.cwd() / RECORDING
    if os.access(here if here.exists() else here.parent, os.W_OK):
        return here
    return Path(tempfile.mkdtemp(prefix="voip-demo-")) / RECORDING


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Say]:
    """Tell a person at a terminal what is being done; nobody else."""
    if quiet or not sys.stdout.isatty():
        yield lambda text: None
        return
    from rich.console import Console  # here: nothing of it is used elsewhere than at a terminal

    with Console().status("") as status:
        yield lambda text: status.update(f"{text} ...")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
