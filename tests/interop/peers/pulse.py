"""PulseAudio with two sound cards that are none: what is played by one and spoken into the other.

PortAudio reaches them by ALSA, as on most desktops: `environment` has programs see `desk_speaker`
and `desk_microphone`. What is played can be recorded (`listen`), and what is spoken is played into
the microphone (`speak`), by PulseAudio's own programs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from peers.process import start, stop

START_S = 10.0
RATE = 48000
CONF = """</usr/share/alsa/alsa.conf>
pcm.desk_speaker {{ type pulse server "{server}" device "speaker"
    hint {{ show on description "a speaker" }} }}
pcm.desk_microphone {{ type pulse server "{server}" device "microphone.monitor"
    hint {{ show on description "a microphone" }} }}
"""


class Pulse:
    """A server of its own, with a directory of its own; `async with` starts and stops it."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory.resolve()
        # a socket's name has to be short
        self._home = Path(tempfile.mkdtemp(prefix="voip-pulse-"))
        self._server = f"unix:{self._home}/native"
        self._process: asyncio.subprocess.Process | None = None
        self._helpers: list[asyncio.subprocess.Process] = []
        self.log = self._directory / "pulse.log"

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to find it."""
        own = {"PULSE_SERVER": self._server, "ALSA_CONFIG_PATH": str(self._home / "alsa.conf")}
        return {**os.environ, **own, "HOME": str(self._home), "XDG_RUNTIME_DIR": str(self._home)}

    async def start(self) -> None:
        """Start it and wait for its sound cards."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._home / "alsa.conf").write_text(CONF.format(server=self._server))
        modules = [
            f"module-native-protocol-unix socket={self._home}/native auth-anonymous=1",
            *(
                f"module-null-sink sink_name={name} rate={RATE}"
                for name in ("speaker", "microphone")
            ),
        ]
        command = [str(self._program), "-n", "--daemonize=no", "--use-pid-file=no"]
        command += ["--exit-idle-time=-1", "--disable-shm=yes"]
        command += [part for module in modules for part in ("-L", module)]
        self._process = await start(
            ["env", f"HOME={self._home}", f"XDG_RUNTIME_DIR={self._home}", *command],
            self.log,
            self._home,
        )
        async with asyncio.timeout(START_S):
            while await self._cards() < 2:
                if self._process.returncode is not None:
                    raise RuntimeError(f"PulseAudio did not start:\n{self.log.read_text()[-2000:]}")
                await asyncio.sleep(0.05)

    async def _cards(self) -> int:
        asked = await asyncio.create_subprocess_exec(
            "pactl", "list", "short", "sinks",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment,
        )  # fmt: skip
        text, _ = await asked.communicate()
        return len(text.splitlines())

    async def speak(self, file: Path) -> None:
        """Play a WAV file into the microphone from now on."""
        await self._helper("paplay", "--device=microphone", str(file))

    async def listen(self, path: Path) -> None:
        """Record what the speaker plays from now on: WAV, mono, 48 kHz."""
        form = ["--format=s16le", f"--rate={RATE}", "--channels=1", "--file-format=wav"]
        await self._helper("parec", "--device=speaker.monitor", *form, str(path))

    async def _helper(self, program: str, *arguments: str) -> None:
        log = self._directory / f"{program}.log"
        there = [f"{name}={value}" for name, value in self.environment.items() if "PULSE" in name]
        command = ["env", *there, program, *arguments]
        self._helpers.append(await start(command, log, self._directory))

    async def quiet(self) -> None:
        """End what speaks and listens: files are whole then."""
        helpers, self._helpers = self._helpers, []
        for helper in helpers:
            await stop(helper)

    async def stop(self) -> None:
        """Stop everything by pid."""
        await self.quiet()
        if self._process is not None:
            await stop(self._process)
            self._process = None
        shutil.rmtree(self._home, ignore_errors=True)

    async def __aenter__(self) -> Pulse:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
