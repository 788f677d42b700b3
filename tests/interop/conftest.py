"""Peers for tests: started on free ports, their logs kept when the test fails.

`artifacts` is the directory of one test: logs, captures, recordings. It stays behind in
`artifacts/` at the root of the checkout when the test fails, and goes when it passes.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.capture import Capture
from peers.installed import Installed, installed
from peers.kamailio import Kamailio
from peers.pjsua import Pjsua
from peers.pulse import Pulse
from peers.sipp import Sipp

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent.parent / "artifacts"
Peer = TypeVar("Peer", bound=AbstractAsyncContextManager[Any])
FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs peers, and real time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.peer)
            item.add_marker(pytest.mark.realtime)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember for the fixtures, which are still open, that the test failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def artifacts(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh directory of this test, kept when the test fails."""
    name = request.node.nodeid.rpartition("/")[2].replace(".py::", ".")
    path = KEPT / re.sub(r"[^\w.=-]+", "_", name).strip("_")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    capture = Capture(path / "loopback.pcapng")
    capture.start()
    yield path
    failed = request.node.stash.get(FAILED, False)
    capture.stop(keep=failed)
    if not failed:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def peers() -> Installed:
    """What `make peers` has installed."""
    return installed()


@pytest.fixture(scope="session")
def codec_judges(missing: Callable[[str], NoReturn]) -> None:
    """What `codec_floor` judges codecs by: PESQ, FFmpeg in PyAV's wheel, SoX and tshark."""
    for module in ("pesq", "av"):
        if find_spec(module) is None:
            missing(f"the package {module} is not installed")
    for program in ("sox", "tshark"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed (make peers)")


@pytest.fixture(scope="session")
def asterisk_server(
    peers: Installed,
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Asterisk]:
    """One Asterisk for all tests of this process."""
    root = peers.asterisk or missing("Asterisk is not installed (make peers)")
    with Asterisk(root, tmp_path_factory.mktemp("asterisk")) as server:
        yield server


@pytest.fixture
def asterisk(asterisk_server: Asterisk, artifacts: Path) -> Iterator[Asterisk]:
    """The running Asterisk, free of calls and registrations; its log is an artifact."""
    asterisk_server.reset()
    mark = asterisk_server.mark()
    yield asterisk_server
    (artifacts / "asterisk.log").write_text(asterisk_server.log_since(mark))


@pytest.fixture(scope="session")
def kamailio_server(
    peers: Installed,
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kamailio]:
    """One Kamailio, with rtpengine, for all tests of this process."""
    programs = peers.kamailio or missing("Kamailio or rtpengine is not installed (make peers)")
    with Kamailio(programs, tmp_path_factory.mktemp("kamailio")) as server:
        yield server


@pytest.fixture
def kamailio(kamailio_server: Kamailio, artifacts: Path) -> Iterator[Kamailio]:
    """The running Kamailio, free of registrations; its log is an artifact."""
    kamailio_server.reset()
    mark = kamailio_server.mark()
    yield kamailio_server
    (artifacts / "kamailio.log").write_text(kamailio_server.log_since(mark))


@asynccontextmanager
async def starting(
    peer: Callable[..., Peer], program: Path, artifacts: Path
) -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    """A function that starts a peer each time it is called; all are stopped at the end."""
    async with AsyncExitStack() as running:
        numbers = itertools.count(1)

        async def start(*arguments: Any, **settings: Any) -> Peer:
            directory = artifacts / f"{peer.__name__.lower()}-{next(numbers)}"
            return await running.enter_async_context(
                peer(program, directory, *arguments, **settings)
            )

        yield start


@pytest.fixture
async def baresip(
    peers: Installed, missing: Callable[[str], NoReturn], artifacts: Path
) -> AsyncIterator[Callable[..., Awaitable[Baresip]]]:
    """Start a baresip: `await baresip(user="1001", registrar=..., ...)`; stopped at the end."""
    program = peers.baresip or missing("baresip is not installed (make peers)")
    async with starting(Baresip, program, artifacts) as start:
        yield start


@pytest.fixture
async def sipp(
    peers: Installed, missing: Callable[[str], NoReturn], artifacts: Path
) -> AsyncIterator[Callable[..., Awaitable[Sipp]]]:
    """Start a SIPp: `await sipp("uac", remote=..., calls=...)`; stopped at the end."""
    program = peers.sipp or missing("SIPp is not installed (make peers)")
    async with starting(Sipp, program, artifacts) as start:
        yield start


@pytest.fixture
async def pulse(
    peers: Installed, missing: Callable[[str], NoReturn], artifacts: Path
) -> AsyncIterator[Pulse]:
    """A running PulseAudio with a speaker and a microphone."""
    program = peers.pulseaudio or missing("PulseAudio is not installed (make peers)")
    async with Pulse(program, artifacts / "pulse") as server:
        yield server


@pytest.fixture
async def pjsua(
    peers: Installed, missing: Callable[[str], NoReturn], artifacts: Path
) -> AsyncIterator[Callable[..., Awaitable[Pjsua]]]:
    """Start a PJSIP: `await pjsua(user="1002", registrar=..., ...)`; stopped at the end."""
    python = peers.pjsua_python or missing("PJSIP's module is not installed (make peers)")
    async with starting(Pjsua, python, artifacts) as start:
        yield start
