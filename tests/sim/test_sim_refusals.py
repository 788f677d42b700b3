"""Calls that are refused before there is one: counted by why, logged, and told to Prometheus."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections import Counter
from typing import Any

import pytest
from flow_scene import AOR, SERVER, Scene
from prometheus_client.parser import text_string_to_metric_families

from voip import Answering, CallError, Metrics, Softphone
from voip.call import Call
from voip.logs import log_to
from voip.refusals import REFUSALS, RefusedCalls
from voip.sip.message import Request, parse_message

BOB = f"sip:bob@{SERVER}"
STRANGER = "10.0.0.3"


def told(metrics: Metrics, name: str, **whose: str) -> dict[str, float]:
    """What is told of a phone or a proxy under a name, zeros left out, by the label beside."""
    (owner,) = whose.items()
    text = metrics.render()[1].decode()
    return {
        next((value for label, value in sample.labels.items() if label != owner[0]), ""): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and owner in sample.labels.items() and sample.value
    }


def invite(number: int, uri: str, *headers: str, max_forwards: int = 70) -> bytes:
    lines = [
        f"INVITE {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP {STRANGER}:5070;branch=z9hG4bK{number}",
        f"Max-Forwards: {max_forwards}",
        f"From: <sip:m@evil.example>;tag={number}",
        f"To: <{uri}>",
        f"Call-ID: {number}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:m@{STRANGER}:5070>",
        *headers,
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def send(scene: Scene, host: str, *datagrams: bytes) -> None:
    with scene.carol.here():
        loop = asyncio.get_running_loop()
        socket, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=(STRANGER, 5070)
        )
        for data in datagrams:
            socket.sendto(data, (host, 5060))
        await asyncio.sleep(0.5)
        socket.close()


class Lines:
    """What is logged about refusals while it is there."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self._handler = log_to(self._stream, level="info", as_json=True)

    def close(self) -> list[dict[str, Any]]:
        logging.getLogger("voip").removeHandler(self._handler)
        logging.getLogger("voip").setLevel(logging.NOTSET)
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        return [line for line in lines if line.get("event") in ("call_refused", "flood")]


async def unasked(call: Call) -> None:
    raise AssertionError(call)


@pytest.fixture
def lines() -> Any:
    found = Lines()
    yield found
    found.close()


def test_every_refusal_of_a_phone_has_its_reason_and_its_line(lines: Lines) -> None:
    scene, metrics = Scene(0.0), Metrics()
    counts: dict[str, float] = {}
    ended: dict[str, float] = {}

    async def main() -> None:
        nonlocal counts, ended
        bob = await scene.taking("bob", unasked, metrics=metrics)
        with scene.alice.here():
            alice = scene.phone("alice", scene.alice)
            await alice.start()
        for rules, statuses in (
            (Answering(do_not_disturb=True), (486, 486)),
            (Answering(forward_always="carol"), (302,)),
        ):
            bob.answering = rules
            for status in statuses:
                await refused(alice, status)
        bob._desk.handlers.incoming = None
        bob.answering = Answering()
        await refused(alice, 480)
        bob._desk.max_calls = 0
        await refused(alice, 500)  # 503, as a proxy passes it on
        contact = scene.contacts("bob")[0]
        await send(
            scene,
            "10.0.0.2",
            invite(1, contact),
            invite(2, contact, "Require: teleport"),
            invite(3, contact, "Replaces: x;to-tag=1;from-tag=2"),
            invite(4, "sip:nobody@10.0.0.2"),
        )
        counts = told(metrics, "voip_calls_refused_total", phone=BOB)
        ended = told(metrics, "voip_calls_ended_total", phone=BOB)
        await alice.close()
        await bob.close()

    scene.run(main)
    expected = {
        "busy": 2, "forwarded": 1, "unavailable": 1, "overload": 1, "unknown": 2, "protocol": 1,
        "no_call": 1,
    }  # fmt: skip
    assert counts == expected
    assert ended == {}
    of_phone = [line for line in lines.close() if "proxy" not in line]
    assert Counter(line["reason"] for line in of_phone) == expected
    assert all(line["call_id"] == line["sip_call_id"] != "" for line in of_phone)
    of_stranger = {line["call_id"]: line["status"] for line in of_phone if "evil" in line["peer"]}
    assert of_stranger == {"1": 404, "2": 420, "3": 481, "4": 404}


async def refused(phone: Softphone, status: int) -> None:
    with pytest.raises(CallError) as failed:
        await phone.dial("bob", redirect=False)
    assert failed.value.status == status


def test_a_flood_is_counted_and_told_once_a_second(lines: Lines) -> None:
    scene, metrics = Scene(0.0), Metrics()
    counts: list[dict[str, float]] = []

    async def main() -> None:
        bob = await scene.taking("bob", unasked, metrics=metrics)
        contact = scene.contacts("bob")[0]
        for _ in range(2):
            await send(scene, "10.0.0.2", *(invite(number, contact) for number in range(300)))
            counts.append(told(metrics, "voip_calls_refused_total", phone=BOB))
            await asyncio.sleep(5)
        await bob.close()

    scene.run(main)
    first, second = counts
    assert first["unknown"] + first["flood"] == 300
    assert first["unknown"] == 40  # twice the rate that a stranger has
    assert second["unknown"] + second["flood"] == 600
    assert first.keys() == {"unknown", "flood"}
    floods = [line for line in lines.close() if line["event"] == "flood"]
    assert len(floods) == 2
    assert floods[0]["message"].endswith(STRANGER)
    assert floods[1]["left_out"] == first["flood"] - 1


def test_a_proxy_tells_prometheus_of_itself_beside_the_phones(lines: Lines) -> None:
    metrics = Metrics()
    scene = Scene(0.0, metrics=metrics)
    proxy = f"{SERVER}:5060"
    found: dict[str, dict[str, float]] = {}
    phones: dict[str, float] = {}

    async def main() -> None:
        nonlocal phones
        bob, calls = await scene.answering("bob", metrics=metrics)
        with scene.alice.here():
            alice = scene.phone("alice", scene.alice, metrics=metrics)
            await alice.start()
        call, _ = await scene.up(alice, "bob", calls)
        for whom, status in (("nobody", 404), ("carol", 480)):
            with pytest.raises(CallError) as failed:
                await alice.dial(whom)
            assert failed.value.status == status
        await send(
            scene,
            SERVER,
            invite(1, f"sip:x@{SERVER}"),
            invite(2, BOB, max_forwards=0),
            invite(3, "sip:x@192.0.2.7"),
            invite(4, BOB, "Proxy-Require: teleport"),
        )
        for name in (
            "voip_calls_refused_total",
            "voip_proxy_users",
            "voip_proxy_bindings",
            "voip_sip_transactions",
            "voip_calls",
            "voip_sip_dialogs",
        ):
            found[name] = told(metrics, name, proxy=proxy)
        phones = told(metrics, "voip_calls", phone=AOR)
        assert scene.proxy.agent.core.traffic.received.requests["INVITE"] >= 7
        await call.hangup()
        await alice.close()
        assert told(metrics, "voip_proxy_users", proxy=proxy) == {"": 1}
        await bob.close()

    scene.run(main)
    assert found["voip_calls_refused_total"] == {
        "challenged": 3,
        "unknown": 1,
        "unavailable": 2,
        "loop": 1,
        "forbidden": 1,
        "protocol": 1,
    }
    assert found["voip_proxy_users"] == found["voip_proxy_bindings"] == {"": 2}
    assert found["voip_sip_transactions"].keys() <= {"client", "server"}
    assert found["voip_calls"] == found["voip_sip_dialogs"] == {}  # those are phones'
    assert sum(phones.values()) == 1
    assert not told(metrics, "voip_proxy_users", proxy=proxy)  # it is closed
    of_proxy = [line for line in lines.close() if line.get("proxy") == proxy]
    assert Counter(line["reason"] for line in of_proxy) == {
        "unknown": 1, "unavailable": 2, "loop": 1, "forbidden": 1, "protocol": 1,
    }  # fmt: skip


def test_whatever_is_answered_the_reason_is_one_of_a_few() -> None:
    refused = RefusedCalls(lambda: 0.0)
    request = parse_message(invite(1, BOB))
    assert isinstance(request, Request)
    for status in range(300, 700):
        refused.refused(request, status)
    assert tuple(refused.counts) == REFUSALS
    assert sum(refused.counts.values()) == 400
    assert len(REFUSALS) < 20
