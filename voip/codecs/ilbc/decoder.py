"""The decoder, for many streams at once (section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc import codebook, concealment, enhancer, lsf
from voip.codecs.ilbc.arrays import Floats, Index
from voip.codecs.ilbc.lpc import HighPass, high_pass, polynomials, synthesise, unit_response
from voip.codecs.ilbc.mode import SUB_BLOCK, Mode
from voip.codecs.ilbc.packing import fields_of, unpack
from voip.codecs.ilbc.state import decode_state, dispersion
from voip.codecs.ilbc.tables import ORDER, OUTPUT_HIGH_PASS
from voip.errors import CodecError

__all__ = ["DecoderState", "decode"]

_HIGH_PASS: Final = HighPass.of(*OUTPUT_HIGH_PASS)
_FIRST_PERIOD: Final = 40
_FIRST_LAG: Final = 20


@dataclass(frozen=True, slots=True, eq=False)
class DecoderState:
    """What a decoder remembers, a row per stream."""

    lsf: Floats
    """(rows, 10): of the last frame."""
    filters: Floats
    """(rows, sub-blocks, 11): of the last frame, and `responses` (rows, sub-blocks, 40)."""
    responses: Floats
    speech: Floats
    """(rows, 10): the last outputs of the synthesis filter."""
    high_pass: Floats
    """(rows, 4)."""
    excitation: Floats
    """(rows, 640): of the enhancer."""
    periods: Index
    """(rows, 8): of the blocks of excitation."""
    lost: Index
    """(rows,): frames that were lost in a row until now."""
    lag: Index
    """(rows,): the pitch when the first of them was lost, and `periodic`, how much it was one."""
    periodic: Floats
    seed: npt.NDArray[np.int64]
    """(rows,): of the noise in what is concealed."""

    @classmethod
    def of(cls, rows: int, mode: Mode) -> DecoderState:
        """Return what there is before the first frame."""
        filters = np.zeros((rows, mode.sub_blocks, ORDER + 1))
        filters[..., 0] = 1
        responses = np.zeros((rows, mode.sub_blocks, SUB_BLOCK))
        responses[..., 0] = 1
        return cls(
            lsf=lsf.mean(rows),
            filters=filters,
            responses=responses,
            speech=np.zeros((rows, ORDER)),
            high_pass=np.zeros((rows, 4)),
            excitation=np.zeros((rows, enhancer.HISTORY)),
            periods=np.full((rows, enhancer.BLOCKS), _FIRST_PERIOD),
            lost=np.zeros(rows, np.intp),
            lag=np.full(rows, _FIRST_LAG),
            periodic=np.zeros(rows),
            seed=np.full(rows, concealment.SEED, np.int64),
        )


def decode(
    payloads: npt.NDArray[np.uint8],
    received: npt.NDArray[np.bool_],
    state: DecoderState,
    mode: Mode,
) -> npt.NDArray[np.int16]:
    """Return the next frame of each stream, int16 (streams, samples).

    payloads: uint8 (streams, octets); where `received` (streams,) is False, and where the payload
    says that it is empty or is no frame, what is lost is concealed. Raises CodecError for another
    shape or type, or a state of another number of streams.
    """
    rows = len(state.lsf)
    if payloads.shape != (rows, mode.octets) or payloads.dtype != np.uint8:
        raise CodecError(
            f"iLBC decodes uint8 {(rows, mode.octets)} here, not {payloads.dtype} {payloads.shape}"
        )
    if received.shape != (rows,) or received.dtype != np.bool_:
        raise CodecError(f"`received` is bool {(rows,)}, not {received.dtype} {received.shape}")
    if not rows:
        return np.empty((0, mode.samples), np.int16)
    parameters, counts = unpack(payloads, mode)
    counts &= received
    # The filters go with the excitation, which the enhancer gives out later.
    delay = mode.delay // SUB_BLOCK
    filters, responses = state.filters[:, -delay:].copy(), state.responses[:, -delay:].copy()
    excitation = _excitation(parameters, counts, state, mode)
    filters = np.concatenate((filters, state.filters[:, :-delay]), axis=1)
    responses = np.concatenate((responses, state.responses[:, :-delay]), axis=1)
    enhanced = _enhanced(excitation, counts, state, mode)
    speech = synthesise(enhanced, filters, responses, state.speech)
    state.speech[:] = speech[:, -ORDER:]
    out = high_pass(speech, _HIGH_PASS, state.high_pass)
    np.trunc(out, out=out)  # as the implementation that made the published vectors does
    np.maximum(out, -32768, out=out)
    return np.minimum(out, 32767, out=out).astype(np.int16)


def _excitation(
    parameters: npt.NDArray[np.uint8],
    counts: npt.NDArray[np.bool_],
    state: DecoderState,
    mode: Mode,
) -> Floats:
    """Return excitation (rows, samples); the filters of the frame are then those of `state`."""
    if counts.all():
        return _decoded(parameters, slice(None), state, mode)
    excitation = np.empty((len(parameters), mode.samples))
    good, lost = np.flatnonzero(counts), np.flatnonzero(~counts)
    if good.size:
        excitation[good] = _decoded(parameters[good], good, state, mode)
    state.filters[lost] = state.filters[lost, -1:]
    state.responses[lost] = state.responses[lost, -1:]
    excitation[lost] = _concealed(lost, state, mode)
    return excitation


def _lsf_sets(parameters: npt.NDArray[np.uint8], mode: Mode) -> Floats:
    index = parameters[:, fields_of(mode).lsf].reshape(-1, 3)
    return lsf.dequantise(index).reshape(len(parameters), mode.lsf_sets, ORDER)


def _decoded(
    parameters: npt.NDArray[np.uint8], at: Index | slice, state: DecoderState, mode: Mode
) -> Floats:
    """Return excitation (rows, samples) of frames that came, whose streams have the rows `at`."""
    sets = _lsf_sets(parameters, mode)
    filters = polynomials(lsf.interpolate(state.lsf[at], sets, mode))
    responses = unit_response(filters, SUB_BLOCK)
    state.lsf[at], state.filters[at], state.responses[at] = sets[:, -1], filters, responses

    fields = fields_of(mode)
    rows = np.arange(len(parameters))
    start = parameters[:, fields.start].astype(np.intp) - 1
    case = 2 * start + parameters[:, fields.first]
    frame = np.zeros((rows.size, mode.samples + 1))
    spread = dispersion(filters[rows, start], responses[rows, start], mode.state)
    frame[rows[:, None], mode.state_at[case]] = decode_state(
        parameters[:, fields.maximum], parameters[:, fields.state], spread
    )
    index = parameters[:, fields.codebook].astype(np.intp).reshape(rows.size, -1, 3)
    index[:, 1, 1:] = codebook.widened(index[:, 1, 1:])
    gains = codebook.dequantise_gains(parameters[:, fields.gains].reshape(-1, 3))
    codebook.decode_segments(frame, case, index, gains.reshape(index.shape), mode)
    return frame[:, :-1]


def _concealed(rows: Index, state: DecoderState, mode: Mode) -> Floats:
    before = state.excitation[rows, -mode.samples :]
    new = state.lost[rows] == 0
    if new.any():
        first = rows[new]
        last = state.periods[first, -1]
        state.lag[first], state.periodic[first] = concealment.periodicity(before[new], last)
    state.lost[rows] += 1
    seed = state.seed[rows]
    excitation = concealment.conceal(
        before, state.lag[rows], state.periodic[rows], state.lost[rows], seed, mode
    )
    state.seed[rows] = seed
    return excitation


def _enhanced(
    excitation: Floats, counts: npt.NDArray[np.bool_], state: DecoderState, mode: Mode
) -> Floats:
    history, periods = state.excitation, state.periods
    blocks = mode.samples // enhancer.BLOCK
    history[:, : -mode.samples] = history[:, mode.samples :].copy()
    history[:, -mode.samples :] = excitation
    periods[:, :-blocks] = periods[:, blocks:].copy()
    periods[:, -blocks:] = enhancer.estimate_pitch(history, mode)
    back = np.flatnonzero(counts & (state.lost > 0))
    if back.size:
        some = history[back]
        first = periods[back, -blocks]
        periods[back, -blocks - 1] = enhancer.join(some, first, mode)
        history[back] = some
    state.lost[counts] = 0
    return enhancer.enhance(history, periods, mode)
