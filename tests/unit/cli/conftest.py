"""The `voip` command in this process, a PBX for it to call, and a demonstration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from voip_program import SECRETS, Done, PbxThread, start_demo

from voip.cli.main import main


@pytest.fixture(scope="module")
def pbx_thread() -> Iterator[PbxThread]:
    with PbxThread() as pbx:
        yield pbx


@pytest.fixture
def pbx(pbx_thread: PbxThread) -> PbxThread:
    """A PBX without calls, that remembers no request."""
    pbx_thread.do(pbx_thread.server.idle())
    pbx_thread.forget()
    return pbx_thread


@pytest.fixture
def voip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """Run `voip` with arguments, in tmp_path; the password is that of 1001 in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOIP_PASSWORD", SECRETS["1001"])

    def voip(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["voip", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert status is None or isinstance(status, int)
        return Done(status or 0, *capsys.readouterr())

    return voip


@pytest.fixture(scope="session")
def demonstration(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`voip demo`, begun in a directory: it speaks for ten seconds, beside other tests."""
    directory = tmp_path_factory.mktemp("demo")
    with start_demo(directory, "--json", "--pcap", "demo.pcap") as process:
        yield process, directory
        process.kill()
