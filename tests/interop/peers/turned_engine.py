"""An engine on real sockets whose time is turned by hand, for peers that know only packets."""

from __future__ import annotations

import numpy as np

from voip.codecs.g711 import ULAW_ENCODE
from voip.media.answers import Refused
from voip.media.commands import CloseStream, Command
from voip.media.engine import Engine
from voip.net.packets import UdpPacketIO
from voip.types import SecureRandom


class TurnedEngine:
    """Its stream is number 1."""

    def __init__(self) -> None:
        self._io = UdpPacketIO(SecureRandom(), kernel_timestamps=False)
        self.engine = Engine(self._io)
        self.now = 100.0

    def do(self, command: Command) -> object:
        """Submit a command; its result."""
        token = self.engine.submit(command)
        self.engine.tick(self.now, 1e9 + self.now)
        (answer,) = (event for event in self.engine.events() if getattr(event, "token", 0) == token)
        assert not isinstance(answer, Refused), answer
        return answer.result  # type: ignore[union-attr]

    def step(self) -> None:
        """Let 20 ms pass."""
        self.now += 0.020
        self.engine.tick(self.now, 1e9 + self.now)

    def close(self) -> None:
        """Close the stream and the sockets."""
        self.do(CloseStream(1))
        self._io.close_all()


def noise(seconds: float, seed: int = 3) -> np.ndarray:
    """Samples of which no two pieces are equal, int16, at 8 kHz."""
    rng = np.random.default_rng(seed)
    return rng.integers(-9000, 9000, round(8000 * seconds)).astype(np.int16)


def ulaw(pcm: np.ndarray) -> bytes:
    """What PCMU makes of it."""
    return ULAW_ENCODE[pcm.view(np.uint16)].tobytes()
