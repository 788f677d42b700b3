"""`voip devices`: print what sound devices there are."""

from __future__ import annotations

from dataclasses import asdict

from voip.cli import options
from voip.cli.report import print_table
from voip.cli.run import print_json, telling

__all__ = ["devices"]


def devices(as_json: options.JsonFlag = False) -> None:
    """List this machine's sound devices, by the names that --device takes.

    Exit status 1 where they cannot be had: PortAudio is missing, or its Python package.
    """
    from voip.devices.system import SystemDevices  # here: other commands start without it

    with telling(as_json=as_json):
        found = SystemDevices().list()
    if as_json:
        print_json({"ok": True, "devices": [asdict(one) for one in found]})
        return
    print_table(
        "sound devices" if found else "there are no sound devices",
        [
            (
                one.name,
                f"{one.inputs} in, {one.outputs} out",
                f"{one.rate_hz} Hz",
                " and ".join(_defaults(one.is_default_input, one.is_default_output)),
            )
            for one in found
        ],
    )


def _defaults(microphone: bool, speaker: bool) -> list[str]:
    return ["default microphone"] * microphone + ["default speaker"] * speaker
