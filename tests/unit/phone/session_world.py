"""One call of ours in virtual time: real SIP on both sides, a media engine that only keeps count.

Nothing happens by itself: messages wait on the wire until they are delivered or lost, the engine
answers when it is let, and time passes when it is told to.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from voip.call import Call
from voip.config import MediaConfig
from voip.errors import MediaError
from voip.events import CallEvent, CallState
from voip.media.answers import Opened, StreamStats
from voip.media.commands import CloseStream, Command, ConnectStream, OpenStream, ReadStats, SendDtmf
from voip.media.rings import RingArena
from voip.session.caller import CallPlan
from voip.session.manager import SessionManager
from voip.session.stack import Stack
from voip.sip.agent import SipAgent
from voip.sip.config import AgentConfig
from voip.sip.dialog import Dialog
from voip.sip.events import IncomingInvite, SipEvent
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, make_response, parse_message
from voip.sip.server_invite import ServerInvite
from voip.sip.subscription import Subscription
from voip.sip.uri import SipUri
from voip.types import Address, SeededRandom

OURS, THEIRS = Address("192.0.2.1", 5060), Address("192.0.2.2", 5060)
SDP = "application/sdp"
CONTACTS = {OURS: f"<sip:us@{OURS}>", THEIRS: f"<sip:them@{THEIRS}>"}
GARBAGE = b"v=0\r\nthis is no session description\r\n"

T = TypeVar("T")


def sdp(
    port: int = 40000, *, version: int = 1, formats: str = "0 8", direction: str = "sendrecv"
) -> bytes:
    """A session description of the other side's."""
    return (
        f"v=0\r\no=- 7 {version} IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {formats}\r\na={direction}\r\n"
    ).encode()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is set by hand; what it was told of exceptions nobody took is kept."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.complaints: list[dict[str, Any]] = []
        super().__init__()
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.clock


class CountingDriver:
    """A media engine as far as a session can tell: which streams are open, and what came last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.held = False
        self.streams: set[int] = set()
        self.connected: dict[int, ConnectStream] = {}
        self.refusing: type[Command] | None = None
        self._waiting: list[tuple[Command, asyncio.Future[Any] | None]] = []

    def start(self) -> None: ...

    async def close(self) -> None: ...

    async def apply(self, command: Command) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._submit(command, answer)
        return await answer

    def post(self, command: Command) -> None:
        self._submit(command, None)

    def stats(self, stream: int) -> None:
        return None

    def subscribe(self, callback: Callable[..., None]) -> Callable[[], None]:
        return lambda: None

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def release(self) -> None:
        """Do everything that was held up."""
        waiting, self._waiting = self._waiting, []
        for command, answer in waiting:
            self._do(command, answer)

    def _submit(self, command: Command, answer: asyncio.Future[Any] | None) -> None:
        self._waiting.append((command, answer))
        if not self.held:
            self._loop.call_soon(self.release)

    def _do(self, command: Command, answer: asyncio.Future[Any] | None) -> None:
        try:
            result = self._apply(command)
        except MediaError as error:
            if answer is not None and not answer.done():
                answer.set_exception(error)
        else:
            if answer is not None and not answer.done():
                answer.set_result(result)

    def _apply(self, command: Command) -> Opened | StreamStats | None:
        number = command.stream
        if self.refusing is not None and isinstance(command, self.refusing):
            raise MediaError("refused as told")
        if isinstance(command, OpenStream):
            if number in self.streams:
                raise MediaError(f"stream {number} is open")
            self.streams.add(number)
            return Opened(Address(OURS.host, 10000), Address(OURS.host, 10001))
        if number not in self.streams:
            raise MediaError(f"no stream {number}")
        match command:
            case CloseStream():
                self.streams.discard(number)
                return StreamStats(number)
            case ConnectStream():
                self.connected[number] = command
            case ReadStats():
                return StreamStats(number)
            case SendDtmf():
                pass
        return None


class World:
    """Us with one call, them with an agent that does what a test tells it to."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.driver = CountingDriver(self.loop)
        self.our_agent = SipAgent(AgentConfig(user_agent="us"), SeededRandom(seed))
        self.their_agent = SipAgent(AgentConfig(user_agent="them"), SeededRandom(seed + 1))
        self.their_events: list[SipEvent] = []
        self.wire: list[tuple[bytes, Flow]] = []
        self.carried: list[Request | Response] = []
        self.events: list[CallEvent] = []
        self.reports: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._spawned: set[asyncio.Task[Any]] = set()
        self._flushing = False
        self.stack = Stack(
            self.our_agent,
            self,  # type: ignore[arg-type]
            self.driver,
            RingArena(),
            None,  # type: ignore[arg-type]
            MediaConfig(),
            SeededRandom(seed + 2),
            lambda peer: OURS.host,
        )
        self.manager = SessionManager(
            self.stack,
            on_invite=self._invited,
            on_request=lambda event: None,
            on_media=lambda session, event: None,
        )
        self.call: Call | None = None

    # ------------------------------------------------------------ what a session asks for

    def now(self) -> float:
        return self.loop.clock

    def flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        try:
            while True:
                outgoing, events = self.our_agent.outgoing(), self.our_agent.events()
                self.wire += outgoing
                for event in events:
                    self.manager.on_sip(event)
                if not outgoing and not events:
                    break
        finally:
            self._flushing = False

    # ------------------------------------------------------------ the call

    def _make(self, *, outgoing: bool, remote: NameAddr) -> Call:
        call = Call("1", self.spawn, self.reports.append)

        def emit(event: CallEvent) -> None:
            self.events.append(event)
            call._emit(event)

        session = self.manager.create(outgoing=outgoing, remote=remote, emit=emit)
        call._bind(session, _beside)
        self.call = call
        return call

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)

    def dial(self, **more: Any) -> asyncio.Task[None]:
        """Begin to call them; `more`: of the `CallPlan`."""
        return self.start(self.dial_work(**more))

    def dial_work(self, **more: Any) -> Coroutine[Any, Any, None]:
        """Return what calls them."""
        call = self._make(outgoing=True, remote=NameAddr("", f"sip:them@{THEIRS}"))
        plan = CallPlan(
            lambda flow: NameAddr.parse(CONTACTS[OURS]), lambda uri, flow: CONTACTS[OURS], **more
        )
        return call._session.caller.call(f"sip:them@{THEIRS}", plan, flow=Flow("udp", OURS, THEIRS))

    def _invited(self, invite: ServerInvite) -> None:
        if self.call is not None:
            invite.respond(486, now=self.now())
            return
        call = self._make(outgoing=False, remote=invite.request.from_)
        call._session.incoming(invite, CONTACTS[OURS])

    # ------------------------------------------------------------ them

    def they_call(self, body: bytes | None = None, **more: Any) -> Any:
        body = sdp() if body is None else body
        return self.their(
            self.their_agent.invite,
            f"sip:us@{OURS}",
            flow=Flow("udp", THEIRS, OURS),
            from_=CONTACTS[THEIRS],
            to=CONTACTS[OURS],
            contact=CONTACTS[THEIRS],
            body=body,
            content_type=SDP if body else None,
            **more,
        )

    def their(self, act: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Let their agent do something now."""
        result = act(*arguments, now=self.now(), **named)
        self._take_theirs()
        return result

    def they_respond(self, status: int, body: bytes = b"", invite: Any = None, **more: Any) -> None:
        if invite is None:
            invite = next(e.invite for e in self.their_events if isinstance(e, IncomingInvite))
        self.their(
            self.their_agent.respond,
            invite,
            status,
            contact=CONTACTS[THEIRS],
            body=body,
            content_type=SDP if body else None,
            **more,
        )

    def _take_theirs(self) -> None:
        self.wire += self.their_agent.outgoing()
        self.their_events += self.their_agent.events()

    def told(self, kind: type[T]) -> T:
        """What their agent was told last, of a kind."""
        return next(event for event in reversed(self.their_events) if isinstance(event, kind))

    # ------------------------------------------------------------ letting things happen

    def start(self, work: Awaitable[T]) -> asyncio.Task[T]:
        """Begin something and let it come as far as it comes."""
        task = asyncio.ensure_future(work, loop=self.loop)
        self.tasks.append(task)
        self.settle()
        return task

    def settle(self) -> None:
        """Let the loop run until it has nothing to do at this instant."""

        async def idle() -> None:
            for _ in range(25):
                await asyncio.sleep(0)

        self.loop.run_until_complete(idle())

    def inside(self, act: Callable[[], T]) -> T:
        """Do something in the running loop."""

        async def go() -> T:
            return act()

        return self.loop.run_until_complete(go())

    def deliver(self, at: int = 0) -> Request | Response:
        """Let one message arrive."""
        data, flow = self.wire.pop(at)
        self.arrive(data, flow)
        message = parse_message(data)
        self.carried.append(message)
        return message

    def arrive(self, data: bytes, flow: Flow) -> None:
        back = Flow(flow.transport, flow.remote, flow.local)
        if flow.remote == OURS:
            self.inside(lambda: self.our_agent.receive(data, back, self.now()))
            self.inside(self.flush)
        else:
            self.their_agent.receive(data, back, self.now())
            self._take_theirs()
        self.settle()

    def deliver_all(self) -> None:
        """Let everything arrive, and what is said about it too."""
        for _ in range(200):
            if not self.wire:
                return
            self.deliver()
        raise AssertionError("they go on talking for ever")

    def pass_time(self, seconds: float) -> None:
        """Let time go by, timer by timer; messages stay on the wire."""
        self._until(self.loop.clock + seconds)

    def live(self, seconds: float) -> None:
        """Let time go by with everything arriving at once."""
        end = self.loop.clock + seconds
        self.deliver_all()
        while (due := self._next_timer()) is not None and due < end:
            self._until(due)
            self.deliver_all()
        self._until(end)

    def _next_timer(self) -> float | None:
        timers = [self.our_agent.next_timer(), self.their_agent.next_timer()]
        timers += [handle.when() for handle in self.loop._scheduled if not handle.cancelled()]
        return min((at for at in timers if at is not None), default=None)

    def _until(self, end: float) -> None:
        while (due := self._next_timer()) is not None and due <= end:
            self.loop.clock = max(self.loop.clock, due)
            self.our_agent.handle_timer(self.now())
            self.inside(self.flush)
            self.their_agent.handle_timer(self.now())
            self._take_theirs()
            self.settle()
        self.loop.clock = max(self.loop.clock, end)
        self.settle()

    def up(self, *, outgoing: bool = True) -> Call:
        """Bring the call up."""
        if outgoing:
            self.dial()
            self.deliver_all()
            self.they_respond(200, sdp(), self.told(IncomingInvite).invite)
            self.deliver_all()
        else:
            self.they_call()
            self.deliver_all()
            assert self.call is not None
            self.start(self.call.answer())
            self.deliver_all()
        assert self.call is not None
        assert self.call._session.is_up, self.call
        return self.call

    def our_dialog(self) -> Any:
        """Our call's dialog as they know it."""
        return self.their_agent.dialogs[0]

    def names(self) -> list[str]:
        """The call's events by name."""
        return [type(event).__name__ for event in self.events]

    def close(self) -> None:
        """End the loop; nothing may be left that was never taken."""
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        self.settle()
        self.tasks.clear()
        gc.collect()
        self.loop.close()
        asyncio.set_event_loop(None)
        assert not self.loop.complaints, self.loop.complaints


def error_of(task: asyncio.Task[Any]) -> Any:
    assert task.done(), "it never came back"
    error = task.exception()
    assert error is not None
    return error


def ports(world: World) -> list[int]:
    """Where the sound goes."""
    return [c.rtp.port if c.rtp else 0 for c in world.driver.connected.values()]


def carried(world: World) -> list[str]:
    """What was delivered, by method or by status and method."""
    return [
        m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}"
        for m in world.carried
        if not (isinstance(m, Response) and m.status == 100)
    ]


def last(world: World, what: str) -> Request | Response:
    return [m for m, name in zip(_all(world), carried(world), strict=True) if name == what][-1]


def _all(world: World) -> list[Request | Response]:
    return [m for m in world.carried if not (isinstance(m, Response) and m.status == 100)]


def version(message: Request | Response) -> int:
    """The version in the o= line."""
    [line] = [x for x in message.body.decode().splitlines() if x.startswith("o=")]
    return int(line.split()[2])


def on_the_wire(world: World) -> list[str | int]:
    """What is under way, by method or status."""
    messages = [parse_message(data) for data, _ in world.wire]
    return [m.method if isinstance(m, Request) else m.status for m in messages]


def respond_as(world: World, tag: str, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer our INVITE as one of several callees behind a proxy."""
    response = make_response(
        world.call._session.invite_request,
        status,
        to_tag=tag,
        headers=[("Contact", CONTACTS[THEIRS]), *headers.items()],
        body=body,
        content_type=None if headers.get("Content-Type") else (SDP if body else None),
    )
    world.arrive(response.to_bytes(), Flow("udp", THEIRS, OURS))


def assert_over(world: World) -> None:
    """The call has ended once, and nothing of it is left."""
    names = world.names()
    assert world.call.state is CallState.ENDED, world.call
    assert names.count("CallEnded") == 1, names
    assert names[-1] == "CallEnded", names
    assert [type(event).__name__ for event in world.call._events] == names, names
    assert world.driver.streams == set(), world.driver.streams
    assert world.stack.sessions == {}, world.stack.sessions
    assert len(world.manager) <= 1, "who made it forgets it"


def dialled(world: World, **more: Any) -> asyncio.Task[None]:
    world.dial(**more)
    waiting = world.start(world.call.wait_answered(30))
    world.deliver_all()
    return waiting


async def _beside(dialog: Dialog, target: SipUri) -> Subscription:
    raise AssertionError(f"{target} is referred to in the call")
