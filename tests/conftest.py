"""What every test may ask for."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NoReturn

# Before NumPy is loaded: its threads wait for each other by spinning, in every job of the tests and
# every program they start, on the same processors. Small matrices then take ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypotheses  # noqa: F401
import pytest
from hypothesis import settings
from interop_results import InteropResults
from rfc_status import RfcStatus

ROOT = Path(__file__).resolve().parent.parent


settings.load_profile("voip")  # or another one by --hypothesis-profile
TESTS = count(1)
"""Those that have been run."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the table of RFCs (rfc_status.py) and the peers' results go, if they are written."""
    parser.addoption("--rfc-status", default="", metavar="FILE")
    parser.addoption("--interop-results", default="", metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Note which test proves what of which RFC, and what those with peers come to."""
    config.pluginmanager.register(RfcStatus(config.getoption("--rfc-status")))
    config.pluginmanager.register(InteropResults(config.getoption("--interop-results")))


def required() -> bool:
    """Whether missing peers and data are failures (CI) and not skips."""
    return os.environ.get("VOIP_REQUIRE_PEERS") == "1"


def missing(what: str) -> NoReturn:
    """Skip, saying so; fail where everything is required."""
    if required():
        pytest.fail(f"{what}, and VOIP_REQUIRE_PEERS=1")
    pytest.skip(what)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real-time calls come first, so that no test beside them takes all CPUs (see Makefile)."""
    items.sort(key=lambda item: item.get_closest_marker("realtime") is None)


def pytest_collection_finish() -> None:
    """Keep the tests and all that they import out of garbage collection.

    To look at all of it takes 60 ms, 300 where the processors are shared: it would be most of what
    a test in virtual time costs, and a hole in the sound of one in real time.
    """
    leave_out_of_collection()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Keep out again, now and then, what has come since: caches, reports, modules loaded late.

    Many tests end with a collection, to see what they have left; it is to cost what that costs.
    """
    if next(TESTS) % 50 == 0:
        leave_out_of_collection()


def leave_out_of_collection() -> None:
    """Let collections not look at what is there now."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", name="missing")
def missing_fixture() -> Callable[[str], NoReturn]:
    """`missing`, for conftest files and tests that cannot import this one."""
    return missing


@pytest.fixture(scope="session")
def dissector() -> None:
    """What `dissector.py` asks: tshark."""
    if shutil.which("tshark") is None:
        missing("tshark is not installed (make peers)")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data: VOIP_REFERENCE_DATA, default ../shared/data."""
    path = Path(os.environ.get("VOIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "MANIFEST.md").exists():
        missing(f"no reference data at {path} (set VOIP_REFERENCE_DATA)")
    return path
