"""An asyncio event loop in virtual time: ordinary asyncio programs run in it unchanged.

Nothing waits. When no callback is ready the clock jumps to the next timer; when there is none
either, the program would wait for ever, and is told so. Sockets are those of a simulated network,
executors run in place.
"""

from __future__ import annotations

import asyncio
import heapq
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from voip.errors import SimulationError
from voip.ip import literal, version_of
from voip.sim.connections import open_server, open_stream
from voip.sim.context import CURRENT_HOST, current_host
from voip.sim.datagrams import open_datagrams
from voip.types import Address

if TYPE_CHECKING:
    from voip.platform import Platform
    from voip.sim.world import World

__all__ = ["EPOCH", "SimLoop"]

EPOCH = 1000.0
"""What `time()` says when a world begins."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Timer(asyncio.TimerHandle):
    """Timers of one instant are due in the order in which they were set."""

    __slots__ = ("_local", "_serial")

    _when: float
    _scheduled: bool

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimLoop,
        context: Context | None,
        local: float,
        serial: int,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self._local = local
        self._serial = serial

    def when(self) -> float:
        """Return when it is due on the clock of the host that set it."""
        return self._local

    def __lt__(self, other: _Timer) -> bool:  # type: ignore[override]
        """Whether it comes before another one."""
        return (self._when, self._serial) < (other._when, other._serial)


class _Future(asyncio.Future[T]):
    """Hashes by number and not by address in memory: a set of them has an order that repeats."""

    def __init__(self, number: int, *, loop: SimLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[T]):
    """Hashes by number, as `_Future` does."""

    def __init__(
        self,
        number: int,
        work: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        loop: SimLoop,
        name: str | None,
        context: Context | None,
    ) -> None:
        self._number = number  # first: a task is put into sets while it is being made
        super().__init__(work, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """The loop of one `World`; made and run by it.

    `time()` is what the clock of the current host shows, and `call_at` takes the same; on no host
    it is the world's time. What an executor is given runs at once, in the calling thread, and
    takes no time: it must not wait for anything that another task does. There are no signals,
    pipes, subprocesses, and no real sockets.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[_Timer]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.limit = float("inf")
        """The world's time after which the simulation is given up."""
        self._now = EPOCH
        self._serial = count(1)
        self._numbers = count(1)
        self._tasks: list[asyncio.Task[Any]] = []
        self._many_tasks = 256

    # ------------------------------------------------------------ time

    def world_time(self) -> float:
        """Return the time of the world, whatever the clocks of its hosts show."""
        return self._now

    def time(self) -> float:
        """Return the time on the clock of the current host, or the world's."""
        host = CURRENT_HOST.get()
        return self._now if host is None else host.clock.local(self._now)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back after `delay` seconds of the current host."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back when the clock of the current host shows `when`."""
        host = CURRENT_HOST.get()
        return self._schedule(
            when if host is None else host.clock.world(when), when, callback, args, context
        )

    def at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at a time of the world."""
        return self._schedule(when, when, callback, args, context)

    def _schedule(
        self,
        when: float,
        local: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> _Timer:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        timer = _Timer(when, callback, args, self, context, local, next(self._serial))
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _run_once(self) -> None:
        """Run what is ready; where nothing is, jump to the next timer first."""
        self._drop_cancelled()
        timers, ready = self._scheduled, self._ready
        if not ready and not self._stopping:
            if not timers:
                raise SimulationError(
                    f"at {self._now - EPOCH:g} s everybody waits, and nothing will happen any "
                    f"more: {self._who_waits()}",
                    hint="somebody waits for what nobody does",
                )
            self._now = max(self._now, timers[0]._when)
            if self._now > self.limit:
                raise SimulationError(
                    f"the world is {self._now - EPOCH:g} s old, and its program has not ended: "
                    f"{self._who_waits()}",
                    hint="give it more time: run(..., limit_s=...)",
                )
        while timers and timers[0]._when <= self._now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _drop_cancelled(self) -> None:
        timers = self._scheduled
        if len(timers) > 100 and self._timer_cancelled_count > len(timers) // 2:
            for timer in timers:
                if timer.cancelled():
                    timer._scheduled = False
            timers[:] = [timer for timer in timers if not timer.cancelled()]
            heapq.heapify(timers)
            self._timer_cancelled_count = 0
        while timers and timers[0].cancelled():
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1

    def _who_waits(self) -> str:
        """Name the tasks, and where each of them waits."""
        found = []
        for task in sorted(asyncio.all_tasks(self), key=hash)[:8]:
            frames = task.get_stack(limit=1)
            where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "?"
            found.append(f"{task.get_name()} at {where}")
        return ", ".join(found) or "no task is left"

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    # ------------------------------------------------------------ tasks and executors

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future."""
        return _Future(next(self._numbers), loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        """Return a task, which runs on the host that makes it unless `context` says otherwise."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        number = next(self._numbers)
        task = _Task(number, coro, loop=self, name=str(name or f"task {number}"), context=context)
        self._keep(task)
        return task

    def _keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done: when garbage is collected must change nothing."""
        self._tasks.append(task)
        if len(self._tasks) >= self._many_tasks:
            self.drop_done_tasks()

    def drop_done_tasks(self) -> None:
        """Let go of tasks that are done, and of what they raised: it happens by itself, later."""
        self._tasks = [task for task in self._tasks if not task.done()]
        self._many_tasks = 2 * len(self._tasks) + 256

    def run_in_executor(
        self, executor: Any, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call `func` at once; the future is done when this returns."""
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            done.set_exception(error)
        return done

    # ------------------------------------------------------------ what a phone stands on

    def voip_platform(self) -> Platform:
        """Return what a `Softphone` on the current host stands on."""
        return current_host().platform

    # ------------------------------------------------------------ the network

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 (it is called by that name)
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look a name up in `world.dns`."""
        name = host.decode() if isinstance(host, bytes) else host
        number = int(port or 0)
        kind = socket.SocketKind(type or socket.SOCK_STREAM)
        found = []
        for address in self._addresses(name or "0.0.0.0"):
            here = socket.AF_INET6 if version_of(address) == 6 else socket.AF_INET
            if family in (0, here):
                end = (address, number) if here is socket.AF_INET else (address, number, 0, 0)
                found.append((here, kind, proto, "", end))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def _addresses(self, name: str) -> list[str]:
        bare = literal(name)
        return [bare] if bare is not None else self.world.dns.addresses(name)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return the address as it is."""
        return str(sockaddr[0]), str(sockaddr[1])

    async def _resolve(self, address: Any, family: int = 0) -> Address:
        found = await self.getaddrinfo(address[0], address[1], family=family)
        return Address(found[0][4][0], found[0][4][1])

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        **_: Any,
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """Open a UDP port on the current host."""
        local = None if local_addr is None else await self._resolve(local_addr, family)
        remote = None if remote_addr is None else await self._resolve(remote_addr, family)
        return open_datagrams(self, current_host(), protocol_factory, local, remote, family)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        family: int = 0,
        local_addr: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **_: Any,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Open a stream from the current host, to the first of `host`'s addresses that answers."""
        local = None if local_addr is None else await self._resolve(local_addr, family)
        failure: OSError | None = None
        for found in await self.getaddrinfo(host, port, family=family):
            try:
                return await open_stream(
                    self,
                    current_host(),
                    protocol_factory,
                    Address(found[4][0], found[4][1]),
                    local,
                    ssl=ssl,
                    server_hostname=server_hostname or (host if ssl else None),
                    handshake_s=ssl_handshake_timeout,
                    shutdown_s=ssl_shutdown_timeout,
                )
            except OSError as error:
                failure = failure or error
        raise failure or OSError(f"{host} has no address")

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: Any = None,
        port: Any = None,
        *,
        family: int = 0,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        **_: Any,
    ) -> asyncio.AbstractServer:
        """Listen for streams on the current host."""
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        ends = [await self._resolve((one or "0.0.0.0", port or 0), family) for one in hosts]
        return open_server(
            self,
            current_host(),
            protocol_factory,
            ends,
            ssl=ssl,
            handshake_s=ssl_handshake_timeout,
            shutdown_s=ssl_shutdown_timeout,
            start=start_serving,
        )
