"""What a failing test leaves behind for whoever has to find out why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

TESTS = """
import socket

def use(artifacts):
    (artifacts / "peer.log").write_text("what the peer said")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"seen by the capture", ("127.0.0.1", 20001))

def test_passes(artifacts):
    use(artifacts)

def test_fails(artifacts):
    use(artifacts)
    assert False
"""


def test_logs_and_capture_stay_when_a_test_fails_and_go_when_it_passes(tmp_path: Path) -> None:
    inner = tmp_path / "tests/interop"
    inner.mkdir(parents=True)
    shutil.copy(HERE / "conftest.py", inner)
    (inner / "test_inner.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    peer\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(inner)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    kept = sorted(path.relative_to(tmp_path) for path in (tmp_path / "artifacts").glob("*/*"))
    test = Path("artifacts/test_inner.test_fails")
    if os.geteuid() == 0 and shutil.which("dumpcap"):
        capture = tmp_path / test / "loopback.pcapng"
        assert b"seen by the capture" in capture.read_bytes()
        kept.remove(test / "loopback.pcapng")
    assert kept == [test / "peer.log"]
