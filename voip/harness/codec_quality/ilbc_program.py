"""iLBC by the program that RFC 3951 prints, where somebody has built it as a library.

PJSIP has it as `libilbccodec`. It works on float blocks of samples in the range of int16.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

import numpy as np

from voip.codecs.ilbc.mode import Mode
from voip.errors import CodecError
from voip.harness.audio import Pcm

__all__ = ["IlbcProgram"]

_STATE_ROOM: Final = 1 << 16
"""Octets, more than either of its states takes."""


class IlbcProgram:
    """An encoder and a decoder of one stream, enhancer and all. CodecError where there is none."""

    def __init__(self, library: Path, mode: Mode) -> None:
        try:
            self._library = ctypes.CDLL(str(library))
            self._encode, self._decode = self._library.iLBC_encode, self._library.iLBC_decode
        except (OSError, AttributeError) as error:
            raise CodecError(f"no program of RFC 3951 in {library}: {error}") from None
        self._mode = mode
        self._coder = ctypes.create_string_buffer(_STATE_ROOM)
        self._decoder = ctypes.create_string_buffer(_STATE_ROOM)
        self._library.initEncode(self._coder, mode.frame_ms)
        self._library.initDecode(self._decoder, mode.frame_ms, 1)
        self._block = np.empty(mode.samples, np.float32)
        self._octets = np.empty(mode.octets, np.uint8)

    def encode(self, pcm: Pcm) -> bytes:
        """Encode a frame, int16 (samples,)."""
        self._block[:] = pcm
        self._encode(_at(self._octets), _at(self._block), self._coder)
        return self._octets.tobytes()

    def decode(self, payload: bytes) -> Pcm:
        """Decode a frame; it is cut off towards zero, as that program does it.

        There is no concealment here: that program's reads memory that nobody has written.
        """
        self._octets[:] = np.frombuffer(payload, np.uint8)
        self._decode(_at(self._block), _at(self._octets), self._decoder, 1)
        return np.clip(self._block, -32768, 32767).astype(np.int16)


def _at(array: np.ndarray[tuple[int], np.dtype[np.float32 | np.uint8]]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
