"""`voip doctor`: what it looks at, and when it is content."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from voip_program import FURNITURE, Done

from voip.codecs.core import Codec, CodecFormat, Ways
from voip.codecs.l16 import L16, l16_codec
from voip.codecs.opus import binding
from voip.codecs.registry import CodecEntry, Registry
from voip.errors import CodecError, TransportError
from voip.harness import doctor
from voip.harness.doctor import _OPTIONAL as OPTIONAL
from voip.harness.doctor import Check, Health, examine

Voip = Callable[..., Done]
NEEDED = [
    *("Python", "numpy", "scipy", "sdp-transform", "rich", "typer", "codecs"),
    *("UDP on loopback", "RTP ports"),
]
NAMES = [
    *NEEDED[:7],
    *(
        "libopus",
        *("G.722", "GSM", "Speex", "AMR", "AMR-WB", "G.729"),
        "media tick",
        "SRTP",
        "shipped sounds",
        "UDP on loopback",
        "SIP port 5060",
        "RTP ports",
        "open files",
    ),
    *(
        "address",
        "IPv6",
        "asterisk",
        "baresip",
        "kamailio",
        "rtpengine",
        "sipp",
        "sipvicious",
        "pjsip",
        "tshark",
        "opus-tools",
        "pulseaudio",
    ),
    *("pesq", "pystoi"),
]


def check(name: str, cache: Path = Path("/nonexistent")) -> Check:
    (found,) = [one for one in examine(cache) if one.name == name]
    return found


def test_this_machine_can_make_calls(voip: Voip) -> None:
    done = voip("doctor", "--json")
    assert (done.status, done.stderr) == (0, "")
    assert done.json["ok"] is True
    checks = done.json["checks"]
    assert [one["name"] for one in checks] == NAMES
    assert all(set(one) == {"name", "status", "detail", "hint", "needed"} for one in checks)
    assert [one["name"] for one in checks if one["needed"]] == NEEDED
    assert all(one["status"] == "ok" for one in checks if one["needed"])
    assert all(one["hint"] for one in checks if one["status"] != "ok")


def test_people_read_a_line_for_each(voip: Voip) -> None:
    done = voip("doctor")
    assert (done.status, done.stderr) == (0, "")
    assert not FURNITURE.search(done.stdout)
    title, *lines = done.stdout.splitlines()
    assert title == "what works on this machine"
    assert [line.strip().split(": ")[0] for line in lines] == NAMES
    assert [line for line in lines if line.startswith("  codecs: ok  pcmu, pcma, g722, ilbc")]


def test_what_is_needed_and_amiss_is_status_1(voip: Voip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(doctor, "_LIBRARIES", ("numpy", "no-such-library"))
    done = voip("doctor", "--json")
    assert done.status == 1
    assert done.complaint.startswith("Python: 3.")
    assert done.complaint.endswith("; no-such-library: missing")
    assert (done.json["ok"], done.json["error"]) == (False, done.complaint)
    hints = {one["name"]: one["hint"] for one in done.json["checks"] if one["status"] != "ok"}
    assert hints["no-such-library"] == "pip install no-such-library"


def test_a_codec_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from voip.codecs import g711

    assert check("codecs").health is Health.OK
    assert check("codecs").detail.startswith("pcmu, pcma, g722, ilbc")
    monkeypatch.setattr(g711, "encode_into", lambda pcm, law, out, scratch: out.fill(0))
    found = check("codecs")
    assert (found.health, found.is_fatal) == (Health.FAILED, True)
    assert found.detail == "pcmu, pcma", "those that are wrong"


def test_a_machine_without_libopus_makes_calls_without_opus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binding, "candidates", lambda: iter(()))
    binding.libopus.cache_clear()
    assert check("libopus") == Check(
        "libopus", Health.MISSING, "there is no libopus on this machine", binding.INSTALL
    )
    codecs = check("codecs")
    assert codecs.health is Health.OK
    assert codecs.detail.startswith("pcmu, pcma, g722, ilbc, l16")
    assert "opus" not in codecs.detail


def test_codecs_are_told_by_what_their_libraries_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check("G.722") == Check("G.722", Health.OK, "encoded and decoded")
    for ways, told in (
        (Ways.NONE, (Health.MISSING, "there is no libgsm on this machine")),
        (Ways.DECODE, (Health.OK, "decoded only, so never offered")),
        (Ways.BOTH, (Health.OK, "encoded and decoded")),
    ):
        monkeypatch.setattr(doctor, "default_registry", lambda ways=ways: gsm_can(ways))
        found = check("GSM")
        assert (found.health, found.detail) == told
        assert (found.hint == "install it") == (ways is Ways.NONE)
        assert check("codecs").detail == ("gsm" if ways is Ways.BOTH else "")


def gsm_can(ways: Ways) -> Registry:
    """Return a registry of optional codecs, of which GSM can do so much and the others nothing."""

    def build(format_: CodecFormat) -> Codec:
        if ways is Ways.NONE:
            raise CodecError("there is no libgsm on this machine", hint="install it")
        return l16_codec(replace(L16[0], name="gsm"))

    infos = [replace(L16[0], name=f.name, clock_rate=f.clock_rate) for f in OPTIONAL.values()]
    return Registry(
        CodecEntry(info, build, lambda info=info: ways if info.name == "gsm" else Ways.DECODE)
        for info in infos
    )


def test_the_kernel_is_asked_for_time_stamps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stamped by the kernel" in check("UDP on loopback").detail
    monkeypatch.setattr("voip.net.ports._TIMESTAMPNS", socket.SO_BROADCAST)
    found = check("UDP on loopback")
    assert (found.health, found.is_fatal) == (Health.MISSING, False)
    assert found.detail.startswith("no time stamps of the kernel")


def test_a_packet_that_is_lost_or_cannot_be_sent_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PACKET_S", 0.0)
    monkeypatch.setattr(doctor.UdpPacketIO, "send_one", lambda *a, **k: False)
    assert check("UDP on loopback").is_fatal

    def forbidden(self: object, row: int, host: str) -> None:
        raise TransportError("not permitted")

    monkeypatch.setattr(doctor.UdpPacketIO, "open", forbidden)
    found = check("UDP on loopback")
    assert (found.is_fatal, found.detail) == (True, "not permitted")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_sip_port_in_use_is_told_and_not_fatal(
    monkeypatch: pytest.MonkeyPatch, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "_SIP_PORT", port)
        found = check(f"SIP port {port}")
    assert (found.health, found.is_fatal) == (Health.MISSING, False)
    assert found.detail == "Address already in use"


def test_rtp_ports_in_use_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from voip.net.ports import PortRange

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        even = port - port % 2
        monkeypatch.setattr(doctor, "DEFAULT_PORT_RANGE", PortRange(even, even + 1))
        found = check("RTP ports")
    assert found.is_fatal
    assert found.detail == f"0 of 1 pairs of {even}-{even + 1} are free"


@pytest.mark.parametrize(
    ("limits", "health", "detail"),
    [
        ((1024, 4096), Health.OK, "1024, enough for about 480 calls; may be raised to 4096"),
        ((100, 100), Health.FAILED, "100, enough for about 18 calls; may be raised to 100"),
        ((-1, -1), Health.OK, "unlimited"),
    ],
)
def test_open_files_are_told_in_calls(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], health: Health, detail: str
) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: limits)
    found = check("open files")
    assert (found.health, found.detail, found.is_fatal) == (health, detail, False)


def test_a_machine_without_a_network_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(host: str) -> str:
        raise TransportError(f"there is no route to {host}")

    monkeypatch.setattr(doctor, "local_address_toward", nowhere)
    found = check("address")
    assert (found.health, found.hint) == (Health.MISSING, "calls on this machine only")
    assert check("IPv6").detail in ("on this machine only", "Cannot assign requested address")


def test_peers_are_told_with_their_recorded_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("asterisk/usr/sbin/asterisk", "pjsua2/bin/python", "bin/sipp"):
        path = tmp_path / program
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    record = {"versions": {"asterisk": "22.1.0", "pjsip": "2.14.1", "baresip": "1.0.0"}}
    (tmp_path / "peers.json").write_text(json.dumps(record))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert shutil.which("sipp") is not None

    found = {one.name: (one.health, one.detail) for one in examine(tmp_path)}

    assert found["asterisk"] == (Health.OK, "22.1.0")
    assert found["pjsip"] == (Health.OK, "2.14.1")
    assert found["sipp"] == (Health.OK, "of unknown version")
    assert found["baresip"] == (Health.MISSING, "")
    assert not any(one.is_fatal for one in examine(tmp_path))


@pytest.mark.parametrize("record", ["", "[]", '{"versions": 3}', "\x00"])
def test_a_record_of_peers_that_is_damaged_is_none(tmp_path: Path, record: str) -> None:
    (tmp_path / "peers.json").write_text(record)
    assert check("asterisk", tmp_path).health is Health.MISSING
