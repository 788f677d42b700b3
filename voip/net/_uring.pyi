import numpy as np
import numpy.typing as npt

def read(
    inlet: npt.NDArray[np.uint64], used: int, now: float, offset: float, latest: float, /
) -> int: ...
def send(
    outlet: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.int32],
    /,
) -> int | None: ...
