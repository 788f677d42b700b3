"""Prediction filters: from line spectral frequencies, their responses, what they filter."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from voip.codecs.ilbc.arrays import Floats, windows
from voip.codecs.ilbc.mode import SUB_BLOCK
from voip.codecs.ilbc.tables import ORDER

__all__ = [
    "high_pass",
    "high_pass_matrix",
    "polynomials",
    "residual",
    "ringing",
    "synthesise",
    "unit_response",
]

_HIGH_PASS_BLOCK: Final = 80
"""Samples that the high-pass filters do at once."""


def polynomials(lsf: Floats) -> Floats:
    """Return A(z), float (..., 11) beginning with 1, of frequencies in radians (..., 10).

    Half the sum of a symmetric and an antisymmetric polynomial, whose roots on the unit circle are
    the odd and the even frequencies (section 3.2.3).
    """
    shape = lsf.shape[:-1]
    cosines = -2 * np.cos(lsf).reshape(*shape, ORDER // 2, 2)
    both = np.zeros((*shape, ORDER + 2, 2))
    both[..., 0, :] = 1
    both[..., 1, :] = 1, -1
    for pair in range(ORDER // 2):
        last = 2 * pair + 2
        longer = both[..., : last + 2, :].copy()
        longer[..., 1:, :] += cosines[..., pair, None, :] * both[..., : last + 1, :]
        longer[..., 2:, :] += both[..., :last, :]
        both[..., : last + 2, :] = longer
    whole = both[..., 0] + both[..., 1]
    return 0.5 * whole[..., : ORDER + 1]


@cache
def _circle(length: int) -> tuple[Floats, Floats]:
    """Return matrices from A to its values on a circle, and from 1/A there to its response.

    The circle is inside the unit circle by so much that what lies beyond its period is below
    rounding, and not so much that the beginning drowns it.
    """
    period = 4 * length
    radius = 10 ** (-4 / length)
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


def ringing(filters: Floats, past: Floats) -> Floats:
    """Return what the last 10 outputs add to the next 10 inputs of 1/A, float (rows, 10).

    filters: (rows, 11), past: (rows, 10), the oldest first. Equal to the filter's memory: 1/A that
    begins from nothing gives with it what 1/A gives that goes on.
    """
    tail = np.zeros((len(filters), 2 * ORDER - 1))
    tail[:, ORDER - 1 :] = filters[:, :0:-1]
    out: Floats = np.einsum("smj,sj->sm", windows(tail, ORDER)[:, ::-1], past)
    return np.negative(out, out=out)


def synthesise(excitation: Floats, filters: Floats, past: Floats) -> Floats:
    """Return 1/A over the excitation (rows, samples), a filter for each 40 of them.

    filters: (rows, samples / 40, 11); past: (rows, 10), the last outputs before, which become the
    last of these.
    """
    rows, samples = excitation.shape
    count = samples // SUB_BLOCK
    responses = np.zeros((rows, count, 2 * SUB_BLOCK - 1))
    responses[..., SUB_BLOCK - 1 :] = unit_response(filters, SUB_BLOCK)
    out = np.empty((rows, ORDER + samples))
    out[:, :ORDER] = past
    signal = excitation.reshape(rows, count, SUB_BLOCK).copy()
    for block in range(count):
        at = SUB_BLOCK * block
        driven = signal[:, block]
        driven[:, :ORDER] += ringing(filters[:, block], out[:, at : at + ORDER])
        response = np.ascontiguousarray(responses[:, block])
        # Convolution: the window of place n holds the response from n - 39 to n.
        out[:, ORDER + at : ORDER + at + SUB_BLOCK] = np.einsum(
            "snj,sj->sn", windows(response, SUB_BLOCK), driven[:, ::-1]
        )
    past[:] = out[:, -ORDER:]
    return out[:, ORDER:]


def residual(signal: Floats, filters: Floats) -> Floats:
    """Return A over a signal (rows, 10 + samples) whose first 10 samples are past ones.

    filters: (rows, samples / 40, 11). Returns (rows, samples).
    """
    rows, samples = signal.shape[0], signal.shape[1] - ORDER
    stretches = windows(signal, ORDER + 1).reshape(rows, -1, SUB_BLOCK, ORDER + 1)
    out: Floats = np.einsum("sbnj,sbj->sbn", stretches, filters[..., ::-1])
    return out.reshape(rows, samples)


def high_pass_matrix(zeros: Floats, poles: Floats) -> Floats:
    """Return what a filter of the second order does to 80 samples: (84, 80).

    Rows: the samples, then the two inputs and the two outputs before them, the oldest first.
    """
    size = _HIGH_PASS_BLOCK
    past = np.zeros((size + 4, size + 2))
    past[size + 2, 0] = past[size + 3, 1] = 1
    inputs = np.zeros((size + 4, size + 2))
    inputs[size, 0] = inputs[size + 1, 1] = 1
    inputs[:size, 2:] = np.eye(size)
    for n in range(2, size + 2):
        past[:, n] = (
            inputs[:, n - 2 : n + 1] @ zeros[::-1]
            - past[:, n - 1] * poles[1]
            - past[:, n - 2] * poles[2]
        )
    return np.ascontiguousarray(past[:, 2:])


def high_pass(signal: Floats, matrix: Floats, memory: Floats) -> Floats:
    """Filter (rows, samples), a multiple of 80; memory (rows, 4) goes on for the next call."""
    rows, samples = signal.shape
    out = np.empty((rows, samples))
    block = np.empty((rows, 1, _HIGH_PASS_BLOCK + 4))
    for at in range(0, samples, _HIGH_PASS_BLOCK):
        now = slice(at, at + _HIGH_PASS_BLOCK)
        block[:, 0, :_HIGH_PASS_BLOCK] = signal[:, now]
        block[:, 0, _HIGH_PASS_BLOCK:] = memory
        # A product per row, never one for all: BLAS would round by the number of rows.
        out[:, now] = (block @ matrix)[:, 0]
        memory[:, :2] = signal[:, now][:, -2:]
        memory[:, 2:] = out[:, now][:, -2:]
    return out
