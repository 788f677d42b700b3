"""`voip call`: what it does, prints, and answers with."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from stalls import ATTEMPTS, STALL_S, Stalls
from voip_program import (
    FURNITURE,
    PATIENCE_S,
    SECRETS,
    Done,
    PbxThread,
    Program,
    begin_early,
    is_of,
)

from voip.config import MediaConfig
from voip.sounds import asset_path

pytestmark = [pytest.mark.realtime, pytest.mark.xdist_group("cli_call")]

Voip = Callable[..., Done]
KEYS = [
    *("answered", "remote", "codec", "setup_ms", "duration_s"),
    *("packets_sent", "packets_received", "packets_lost", "packets_late", "jitter_ms"),
    *("rtt_ms", "mos"),
    *("dtmf_sent", "dtmf_heard", "recording", "ended_by", "reason", "status"),
]


@pytest.fixture
def prompt() -> Iterator[Path]:
    with asset_path("prompt-8k.wav") as path:
        yield path


# ---------------------------------------------------------------- what works


def test_people_read_lines_and_nothing_of_rich_where_there_is_no_terminal(
    voip: Voip, pbx: PbxThread
) -> None:
    done = voip("call", pbx.uri("600"), *pbx.account(), "--duration", "0.3")
    assert (done.status, done.stderr) == (0, "")
    title, *lines = done.stdout.splitlines()
    assert title == f"call to {pbx.uri('600')}"
    figures = dict(line.strip().split(": ", 1) for line in lines)
    assert figures["answered"] == "yes"
    assert figures["codec"] == "pcmu"
    assert figures["set-up time"].endswith(" ms")
    assert figures["digits sent"] == "-"
    assert not FURNITURE.search(done.stdout)


def test_on_a_terminal_there_is_a_table(
    voip: Voip, pbx: PbxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = voip("call", pbx.uri("600"), *pbx.account(), "--duration", "0.1")
    assert done.status == 0
    assert "│" in done.stdout
    assert pbx.uri("600") in done.stdout


def test_it_calls_over_tcp_and_through_a_proxy(voip: Voip, pbx: PbxThread) -> None:
    done = voip(
        *("call", "sip:600@pbx.invalid", "--from", pbx.uri("1001"), "--transport", "tcp"),
        *("--proxy", f"sip:{pbx.server.address}", "--duration", "0.1", "--json"),
    )
    assert (done.status, done.stderr) == (0, "")
    assert pbx.methods == ["INVITE", "ACK", "INVITE", "ACK", "BYE"]


# ---------------------------------------------------------------- passwords


@pytest.mark.parametrize("way", ["option", "file", "environment"])
def test_a_password_works_and_is_seen_nowhere(
    voip: Voip, pbx: PbxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    secret = SECRETS["1001"]
    given: tuple[object, ...] = ()
    if way != "environment":
        monkeypatch.setenv("VOIP_PASSWORD", "something else")
        (tmp_path / "password").write_text(f"{secret}\nand more\n")
        options = {"option": "--password", "file": "--password-file"}
        given = (options[way], secret if way == "option" else tmp_path / "password")
    done = voip(
        *("call", "600", *pbx.account(), *given, "--duration", "0.1"),
        *("--trace", "--pcap", tmp_path / "call.pcap", "--json"),
    )
    assert done.status == 0, done.stderr
    warning = [line for line in done.stderr.splitlines() if line.startswith("voip: ")]
    assert [line[:36] for line in warning] == (
        ["voip: warning: others can read a pas"] if way == "option" else []
    )
    assert "INVITE sip:600@" in done.stderr
    proofs = re.findall(r'\bresponse="([^"]*)"', done.stderr)
    assert proofs and all(set(proof) == {"x"} for proof in proofs)
    captured = (tmp_path / "call.pcap").read_bytes()
    assert b"INVITE sip:600@" in captured
    assert secret not in done.stdout + done.stderr
    assert secret.encode() not in captured
    assert not re.search(rb'\bresponse="[0-9a-f]', captured)


def test_a_name_for_digest_is_enough_of_an_account(voip: Voip, pbx: PbxThread) -> None:
    done = voip("call", pbx.uri("600"), "--auth-user", "1001", "--duration", "0.1", "--json")
    assert done.status == 0, done.stderr


def test_a_telephone_number_is_asked_for_where_the_account_is(voip: Voip, pbx: PbxThread) -> None:
    done = voip("call", "tel:+15551234", *pbx.account())
    assert (done.status, done.complaint) == (1, "not found (404)")  # the PBX has no such number
    done = voip("call", "tel:+15551234", "--json")
    assert (done.status, done.json["error"]) == (1, done.complaint)
    assert "tel:+15551234" in done.complaint


# ---------------------------------------------------------------- what goes wrong


def response_to(request: bytes, status: bytes, *more: bytes) -> bytes:
    """A response to `request` as a server writes it that is none of ours; `more`: Contact, body."""
    _, *headers = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [h for h in headers if h.split(b":")[0] in (b"Via", b"From", b"Call-ID", b"CSeq")]
    to = [h if b";tag=" in h else h + b";tag=1" for h in headers if h.startswith(b"To:")]
    *contact, body = more or (b"",)
    described = [*contact, b"Content-Type: application/sdp"] if body else []
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"SIP/2.0 " + status, *kept, *to, *described, length, b"", body])


@pytest.mark.parametrize(
    ("number", "options", "complaint", "status"),
    [
        ("607", [], "busy here (486)", 486),
        ("608", [], "service unavailable (503)", 503),
        ("999", [], "not found (404)", 404),
        ("1002", [], "temporarily unavailable (480)", 480),
        ("609", ["--timeout", "0.3"], "no answer in 0.3 s (nobody took the call)", 487),
    ],
)
def test_a_call_that_comes_to_nothing_is_one_line_and_status_1(
    voip: Voip, pbx: PbxThread, number: str, options: list[str], complaint: str, status: int
) -> None:
    done = voip("call", pbx.uri(number), *pbx.account(), *options)
    assert (done.status, done.stdout, done.complaint) == (1, "", complaint)
    done = voip("call", pbx.uri(number), *pbx.account(), *options, "--json")
    assert (done.status, done.complaint) == (1, complaint)
    found = done.json
    assert found.pop("code") in ("call", "no-answer")
    assert found == {"answered": False, "error": complaint, "status": status}


def test_a_wrong_and_a_missing_password_are_told_apart(
    voip: Voip, pbx: PbxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOIP_PASSWORD", "wrong")
    address = pbx.server.address
    done = voip("call", "600", *pbx.account(), "--json")
    assert (done.status, done.complaint) == (1, f"401 twice: wrong password for 1001@{address}")
    assert (done.json["code"], done.json["status"]) == ("authentication", 401)
    monkeypatch.delenv("VOIP_PASSWORD")
    done = voip("call", "600", *pbx.account())
    assert done.complaint.startswith(f"401 but no password was given for 1001@{address}")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_nobody_listening_is_said_before_any_timeout(voip: Voip, transport: str) -> None:
    done = voip("call", "sip:x@127.0.0.1:9", "--timeout", "1", "--transport", transport, "--json")
    assert done.status == 1
    assert done.complaint == "nobody listens at 127.0.0.1:9 (check the address and the transport)"
    assert done.json == {
        "answered": False, "error": done.complaint, "code": "unreachable", "status": 503,
    }  # fmt: skip


def test_a_callee_that_is_silent_ends_with_the_timeout(voip: Voip) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        uri = f"sip:x@127.0.0.1:{deaf.getsockname()[1]}"
        done = voip("call", uri, "--timeout", "0.2", "--json")
    assert (done.status, done.json["code"]) == (1, "no-answer")
    assert done.complaint.startswith("no answer in 0.2 s")


def test_what_a_server_says_cannot_command_the_terminal(voip: Voip, pbx: PbxThread) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)

        def refuse() -> None:
            request, caller = server.recvfrom(65536)
            server.sendto(response_to(request, b"486 \x1b[31mRed\x07"), caller)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        uri = f"sip:x@127.0.0.1:{server.getsockname()[1]}"
        done = voip("call", uri, "--timeout", "10", "--trace")
        refusing.join()
    assert done.status == 1
    assert "(486)" in done.stderr.splitlines()[-1]
    assert not set("\x1b\x07") & set(done.stderr)


@pytest.mark.parametrize(
    ("farewell", "reason", "status"),
    [(b"481 Gone", "Gone", 481), (b"", "nobody listens at {address}", 503)],
)
def test_a_callee_that_has_gone_when_we_hang_up_is_a_failure(
    voip: Voip, farewell: bytes, reason: str, status: int
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as callee:
        callee.bind(("127.0.0.1", 0))
        callee.settimeout(PATIENCE_S)
        port = callee.getsockname()[1]
        contact = b"Contact: <sip:x@127.0.0.1:%d>" % port
        body = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        body += b"m=audio 9 RTP/AVP 0\r\n"

        def answer() -> None:
            request, caller = callee.recvfrom(65536)
            callee.sendto(response_to(request, b"200 OK", contact, body), caller)
            while request[:4] != b"ACK ":
                request, caller = callee.recvfrom(65536)
            if not farewell:
                callee.close()  # as a process that dies
                return
            while request[:4] != b"BYE ":
                request, caller = callee.recvfrom(65536)
            callee.sendto(response_to(request, farewell), caller)

        answering = threading.Thread(target=answer)
        answering.start()
        done = voip("call", f"sip:x@127.0.0.1:{port}", "--duration", "0.3", "--json")
        answering.join()
    reason = reason.format(address=f"127.0.0.1:{port}")
    complaint = f"the other side was gone when we hung up: {reason}"
    assert (done.status, done.complaint, done.json["error"]) == (1, complaint, complaint)
    assert (done.json["answered"], done.json["ended_by"]) == (True, "local")
    assert (done.json["reason"], done.json["status"]) == (reason, status)


def test_an_answer_stays_one_whatever_fails_after_it(voip: Voip, pbx: PbxThread) -> None:
    done = voip("call", "600", *pbx.account(), "--record", "/dev/full", "--json")
    assert (done.status, done.json["answered"]) == (1, True)
    assert done.json["error"] == "/dev/full cannot be written: No space left on device"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sip:"], "not a SIP URI: 'sip:'"),
        (["sips:x@127.0.0.1;transport=udp"], "asks for TLS, which UDP has not"),
        (["sips:x@127.0.0.1", "--tls-ca", "none"], "none has no certificate of an authority"),
        (["sip:x@127.0.0.1", "--tls-cert", "none"], "no certificate with its key can be read"),
        (["sip:x@127.0.0.1", "--tls-key", "none"], "a private key is of no use without"),
        (["600"], "'600' is at no domain"),
        (["sip:x@127.0.0.1", "--from", "sip:@"], "not a SIP URI"),
        (["sip:x@127.0.0.1", "--proxy", "sip:"], "not a SIP URI"),
        (["sip:x@127.0.0.1", "--codec", "evs"], "no codec 'evs' (there are pcmu, pcma,"),
        (["sip:x@127.0.0.1", "--codec", ","], "no codec was named"),
        (["sip:x@127.0.0.1", "--rtp-ports", "5"], "--rtp-ports 5 is no range"),
        (["sip:x@127.0.0.1", "--rtp-ports", "9-5"], "the RTP port range 9-5 cannot be used"),
        (["sip:x@127.0.0.1", "--bind", "127.0.0.1:x"], "'x' is no port"),
        (["sip:x@127.0.0.1", "--bind", "127.0.0.1:70000"], "no port 70000"),
        (["sip:x@127.0.0.1", "--bind", "pbx"], "cannot bind 'pbx': not an IP address"),
        (["sip:x@127.0.0.1", "--bind", "192.0.2.77"], "is not an address of this machine"),
        (["sip:x@127.0.0.1", "--public-address", "a b"], "'a b' is no public address"),
        (["sip:x@127.0.0.1", "--transport", "sctp"], "no transport 'sctp' (udp, tcp"),
        (["sip:x@127.0.0.1", "--dtmf", "12x"], "--dtmf 12x: there is no key 'X'"),
        (["sip:x@127.0.0.1", "--play", "none.wav"], "none.wav cannot be read"),
        (["sip:x@127.0.0.1", "--play", "text.wav"], "text.wav is not a WAV file"),
        (["sip:x@127.0.0.1", "--play", "pipe"], "pipe is a pipe"),
        (["sip:x@127.0.0.1", "--record", "pipe"], "pipe cannot be written"),
        (["sip:x@127.0.0.1", "--play", "a.wav", "--record", "./a.wav"], "is what is to be played"),
        (["sip:x@127.0.0.1", "--record", "none/x.wav"], "there is no folder none"),
        (["sip:x@127.0.0.1", "--record", "."], "cannot be written"),
        (["sip:x@127.0.0.1", "--pcap", "none/x.pcap"], "cannot write none/x.pcap"),
        (["sip:x@127.0.0.1", "--from", "a@b", "--password-file", "none"], "cannot read none"),
        (["sip:x@127.0.0.1", "--from", "a@b", "--password-file", "empty"], "empty is empty"),
        (["sip:x@127.0.0.1", "--from", "a@b", "--password-file", "bytes"], "bytes is no text"),
        (["sip:x@127.0.0.1", "--password-file", "text.wav"], "nobody whose it is"),
    ],
)
def test_bad_input_is_one_line_and_status_1(
    voip: Voip, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "text.wav").write_text("this is text\n")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with asset_path("prompt-8k.wav") as prompt:
        (tmp_path / "a.wav").write_bytes(prompt.read_bytes())
    done = voip("call", *arguments, "--json")
    assert done.status == 1
    assert complaint in done.complaint
    assert (done.json["answered"], done.json["error"]) == (False, done.complaint)


def test_a_capture_that_cannot_be_finished_spoils_no_call(
    voip: Voip, pbx: PbxThread, caplog: pytest.LogCaptureFixture
) -> None:
    done = voip(
        *("call", "600", *pbx.account(), "--duration", "0.2", "--pcap", "/dev/full", "--json")
    )
    assert (done.status, done.json["answered"]) == (0, True)
    told = [record.getMessage() for record in caplog.records if "/dev/full" in record.getMessage()]
    assert told == ["the capture /dev/full is incomplete: No space left on device"]


# ---------------------------------------------------------------- calls that take their time


LONG = {
    "600": [
        *("--play", "prompt.wav", "--record", "heard.wav", "--dtmf", "12#"),
        *("--pcap", "call.pcap", "--codec", "pcma,pcmu"),
    ],
    "604": ["--dtmf", "4711"],
    "605": [],
    "606": ["--record", "heard.wav", "--duration", "0.2"],
    "610": ["--play", "prompt.wav", "--dtmf", "1"],
}
"""What is called at once, and how."""


class LongCalls:
    """`voip call`, a program for each number of `LONG`, in a directory of its own."""

    def __init__(self, pbx: PbxThread, home: Path, prompt: Path) -> None:
        self.pbx = pbx
        self.stalls = Stalls()
        self._home = home
        self.programs: dict[str, Program] = {}
        for number in LONG:
            self.directory(number).mkdir()
            (self.directory(number) / "prompt.wav").symlink_to(prompt)
            self.programs[number] = self._call(number)

    def _call(self, number: str) -> Program:
        return Program(
            *("call", self.pbx.uri(number), *self.pbx.account(), "--json", *LONG[number]),
            cwd=self.directory(number),
            VOIP_PASSWORD=SECRETS["1001"],
        )

    def directory(self, number: str) -> Path:
        return self._home / number

    def done(self, number: str) -> Done:
        return self.programs[number].ended()

    def has_recorded(self, number: str, sound: Path) -> bool:
        """Whether a call recorded that; it is placed once more when the machine stood still."""
        heard, stalls = self.directory(number) / "heard.wav", self.stalls
        for _ in range(ATTEMPTS - 1):
            if is_of(heard, sound) or stalls.longest_s < STALL_S:
                break
            print(f"{number} is called again: nothing ran for {1000 * stalls.longest_s:.0f} ms")
            with Stalls() as stalls, self._call(number) as again:
                again.ended()
        return is_of(heard, sound)


@pytest.fixture(scope="module")
def long_calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongCalls]:
    """Calls that take as long as what is heard in them."""
    patient = PbxThread(MediaConfig(jitter_min_ms=200))
    with asset_path("prompt-8k.wav") as prompt, patient as pbx, ExitStack() as running:
        calls = LongCalls(pbx, tmp_path_factory.mktemp("long"), prompt)
        running.enter_context(calls.stalls)
        for program in calls.programs.values():
            running.enter_context(program)
        yield calls


@pytest.fixture(scope="module", autouse=True)
def begun(request: pytest.FixtureRequest) -> None:
    """Let them go on beside the other tests."""
    begin_early(request, "long_calls", "long_calls")


@pytest.mark.long
def test_a_call_is_played_recorded_captured_and_reported(
    long_calls: LongCalls, prompt: Path
) -> None:
    done, pbx = long_calls.done("600"), long_calls.pbx
    assert (done.status, done.stderr) == (0, "")
    report = done.json
    assert list(report) == KEYS
    assert (report["answered"], report["codec"]) == (True, "pcma")
    assert (report["remote"], report["recording"]) == (pbx.uri("600"), "heard.wav")
    assert report["dtmf_sent"] == "12#"
    assert report["packets_sent"] > 150
    assert report["packets_received"] > 100  # the echo begins later, and some are under way
    assert report["setup_ms"] > 0
    assert 1 < report["mos"] <= 4.5
    assert (report["ended_by"], report["status"]) == ("local", 200)
    captured = (long_calls.directory("600") / "call.pcap").read_bytes()
    assert captured.count(b"INVITE sip:600@") >= 2
    assert len(captured) > 172 * (report["packets_sent"] + report["packets_received"])
    digits: dict[str, str] = defaultdict(str)
    for item in pbx.server.heard_digits():
        digits[item.channel] += item.digit
    assert "12#" in digits.values()
    assert long_calls.has_recorded("600", prompt)


@pytest.mark.long
def test_it_lasts_until_the_other_side_hangs_up(long_calls: LongCalls) -> None:
    done = long_calls.done("605")
    assert done.status == 0
    assert done.json["dtmf_heard"] == "1234*0#"
    assert done.json["ended_by"] == "remote"


@pytest.mark.long
def test_early_media_is_recorded(long_calls: LongCalls, prompt: Path) -> None:
    assert long_calls.done("606").status == 0
    assert long_calls.has_recorded("606", prompt)


@pytest.mark.long
def test_digits_that_end_the_call_have_been_pressed(long_calls: LongCalls) -> None:
    done, pbx = long_calls.done("604"), long_calls.pbx
    assert (done.status, done.json["dtmf_sent"]) == (0, "4711")
    assert pbx.do(pbx.server.digits("1001")) == "4711"


@pytest.mark.long
def test_a_callee_that_hangs_up_before_all_was_said_is_a_failure(long_calls: LongCalls) -> None:
    done = long_calls.done("610")
    assert done.status == 1
    assert done.complaint == "the other side hung up before all was played and pressed"
    assert (done.json["answered"], done.json["dtmf_sent"]) == (True, "")
