"""The `voip` command in this process, and a PBX for it to call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from voip_program import SECRETS, Done, PbxThread

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
