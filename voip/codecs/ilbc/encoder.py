"""The encoder, for many streams at once (section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc import codebook, lsf
from voip.codecs.ilbc.analysis import analyse
from voip.codecs.ilbc.arrays import Floats, Index, begins
from voip.codecs.ilbc.lpc import HighPass, high_pass, polynomials, residual, unit_response
from voip.codecs.ilbc.mode import MODE_20, SUB_BLOCK, Mode
from voip.codecs.ilbc.packing import fields_of, pack
from voip.codecs.ilbc.search import RESPONSE, search, weigh
from voip.codecs.ilbc.state import decode_state, dispersion, encode_state, find_state
from voip.codecs.ilbc.tables import INPUT_HIGH_PASS, ORDER
from voip.errors import CodecError

__all__ = ["EncoderState", "encode"]

_HIGH_PASS: Final = HighPass.of(*INPUT_HIGH_PASS)
_WEIGHTING: Final = 0.4222 ** np.arange(ORDER + 1)
"""Of the perceptual weighting filter (section 3.4)."""
_REMAINDER_RANGE: Final = (58, 58, 58)
_FIRST_RANGE: Final = (108, 44, 44)
_RANGE: Final = (108, 108, 108)
"""How many of the shortest delays each stage may take (table 3.1), of the remainder almost all."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderState:
    """What an encoder remembers, a row per stream."""

    high_pass: Floats
    """(rows, 4)."""
    speech: Floats
    """(rows, 80 or 60): what the analysis looks back to."""
    lsf: Floats
    """(rows, 10): of the last frame, and `sent`, what the decoder has of them."""
    sent: Floats

    @classmethod
    def of(cls, rows: int, mode: Mode) -> EncoderState:
        """Return what there is before the first frame."""
        return cls(
            high_pass=np.zeros((rows, 4)),
            speech=np.zeros((rows, 80 if mode is MODE_20 else 60)),
            lsf=lsf.mean(rows),
            sent=lsf.mean(rows),
        )


def encode(pcm: npt.NDArray[np.int16], state: EncoderState, mode: Mode) -> npt.NDArray[np.uint8]:
    """Encode the next frame of each stream: int16 (streams, samples) to uint8 (streams, octets).

    Raises CodecError for another shape or type, or a state of another number of streams.
    """
    rows = len(state.lsf)
    if pcm.shape != (rows, mode.samples) or pcm.dtype != np.int16:
        raise CodecError(
            f"iLBC encodes int16 {(rows, mode.samples)} here, not {pcm.dtype} {pcm.shape}"
        )
    if not rows:
        return np.empty((0, mode.octets), np.uint8)
    row = np.arange(rows)
    fields = fields_of(mode)
    parameters = np.empty((rows, fields.parameters), np.uint8)

    past = state.speech.shape[1]
    speech = np.empty((rows, past + mode.samples))
    speech[:, :past] = state.speech
    speech[:, past:] = high_pass(pcm.astype(np.float64), _HIGH_PASS, state.high_pass)
    state.speech[:] = speech[:, -past:]

    filters, weighting = _filters(speech, parameters, state, mode)
    excitation = residual(np.ascontiguousarray(speech[:, past - ORDER :]), filters)

    case = find_state(excitation, mode)
    start = case // 2
    parameters[:, fields.start] = start + 1
    parameters[:, fields.first] = case % 2
    places = mode.state_at[case]
    quantising = filters[row, start]
    response = unit_response(quantising[:, None], SUB_BLOCK)[:, 0]
    spread = dispersion(quantising, response, mode.state)
    maximum, levels = encode_state(
        excitation[row[:, None], places], spread, weighting[row[:, None], places // SUB_BLOCK]
    )
    parameters[:, fields.maximum] = maximum
    parameters[:, fields.state] = levels
    frame = np.zeros((rows, mode.samples + 1))
    frame[row[:, None], places] = decode_state(maximum, levels, spread)

    index, gains = _segments(excitation, frame, case, unit_response(weighting, RESPONSE), mode)
    parameters[:, fields.codebook] = index
    parameters[:, fields.gains] = gains
    return pack(parameters, mode)


def _filters(
    speech: Floats, parameters: npt.NDArray[np.uint8], state: EncoderState, mode: Mode
) -> tuple[Floats, Floats]:
    """Return the quantised filters and the weighting filters: (rows, sub-blocks, 11) each."""
    rows = len(speech)
    sets = analyse(speech, state.lsf, mode)
    index = lsf.quantise(sets.reshape(-1, ORDER))
    parameters[:, fields_of(mode).lsf] = index.reshape(rows, -1)
    sent = lsf.dequantise(index).reshape(sets.shape)
    both = polynomials(
        np.stack((lsf.interpolate(state.sent, sent, mode), lsf.interpolate(state.lsf, sets, mode)))
    )
    state.lsf[:] = sets[:, -1]
    state.sent[:] = sent[:, -1]
    return both[0], both[1] * _WEIGHTING


def _segments(
    excitation: Floats, frame: Floats, case: Index, responses: Floats, mode: Mode
) -> tuple[Index, Index]:
    """Encode all that is not in the start state; return indices and gains (rows, segments * 3)."""
    rows = len(frame)
    row, begin = np.arange(rows), begins(*frame.shape)
    indices, gain_indices = [], []
    for segment, layout in enumerate(mode.layouts):
        shape = codebook.shape_of(layout)
        places = layout.target.take(case, axis=0)
        memory = frame.reshape(-1).take(begin + layout.memory.take(case, axis=0))
        target = excitation.reshape(-1).take(begins(*excitation.shape) + places)
        signal = np.concatenate((memory, target), axis=1)
        weighted = weigh(signal, responses[row, layout.sub_block[case]])
        ranges = (_REMAINDER_RANGE, _FIRST_RANGE)[segment] if segment < 2 else _RANGE
        index, gain_index = search(
            weighted[:, : shape.memory], weighted[:, shape.memory :], shape, ranges
        )
        gains = codebook.dequantise_gains(gain_index)
        frame.put(begin + places, codebook.decode_segment(memory, index, gains, shape))
        if segment == 1:
            index[:, 1:] = codebook.narrowed(index[:, 1:])
        indices.append(index)
        gain_indices.append(gain_index)
    return np.concatenate(indices, axis=1), np.concatenate(gain_indices, axis=1)
