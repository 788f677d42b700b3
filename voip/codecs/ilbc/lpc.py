"""Prediction filters: from line spectral frequencies, their responses, what they filter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from voip.codecs.ilbc.arrays import Floats, windows
from voip.codecs.ilbc.mode import SUB_BLOCK
from voip.codecs.ilbc.tables import ORDER

__all__ = [
    "HighPass",
    "high_pass",
    "polynomials",
    "residual",
    "ringing",
    "synthesise",
    "unit_response",
]

_MOST_BLOCKS: Final = 6
"""Sub-blocks of a frame."""


def polynomials(lsf: Floats) -> Floats:
    """Return A(z), float (..., 11) beginning with 1, of frequencies in radians (..., 10).

    Half the sum of a symmetric and an antisymmetric polynomial, whose roots on the unit circle are
    the odd and the even frequencies (section 3.2.3).
    """
    shape = lsf.shape[:-1]
    # Filters along the last axis, so that products go through all of them at once.
    cosines = 2 * np.cos(lsf.reshape(-1, ORDER).T).reshape(ORDER // 2, -1)
    values = np.multiply.reduce(_NODES[:, None, None] - cosines, axis=1)
    # (nodes * 2, filters), of which a product per row makes the coefficients.
    coefficients = values.reshape(_INTERPOLATION.shape[0], -1).T
    out: Floats = np.ascontiguousarray(coefficients).reshape(*shape, -1) @ _INTERPOLATION
    out[..., 0] = 1
    return out


def _interpolation(nodes: Floats) -> Floats:
    """Return what makes A(z) of values of its two polynomials: (2 * nodes, 11), node by node.

    A product of five z^2 - 2 z cos w + 1 is, divided by z^5, one of five 2 cos x - 2 cos w where z
    is exp(j x): a polynomial in 2 cos x, which six of its values determine.
    """
    powers = np.linalg.inv(nodes[:, None] ** np.arange(nodes.size)).T
    out = np.zeros((nodes.size, 2, ORDER + 2))
    power = np.zeros((nodes.size, ORDER + 1))
    # (2 cos x)^k is (z + 1/z)^k: binomials, two steps apart, around z^5 in the middle.
    power[0, ORDER // 2] = 1
    for k in range(1, nodes.size):
        power[k, 1:] += power[k - 1, :-1]
        power[k, :-1] += power[k - 1, 1:]
    of_node = powers @ power
    for kind, sign in enumerate((1, -1)):  # times 1 + z^-1, and 1 - z^-1
        out[:, kind, :-1] += 0.5 * of_node
        out[:, kind, 1:] += 0.5 * sign * of_node
    return out[..., :-1].reshape(-1, ORDER + 1).copy()


_NODES: Final = 2 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
"""2 cos x, where products are taken; there (Chebyshev's nodes) rounding harms the least."""
_INTERPOLATION: Final = _interpolation(_NODES)


@cache
def _circle(length: int) -> tuple[Floats, Floats]:
    """Return matrices from A to its values on a circle, and from 1/A there to its response.

    The circle is inside the unit circle by so much that of what lies beyond its period 1e-10 is
    left, and not so much that rounding, greater at the end than at the beginning, comes near that.
    """
    period = 2 * length
    radius = 10 ** (-5 / length)
    angle = 2 * np.pi / period * np.arange(period // 2 + 1)
    powers = radius ** np.arange(ORDER + 1)
    forward = powers[:, None] * np.exp(-1j * np.outer(np.arange(ORDER + 1), angle))
    weight = np.full(angle.size, 2 / period)
    weight[[0, -1]] /= 2
    samples = np.arange(length)
    backward = np.exp(1j * np.outer(angle, samples)) * weight[:, None] * radius ** (-1.0 * samples)
    # Complex numbers as pairs: the real part of a product is a b - c d.
    inverse = np.stack((backward.real, -backward.imag), axis=1).reshape(-1, length)
    return np.ascontiguousarray(forward).view(np.float64), inverse


def unit_response(filters: Floats, length: int) -> Floats:
    """Return the first samples (rows, filters, length) that 1/A answers to a unit sample with.

    filters: float (rows, filters, 11).
    """
    forward, backward = _circle(length)
    values = (filters @ forward).view(np.complex128)
    return (1 / values).view(np.float64) @ backward


def ringing(filters: Floats) -> Floats:
    """Return what makes of the last 10 outputs of 1/A what they take from its next 10 inputs.

    filters: (..., 11). Returns (..., 10, 10), a view; the outputs are multiplied the oldest first.
    The difference is the filter's memory: 1/A that begins from nothing gives with it what 1/A gives
    that goes on.
    """
    flat = filters.reshape(-1, ORDER + 1)
    tail = np.zeros((len(flat), 2 * ORDER - 1))
    tail[:, ORDER - 1 :] = flat[:, :0:-1]
    return windows(tail, ORDER)[:, ::-1].reshape(*filters.shape[:-1], ORDER, ORDER)


def synthesise(excitation: Floats, filters: Floats, responses: Floats, past: Floats) -> Floats:
    """Return 1/A over the excitation (rows, samples), a filter for each 40 of them.

    filters: (rows, samples / 40, 11), and their `responses` (rows, samples / 40, 40);
    past: (rows, 10), the last outputs before.
    """
    rows, samples = excitation.shape
    count = samples // SUB_BLOCK
    padded = np.zeros((rows * count, 2 * SUB_BLOCK - 1))
    padded[:, SUB_BLOCK - 1 :] = responses.reshape(-1, SUB_BLOCK)
    # Convolution: the window of place n holds the response from n - 39 to n.
    spread = windows(padded, SUB_BLOCK).reshape(rows, count, SUB_BLOCK, SUB_BLOCK)
    signal = excitation.reshape(rows, count, SUB_BLOCK).copy()
    backwards = signal[..., ::-1]
    out = np.empty(signal.shape)

    # From sub-block to sub-block go the last ten samples only: what the signal makes of them, less
    # what the ten before take.
    ends = out[..., -ORDER:]
    np.einsum("sbnj,sbj->sbn", spread[:, :, -ORDER:], backwards, out=ends)
    lessened, taken = spread[:, :, -ORDER:, : -ORDER - 1 : -1], ringing(filters)
    for block in range(count):
        take = np.einsum("snj,sj->sn", taken[:, block], past)
        signal[:, block, :ORDER] -= take
        past = ends[:, block]
        past -= np.einsum("snj,sj->sn", lessened[:, block], take)
    # The others depend on what is before themselves.
    early = spread[:, :, :-ORDER, ORDER:], backwards[..., ORDER:]
    np.einsum("sbnj,sbj->sbn", *early, out=out[..., :-ORDER])
    return out.reshape(rows, samples)


def residual(signal: Floats, filters: Floats) -> Floats:
    """Return A over a signal (rows, 10 + samples) whose first 10 samples are past ones.

    filters: (rows, samples / 40, 11). Returns (rows, samples).
    """
    rows, samples = signal.shape[0], signal.shape[1] - ORDER
    stretches = windows(signal, ORDER + 1).reshape(rows, -1, SUB_BLOCK, ORDER + 1)
    out: Floats = np.einsum("sbnj,sbj->sbn", stretches, filters[..., ::-1])
    return out.reshape(rows, samples)


@dataclass(frozen=True, slots=True, eq=False)
class HighPass:
    """What a filter of the second order does to 40 samples, and to as many again, as products."""

    inputs: Floats
    """(42, 40): from the samples and the two inputs before them, the oldest first, to outputs."""
    outputs: Floats
    """(2, 40): what the two outputs before them add to it."""
    onwards: Floats
    """(12, 12): from the two outputs before, and the last two that the inputs alone give of each
    sub-block, to the two outputs before each sub-block."""

    @classmethod
    def of(cls, zeros: Floats, poles: Floats) -> HighPass:
        """Build it of the filter's coefficients, three and three."""
        size = SUB_BLOCK
        now, past = np.zeros((2, size + 4, size + 2))
        now[:size, 2:] = np.eye(size)
        now[size, 0] = now[size + 1, 1] = 1
        past[size + 2, 0] = past[size + 3, 1] = 1
        for n in range(2, size + 2):
            driven = now[:, n - 2 : n + 1] @ zeros[::-1]
            past[:, n] = driven - past[:, n - 1] * poles[1] - past[:, n - 2] * poles[2]
        inputs, outputs = np.split(past[:, 2:].copy(), [size + 2])
        onwards = np.zeros((_MOST_BLOCKS, 2, _MOST_BLOCKS, 2))
        for begin in range(_MOST_BLOCKS):
            kept = np.eye(2)
            for block in range(begin, _MOST_BLOCKS):
                onwards[begin, :, block] = kept
                kept = kept @ outputs[:, -2:]
        return cls(inputs, outputs, onwards.reshape(2 * _MOST_BLOCKS, -1))


def high_pass(signal: Floats, filter_: HighPass, memory: Floats) -> Floats:
    """Filter (rows, samples), a multiple of 40; memory (rows, 4) goes on for the next call.

    The memory is the last two inputs and the last two outputs.
    """
    rows, samples = signal.shape
    count = samples // SUB_BLOCK
    blocks = np.empty((rows, count, SUB_BLOCK + 2))
    blocks[..., :SUB_BLOCK] = signal.reshape(rows, count, SUB_BLOCK)
    blocks[:, 0, SUB_BLOCK:] = memory[:, :2]
    blocks[:, 1:, SUB_BLOCK:] = blocks[:, :-1, SUB_BLOCK - 2 : SUB_BLOCK]
    # A product per row, never one for all: BLAS would round by the number of rows.
    out = blocks @ filter_.inputs
    ends = np.empty((rows, count, 2))
    ends[:, 0] = memory[:, 2:]
    ends[:, 1:] = out[:, :-1, -2:]
    before = ends.reshape(rows, 1, -1) @ filter_.onwards[: 2 * count, : 2 * count]
    out += before.reshape(rows, count, 2) @ filter_.outputs
    memory[:, :2] = signal[:, -2:]
    memory[:, 2:] = out[:, -1, -2:]
    return out.reshape(rows, samples)
