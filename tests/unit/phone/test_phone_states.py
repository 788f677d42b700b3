"""A call against everything at once, at random: the life of a call as row M02 wants it.

Both ends speak real SIP in virtual time. Messages arrive late, twice, out of order or never; the
media engine answers when it likes; the application does whatever it likes, and gives up waiting.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypotheses import examples
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from session_world import GARBAGE, SDP, World, sdp

from voip.errors import VoipError
from voip.events import CallState
from voip.session.session import CallSession
from voip.session.states import allowed
from voip.sip.events import Answered, IncomingInvite, ReinviteReceived

DESCRIPTIONS = st.sampled_from(
    [
        b"",
        GARBAGE,
        sdp(),
        sdp(41000, version=2),
        sdp(0, version=3),
        sdp(formats="18", version=4),
        sdp(version=5, direction="sendonly"),
        sdp(version=6, direction="inactive"),
    ]
)
ACTIONS = {
    "ring": lambda call: call.ring(),
    "progress": lambda call: call.progress(),
    "answer": lambda call: call.answer(),
    "hold": lambda call: call.hold(),
    "resume": lambda call: call.resume(),
    "wait_answered": lambda call: call.wait_answered(20.0),
    "wait_ended": lambda call: call.wait_ended(),
    "send_dtmf": lambda call: call.send_dtmf("12"),
    "collect": lambda call: call.collect(2, timeout=5.0),
    "mute": lambda call: call.mute(),
    "echo": lambda call: call.echo(),
    "measure": lambda call: call.measure(),
}
LAST_ACTIONS = {
    "reject": lambda call: call.reject(486),
    "cancel": lambda call: call.cancel(),
    "hangup": lambda call: call.hangup(),
}


class CallMachine(RuleBasedStateMachine):
    """One call of ours, from its first INVITE to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.invite: Any = None  # theirs, where they call
        self.states: list[CallState] = []

    @property
    def session(self) -> CallSession | None:
        return self.world.call._session if self.world.call else None

    def start(self, work: Any) -> None:
        self.world.start(work)

    # ------------------------------------------------------------ how it begins

    @initialize(
        stage=st.sampled_from(["dialling", "called", "up", "up", "up and called"]),
        offer=DESCRIPTIONS,
        held=st.booleans(),
        arrived=st.integers(0, 3),
    )
    def begin(self, stage: str, offer: bytes, held: bool, arrived: int) -> None:
        world = self.world
        match stage:
            case "dialling":
                world.driver.held = held
                self.start(self._dial())
            case "called":
                self.invite = world.they_call(offer)
                world.deliver()
            case _:
                world.up(outgoing=stage == "up")
        world.driver.held = held
        for _ in range(arrived):
            if world.wire:
                world.deliver()

    async def _dial(self) -> None:
        """What a phone does: whoever cannot send an INVITE ends the call."""
        task = self.world.dial_work()
        try:
            await task
        except VoipError as error:
            self.world.call._session.fail(str(error))

    # ------------------------------------------------------------ the network and the engine

    @precondition(lambda self: self.world.wire)
    @rule(at=st.integers(0, 3), fate=st.sampled_from(["arrives"] * 8 + ["twice", "lost"]))
    def message(self, at: int, fate: str) -> None:
        at = min(at, len(self.world.wire) - 1)
        if fate == "lost":
            del self.world.wire[at]
            return
        if fate == "twice":
            self.world.wire.append(self.world.wire[at])
        self.world.deliver(at)

    @rule()
    def all_arrives(self) -> None:
        self.world.deliver_all()

    @rule(held=st.booleans())
    def engine(self, held: bool) -> None:
        self.world.driver.held = held
        self.world.driver.release()
        self.world.settle()

    @rule(seconds=st.sampled_from([0.1, 0.3, 0.6, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.3, 2.0, 5.0, 40.0]))
    def time_passes_and_all_arrives(self, seconds: float) -> None:
        self.world.live(seconds)

    # ------------------------------------------------------------ the application

    @precondition(lambda self: self.world.call)
    @rule(name=st.sampled_from(sorted(ACTIONS)))
    def do(self, name: str) -> None:
        self.start(ACTIONS[name](self.world.call))

    @precondition(lambda self: self.world.call)
    @rule(name=st.sampled_from(["reject", "cancel", "hangup"]), soon=st.booleans())
    def do_the_last_thing(self, name: str, soon: bool) -> None:
        if soon or len(self.states) > 15:
            self.start(LAST_ACTIONS[name](self.world.call))

    @precondition(lambda self: any(not task.done() for task in self.world.tasks))
    @rule(which=st.integers(0, 10))
    def give_up_waiting(self, which: int) -> None:
        waiting = [task for task in self.world.tasks if not task.done()]
        waiting[which % len(waiting)].cancel()
        self.world.settle()

    @precondition(lambda self: self.world.call)
    @rule()
    def ask_after_them(self) -> None:
        self.world.inside(self.session.presence.ask)

    # ------------------------------------------------------------ the other side

    def _theirs(self, act: Any, *arguments: Any, **named: Any) -> None:
        try:
            self.world.their(act, *arguments, **named)
        except VoipError:  # their call is not in a state for that
            self.world._take_theirs()

    @rule(status=st.sampled_from([100, 180, 180, 183, 183, 200, 200, 200, 486]), body=DESCRIPTIONS)
    def they_respond(self, status: int, body: bytes) -> None:
        invites = [e.invite for e in self.world.their_events if isinstance(e, IncomingInvite)]
        invites += [e.invite for e in self.world.their_events if isinstance(e, ReinviteReceived)]
        if invites:
            try:
                self.world.they_respond(status, body if 180 <= status < 300 else b"", invites[-1])
            except VoipError:
                self.world._take_theirs()

    @rule()
    def they_cancel(self) -> None:
        if self.invite is not None:
            self._theirs(self.world.their_agent.cancel, self.invite)

    @rule(body=DESCRIPTIONS)
    def they_acknowledge(self, body: bytes) -> None:
        for event in [e for e in self.world.their_events if isinstance(e, Answered)]:
            self._theirs(
                self.world.their_agent.ack,
                event.dialog,
                body=body,
                content_type=SDP if body else None,
            )

    @precondition(lambda self: self.world.their_agent.dialogs)
    @rule(body=DESCRIPTIONS)
    def they_change(self, body: bytes) -> None:
        self._theirs(
            self.world.their_agent.reinvite,
            self.world.our_dialog(),
            body=body,
            content_type=SDP if body else None,
        )

    @precondition(lambda self: self.world.their_agent.dialogs)
    @rule(soon=st.sampled_from([False, False, True]))
    def they_hang_up(self, soon: bool) -> None:
        if soon or len(self.states) > 15:
            self._theirs(self.world.their_agent.bye, self.world.our_dialog())

    # ------------------------------------------------------------ what always holds

    @invariant()
    def states_follow_the_table(self) -> None:
        if self.session is None:
            return
        state = self.session.state
        if self.states and state is not self.states[-1]:
            before = self.states[-1]
            # one step of the machine may be several of the call
            assert _reachable(before, state), f"{before.value} -> {state.value}"
        self.states.append(state)
        assert (self.session.end is not None) == (state is CallState.ENDED)

    @invariant()
    def events_are_in_order(self) -> None:
        names = self.world.names()
        assert names.count("CallEnded") <= 1
        assert "CallEnded" not in names[:-1]
        assert names.count("Answered") <= 1
        for name in ("Ringing", "EarlyMedia"):
            assert names.count(name) <= 1
        if "Answered" in names:
            assert not {"Ringing", "EarlyMedia"} & set(names[names.index("Answered") :])
        holds = [name for name in names if name in ("HeldByRemote", "ResumedByRemote")]
        assert holds == ["HeldByRemote", "ResumedByRemote"] * (len(holds) // 2) + (
            ["HeldByRemote"] * (len(holds) % 2)
        )
        assert not holds or names.index("Answered") < names.index(holds[0])

    @invariant()
    def an_answered_call_has_a_codec(self) -> None:
        if self.session is not None and self.session.is_up:
            assert self.session.media.agreed is not None
            assert self.session.dialog is not None

    def teardown(self) -> None:
        world = self.world
        if world.call is not None:
            world.driver.held = False
            world.driver.release()
            world.settle()
            ending = world.start(world.call.hangup())
            world.live(6.0)
            assert ending.done(), "hangup never came back"
            for task in [*world.tasks]:
                assert task.done(), f"{task} never came back"
                _check_outcome(task)
            assert world.call.state is CallState.ENDED
            assert world.names().count("CallEnded") == 1
            assert world.names()[-1] == "CallEnded"
            assert [type(event).__name__ for event in world.call._events] == world.names()
            assert world.driver.streams == set()
            assert world.stack.sessions == {}
            world.live(140.0)  # 64*T1 for each of a BYE that waits for an ACK, and its answer
            assert world.our_agent.dialogs == []
            assert world.our_agent.transactions == 0
        world.close()


def _reachable(before: CallState, after: CallState) -> bool:
    steps = {before}
    for _ in CallState:
        steps |= {new for old in steps for new in CallState if allowed(old, new)}
    return after in steps


def _check_outcome(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        error = task.exception()
        assert error is None or isinstance(error, VoipError), repr(error)


TestCallMachine = CallMachine.TestCase
TestCallMachine.settings = examples(
    60, stateful_step_count=30, derandomize=True, suppress_health_check=list(HealthCheck)
)
