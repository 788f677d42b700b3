"""An agent of ours without a phone around it: what it says and when is up to the test."""

from __future__ import annotations

from typing import Any, TypeVar

from callers import until
from phone_scene import Network, Phone, Server, uri

from voip.sip.config import AgentConfig
from voip.sip.events import Answered, DialogEnded, ReinviteDone, ReinviteReceived

__all__ = ["SDP", "BareAgent"]

E = TypeVar("E")
SDP = "application/sdp"


class BareAgent:
    """Calls others, changes and ends calls; `told` is what it was told.

    `answer`: what it says to whoever changes a call; without one it is left to the test.
    """

    def __init__(self, server: Server, answer: bytes = b"") -> None:
        self.server = server
        self.told = server.notes
        self.answer = answer

    @classmethod
    async def of(cls, net: Network, answer: bytes = b"", **config: Any) -> BareAgent:
        """Switch one on, at a host of its own. `config`: as of `AgentConfig`."""
        agents: list[BareAgent] = []
        server = await net.server(
            "agent", AgentConfig(**config), lambda event, _: agents[0]._take(event)
        )
        agents.append(cls(server, answer))
        return agents[0]

    def _take(self, event: Any) -> None:
        self.told.append(event)
        if isinstance(event, ReinviteReceived) and self.answer:
            self.act("respond", event.invite, 200, body=self.answer)

    async def begin(self, party: Phone, body: bytes = b"", **more: Any) -> Any:
        """Call somebody."""
        there = await self.server.transport.flow_to(party.host.address, 5060)
        return self.act(
            "invite", uri(party), flow=there, from_=self.server.contact, to=f"<{uri(party)}>",
            contact=self.server.contact, body=body, **more,
        )  # fmt: skip

    async def call(self, party: Phone, body: bytes = b"") -> Answered:
        """Call somebody, and return the answer."""
        return await self.wait(Answered, invite=await self.begin(party, body))

    async def change(self, dialog: Any, body: bytes = b"", status: int = 200) -> ReinviteDone:
        """Offer something else in a call, or ask for an offer, and return the answer."""
        done = await self.wait(ReinviteDone, handle=self.act("reinvite", dialog, body=body))
        assert done.status == status, done
        return done

    async def hang_up(self, *dialogs: Any) -> None:
        for dialog in dialogs:
            self.act("bye", dialog)
        for dialog in dialogs:
            await self.wait(DialogEnded, dialog=dialog)

    def act(self, method: str, *arguments: Any, body: bytes = b"", **more: Any) -> Any:
        """Let the agent do something that may have a description."""
        if body:
            more |= {"body": body, "content_type": SDP}
        result = getattr(self.server.agent, method)(*arguments, now=self.server.now(), **more)
        self.server.transport.flush()
        return result

    async def wait(self, kind: type[E], **attributes: Any) -> E:
        """Let time go by until an event of a kind, with these attributes, has come."""

        def found() -> list[E]:
            return [
                event for event in self.told
                if isinstance(event, kind)
                and all(getattr(event, name) is value for name, value in attributes.items())
            ]  # fmt: skip

        await until(lambda: bool(found()))
        return found()[-1]
