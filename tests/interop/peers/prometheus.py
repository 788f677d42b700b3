"""Prometheus, which scrapes us, and promtool, which judges what it would scrape."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from peers.ports import HOST, PortBlock
from peers.process import start, stop

PATIENCE_S = 30.0
INTERVAL_S = 1

CONFIG = """\
global:
  scrape_interval: {interval}s
  scrape_timeout: {interval}s
scrape_configs:
  - job_name: voip
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """Scrapes `target` (HOST:PORT) once a second, from `async with` on until its end."""

    def __init__(self, programs: tuple[Path, Path], directory: Path, target: str) -> None:
        self._program, self._promtool = programs
        self._directory = directory
        self._target = target

    async def __aenter__(self) -> Prometheus:
        self._directory.mkdir()
        self._ports = PortBlock()
        config = self._directory / "prometheus.yml"
        config.write_text(CONFIG.format(interval=INTERVAL_S, target=self._target))
        self._url = f"http://{HOST}:{self._ports.service(1)}"
        command = [
            str(self._program),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={HOST}:{self._ports.service(1)}",
        ]
        log = self._directory / "prometheus.log"
        self._process = await start(command, log, self._directory)
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop(self._process)
        self._ports.close()

    async def query(self, expression: str, by: str = "") -> dict[str, float]:
        """Return what PromQL finds: values by the value of a label, "" where there is none."""

        def ask() -> dict[str, float]:
            url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
            return {one["metric"].get(by, ""): float(one["value"][1]) for one in found}

        try:
            return await asyncio.to_thread(ask)
        except (urllib.error.URLError, ConnectionError):  # it has not come up yet
            return {}

    async def until(self, expression: str, expected: float) -> None:
        """Return when PromQL has one value for it, and that is this one."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := await self.query(expression)) != {"": expected}:
            assert time.monotonic() < deadline, (expression, found, expected)
            await asyncio.sleep(0.2)


def check_metrics(promtool: Path, text: bytes) -> tuple[int, str]:
    """Have promtool look at an exposition: its exit status, and what it finds wrong."""
    done = subprocess.run(
        [str(promtool), "check", "metrics"], input=text, capture_output=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode()
