"""The stage on which the numbered flows are played: two agents, with and without loss.

Flow tests ask for the fixtures `stage`, and say what happens step by step; a step lasts until all
that was lost has been repeated. Everything they know about the network is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from virtual_sip import CONFIG, Net, Path, Phone, assert_nothing_left

from voip.sip.config import AgentConfig
from voip.sip.message import Request, Response

__all__ = ["LOSSES", "Stage", "both_ways", "stage"]

E = TypeVar("E")

LOSSES = (0.0, 0.2)
BAD_DAY_S = 16.0
"""What a request needs at most on the seeds used here, where every fifth datagram is lost."""


@dataclass
class Stage:
    """Alice, who calls, and Bob, on one network."""

    net: Net
    loss: float
    config: AgentConfig = CONFIG

    def __post_init__(self) -> None:
        self.alice = self.net.phone("192.0.2.1", self.config)
        self.bob = self.net.phone("192.0.2.2", self.config)

    def step(self, seconds: float | None = None) -> None:
        """Let everything arrive that is under way."""
        self.net.run(seconds if seconds is not None and not self.loss else self._patience)

    @property
    def _patience(self) -> float:
        return BAD_DAY_S if self.loss else 0.2

    def lose_only_at(self, phone: Phone) -> None:
        """Lose what goes to and from one phone: of a way with many hops, one is bad."""
        net = self.net
        net.path.loss = 0.0
        net.path.drop = lambda _, flow: (
            phone.address in (flow.local, flow.remote) and net.random.uniform(0, 1) < self.loss
        )

    def sent(self, phone: Phone | None = None) -> list[str]:
        """What was sent, in order, repetitions left out: methods, and statuses with methods."""
        lines: list[str] = []
        seen: set[bytes] = set()
        for _, message, flow in self.net.wire:
            raw = message.to_bytes()
            if raw in seen or (phone is not None and flow.local != phone.address):
                continue
            seen.add(raw)
            if isinstance(message, Request):
                lines.append(message.method)
            elif message.status != 100:
                lines.append(f"{message.status} {message.cseq.method}")
        return lines

    def messages(self, what: str) -> list[Request | Response]:
        """The messages that `sent` names so, repetitions left out."""
        found: dict[bytes, Request | Response] = {}
        for _, message, _ in self.net.wire:
            name = (
                message.method
                if isinstance(message, Request)
                else f"{message.status} {message.cseq.method}"
            )
            if name == what:
                found.setdefault(message.to_bytes(), message)
        return list(found.values())

    def only(self, what: str) -> Any:
        """The one message that `sent` names so."""
        found = self.messages(what)
        assert len(found) == 1, f"{len(found)} {what}\n{self.net.trace()}"
        return found[0]


@pytest.fixture(params=LOSSES, ids=lambda loss: f"{loss:.0%} loss")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Two agents; in the end nothing may be left of them."""
    loss = float(request.param)
    stage = Stage(Net(Path(loss=loss), seed=_seed(request.node.name)), loss)
    yield stage
    for phone in stage.net.phones.values():
        for dialog in phone.agent.dialogs:
            if dialog.state.value == "confirmed":
                phone.agent.bye(dialog, now=stage.net.now)
    assert_nothing_left(stage.net)


both_ways = pytest.mark.parametrize("by_caller", [True, False], ids=["by caller", "by callee"])


def _seed(name: str) -> int:
    """A number of a test's own, the same on every machine."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(name)) % 10_007
