from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ARRAYS: tuple[str, ...]
NUMBERS: tuple[str, ...]

class Tick:
    def __init__(
        self, arrays: Sequence[npt.NDArray[np.generic]], numbers: Sequence[float], /
    ) -> None: ...
    def take(self, received: int, /) -> int: ...
    def play(
        self,
        rows: npt.NDArray[np.intp],
        count: int,
        due: npt.NDArray[np.float64],
        heard: npt.NDArray[np.float32],
        odd: npt.NDArray[np.intp],
        gaps: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
        /,
    ) -> tuple[int, int, int]: ...
    def say(
        self,
        rows: npt.NDArray[np.intp],
        sound: npt.NDArray[np.float32],
        slots: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int32],
        /,
    ) -> int: ...
    def fill(
        self,
        rows: npt.NDArray[np.intp],
        sound: npt.NDArray[np.float32],
        clock: npt.NDArray[np.int64],
        /,
    ) -> None: ...
    def seal(self, rows: npt.NDArray[np.intp], lengths: npt.NDArray[np.int32], /) -> None: ...
