"""What `make peers` has installed on this machine, as it wrote it down."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("VOIP_PEER_CACHE", "/var/cache/voip-peers"))


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the peers are; None: not installed. `versions` names them as `peers.json` does.

    kamailio: the proxy, its media relay rtpengine, and kamcmd, which asks it things. opus_tools:
    opusenc, opusdec and opusinfo. sipvicious: svmap, svwar and svcrack. prometheus: the server,
    and promtool.
    """

    asterisk: Path | None
    baresip: Path | None
    kamailio: tuple[Path, Path, Path] | None
    opus_tools: tuple[Path, Path, Path] | None
    pulseaudio: Path | None
    sipp: Path | None
    sipvicious: tuple[Path, Path, Path] | None
    pjsua_python: Path | None
    ilbc_program: Path | None
    """RFC 3951's program as a library, which PJSIP's wheel carries."""
    prometheus: tuple[Path, Path] | None
    versions: dict[str, str]


def installed(cache: Path = CACHE) -> Installed:
    """Look at `peers.json` in `cache`, and at what is really there."""
    record: dict[str, Any] = {}
    if (cache / "peers.json").exists():
        record = json.loads((cache / "peers.json").read_text())
    root = cache / "asterisk"
    python = cache / "pjsua2" / "bin" / "python"
    prometheus, promtool = (cache / "prometheus" / name for name in ("prometheus", "promtool"))
    return Installed(
        asterisk=root if os.access(root / "usr/sbin/asterisk", os.X_OK) else None,
        baresip=_program("baresip"),
        kamailio=_programs("kamailio", "rtpengine", "kamcmd"),
        opus_tools=_programs("opusenc", "opusdec", "opusinfo"),
        pulseaudio=_program("pulseaudio") if _program("parec") else None,
        sipp=_program("sipp"),
        sipvicious=_programs("svmap", "svwar", "svcrack"),
        pjsua_python=python if os.access(python, os.X_OK) else None,
        ilbc_program=next((cache / "pjsua2").rglob("libilbccodec-*.so*"), None),
        prometheus=(prometheus, promtool) if os.access(promtool, os.X_OK) else None,
        versions=dict(record.get("versions", {})),
    )


def _program(name: str) -> Path | None:
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return Path(found) if found else None


def _programs(first: str, second: str, third: str) -> tuple[Path, Path, Path] | None:
    """Programs that are of use together only."""
    a, b, c = _program(first), _program(second), _program(third)
    return (a, b, c) if a and b and c else None
