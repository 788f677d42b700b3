"""`--metrics`, `--log-level` and `--log-json`: what a program that watches a command gets."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from voip_program import SECRETS, Done, PbxThread, Program

from voip.config import NetworkConfig
from voip.phone import Softphone

pytestmark = [pytest.mark.long, pytest.mark.realtime]

Voip = Callable[..., Done]
KEYS = "47*11#08*15#"


async def test_answering_is_scraped_and_logged_as_json(tmp_path: Path) -> None:
    options = ("--bind", "127.0.0.1:0", "--echo", "--calls", "1", "--json")
    watched = ("--metrics", "0", "--log-json", "--log-level", "debug")
    with Program("answer", *options, *watched, cwd=tmp_path) as program:
        stderr = program.process.stderr
        assert stderr is not None
        said: list[str] = []
        while not any("listening on tcp" in line for line in said):
            said.append(stderr.readline())
            assert said[-1], said
        text = "".join(said)
        metrics = re.search(r"http://127\.0\.0\.1:\d+/metrics", text)
        port = re.search(r"listening on udp 127\.0\.0\.1:(\d+)", text)
        assert metrics is not None
        assert port is not None
        async with (
            Softphone(network=NetworkConfig(bind_host="127.0.0.1")) as phone,
            await phone.dial(f"sip:bob@127.0.0.1:{port[1]}") as call,
        ):
            await call.send_dtmf(KEYS, duration_ms=60)
            with urllib.request.urlopen(metrics[0], timeout=30) as answer:
                scraped = answer.read().decode()
        done = program.ended()

    calls = [
        sample
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name == "voip_calls" and sample.value
    ]
    assert [(call.labels["direction"], call.value) for call in calls] == [("incoming", 1)]
    assert done.json["answered"] == 1
    assert done.json["calls"][0]["dtmf_heard"] == KEYS
    lines = [json.loads(line) for line in (*said, *done.stderr.splitlines())]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    of_call = [line for line in lines if line["logger"] == "voip.call"]
    assert len(of_call) > len(KEYS)
    assert len({line["call_id"] for line in of_call}) == 1
    assert of_call[-1]["event"] == "call_ended"
    assert of_call[-1]["keys_heard"] == len(KEYS)
    assert KEYS not in "".join(said) + done.stderr


def test_a_call_is_logged_as_text_beside_its_report(pbx: PbxThread, tmp_path: Path) -> None:
    arguments = ("call", "600", *pbx.account(), "--duration", "0", "--json", "--log-level", "info")
    with Program(*arguments, cwd=tmp_path, VOIP_PASSWORD=SECRETS["1001"]) as program:
        done = program.ended()
    assert done.json["answered"] is True
    lines = done.stderr.splitlines()
    events = [re.search(r" INFO voip\.call: .* event=(\w+) ", line) for line in lines]
    assert [found[1] for found in events if found] == [
        "call_started",
        "call_answered",
        "call_ended",
    ]
    assert all(" call_id=" in line for line in lines if " voip.call: " in line)
    assert SECRETS["1001"] not in done.stderr


def test_a_failure_is_a_line_of_json_too(tmp_path: Path) -> None:
    arguments = ("call", "sip:bob@127.0.0.1:9", "--log-json", "--log-level", "error")
    with Program(*arguments, cwd=tmp_path) as program:
        done = program.ended()
    assert done.status == 1
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["message"].startswith("nobody listens at 127.0.0.1:9")
    assert line["logger"] == "voip.cli"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("127.0.0.1", "--metrics 127.0.0.1 names no port"),
        ("127.0.0.1:x", "--metrics 127.0.0.1:x: 'x' is no port"),
        ("127.0.0.1:99999", "no port 99999"),
        ("192.0.2.1:9464", "cannot listen for HTTP at 192.0.2.1:9464"),
    ],
)
def test_an_address_that_cannot_be_is_refused(voip: Voip, given: str, complaint: str) -> None:
    done = voip("register", "sip:1001@127.0.0.1:9", "--once", "--metrics", given)
    assert (done.status, done.stdout) == (1, "")
    assert done.complaint.startswith(complaint)


def test_a_level_that_is_none_is_wrong_use(voip: Voip) -> None:
    done = voip("answer", "--log-level", "loud")
    assert (done.status, done.stdout) == (2, "")
    assert "loud" in done.complaint
