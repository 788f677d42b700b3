"""Calls one by one, as JSON over HTTP, against the schema and against what the calls say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from metrics_scene import get

from voip import Metrics, Softphone
from voip.config import MediaConfig, NetworkConfig, TroubleConfig
from voip.events import Silence
from voip.metrics.calls_json import SCHEMA, call_json
from voip.sim import Path, World

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def broken(value: Any, schema: Any, at: str = "") -> list[str]:
    """Where a value is not as a schema has it, for the words that the schema uses."""
    assert not schema.keys() - {
        *("$schema", "title", "type", "enum", "properties", "required", "items"),
        "additionalProperties",
    }
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{at}: {value!r}"]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, _TYPES[kind]) for kind in kinds):
        return [f"{at}: {value!r} is no {kinds}"]
    found = []
    if isinstance(value, dict):
        known = schema["properties"]
        found += [f"{at}: no {name}" for name in schema["required"] if name not in value]
        found += [f"{at}: {name} is not known" for name in value if name not in known]
        for name in value.keys() & known.keys():
            found += broken(value[name], known[name], f"{at}/{name}")
    if isinstance(value, list):
        for n, one in enumerate(value):
            found += broken(one, schema["items"], f"{at}/{n}")
    return found


def test_the_test_of_the_schema_finds_what_is_wrong() -> None:
    assert broken({"phones": []}, SCHEMA) == []
    assert broken({}, SCHEMA) and broken({"phones": 1}, SCHEMA)
    assert broken({"phones": [{"phone": "x", "calls": [{}]}]}, SCHEMA)
    assert broken({"phones": [{"phone": 1, "calls": []}]}, SCHEMA)


def test_V05_every_call_is_told_by_the_schema_with_its_own_figures() -> None:
    world = World(2, path=Path(delay_s=0.02, loss=0.02))
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")
    metrics = Metrics()
    media = MediaConfig(troubles=TroubleConfig(silence_s=3))

    async def main() -> None:
        network = NetworkConfig(bind_port=5060)
        with bob.here():
            callee = Softphone("sip:bob@10.0.0.2", register=False, network=network)
            await callee.start()
        answered: list[Any] = []

        @callee.on_incoming
        async def answer(call: Any) -> None:
            answered.append(call)
            await call.answer()
            await call.wait_ended()

        async with (
            metrics.serve("10.0.0.1", 0, calls=True) as address,
            metrics.serve("10.0.0.1", 0) as without,
            Softphone("sip:alice@10.0.0.1", register=False, media=media, metrics=metrics) as phone,
        ):
            assert (await get(without, "/calls"))[0] == "HTTP/1.1 404 "
            status, fields, body = await get(address, "/calls")
            assert status == "HTTP/1.1 200 " and "application/json" in fields
            assert json.loads(body) == {"phones": [{"phone": "sip:alice@10.0.0.1", "calls": []}]}
            calls = [await phone.dial("sip:bob@10.0.0.2") for _ in range(2)]
            noise = np.random.default_rng(1).normal(0, 3000, 8 * 8000).astype(np.int16)
            await asyncio.gather(calls[1].play(noise), answered[1].play(noise))
            told = json.loads((await get(address, "/calls"))[2])
            assert broken(told, SCHEMA) == []
            (one,) = told["phones"]
            assert [call["id"] for call in one["calls"]] == [call.id for call in calls]
            quiet, loud = one["calls"]
            assert quiet["troubles"] == [
                {"kind": "Silence", "reason": event.reason}
                for event in calls[0]._events
                if isinstance(event, Silence)
            ]
            assert len(quiet["troubles"]) == 1 and loud["troubles"] == []
            for call, shown in zip(calls, one["calls"], strict=True):
                assert shown["direction"] == "outgoing" and shown["state"] == "active"
                assert shown["remote"] == "sip:bob@10.0.0.2" and shown["codec"] == "pcmu"
                assert shown["stats"]["packets_received"] == call.stats.packets_received > 300
                assert shown["stats"]["packets_lost"] == call.stats.packets_lost > 0
                assert shown["mos"] == pytest.approx(call.quality.mos)
                assert shown["media_remote"] == str(call.stats.remote)
            for call in calls:
                await call.hangup()
            assert broken(call_json(calls[0]), _call_schema()) == []
            assert json.loads((await get(address, "/calls"))[2])["phones"][0]["calls"] == []
        with bob.here():
            await callee.close()

    world.run(alice.run(main()))


def _call_schema() -> Any:
    return SCHEMA["properties"]["phones"]["items"]["properties"]["calls"]["items"]
