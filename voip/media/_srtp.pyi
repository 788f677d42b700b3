import numpy as np
import numpy.typing as npt

def protect(
    functions: npt.NDArray[np.uint64],
    mode: npt.NDArray[np.uint8],
    session: npt.NDArray[np.uint64],
    ssrc: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    seen: npt.NDArray[np.uint64],
    material: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int32],
    packets: npt.NDArray[np.uint8],
    width: int,
    lengths: npt.NDArray[np.int32],
    verdicts: npt.NDArray[np.uint8],
    /,
) -> int: ...
def unprotect(
    functions: npt.NDArray[np.uint64],
    mode: npt.NDArray[np.uint8],
    session: npt.NDArray[np.uint64],
    ssrc: npt.NDArray[np.int64],
    index: npt.NDArray[np.int64],
    seen: npt.NDArray[np.uint64],
    material: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.intp],
    rtcp: npt.NDArray[np.bool_],
    memory: npt.NDArray[np.uint8],
    head: int,
    slots: npt.NDArray[np.intp],
    lengths: npt.NDArray[np.int32],
    verdicts: npt.NDArray[np.uint8],
    /,
) -> int: ...
def midstates(functions: npt.NDArray[np.uint64], key: bytes, /) -> bytes: ...
