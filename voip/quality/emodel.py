"""The E-model of ITU-T G.107 (06/2015): from delay, loss and levels to a rating R and a MOS.

Names are the Recommendation's, in lower case. Every parameter has its default, at which R is 93.2
and the MOS 4.41. `call_rating` puts in what a call knows about itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log10, sqrt

from voip.errors import ConfigError

__all__ = ["IMPAIRMENTS", "EModel", "Impairment", "Rating", "call_mos", "call_rating", "mos_from_r"]


@dataclass(frozen=True, slots=True)
class EModel:
    """The input parameters of G.107, table 3, at their defaults. Levels in dB, delays in ms.

    Raises ConfigError for values for which the formulas mean nothing.
    """

    slr: float = 8.0
    """Send loudness rating."""
    rlr: float = 2.0
    """Receive loudness rating."""
    stmr: float = 15.0
    """Sidetone masking rating."""
    ds: float = 3.0
    """D-value of the telephone, send side."""
    dr: float = 3.0
    """D-value of the telephone, receive side; the listener sidetone rating is stmr + dr."""
    telr: float = 65.0
    """Talker echo loudness rating."""
    wepl: float = 110.0
    """Weighted echo path loss, of listener echo."""
    t: float = 0.0
    """Mean one-way delay of the echo path."""
    tr: float = 0.0
    """Round-trip delay in a four-wire loop."""
    ta: float = 0.0
    """Absolute one-way delay in an echo-free connection."""
    qdu: float = 1.0
    """Number of quantisation distortion units."""
    ie: float = 0.0
    """Equipment impairment factor of the codec (G.113)."""
    bpl: float = 4.3
    """Packet-loss robustness factor of the codec (G.113); 4.3: G.711 without concealment."""
    ppl: float = 0.0
    """Packet-loss probability, in percent."""
    burstr: float = 1.0
    """Burst ratio: observed mean burst length over that of random loss."""
    nc: float = -70.0
    """Circuit noise referred to the 0 dBr point, dBm0p."""
    nfor: float = -64.0
    """Noise floor at the receive side, dBmp."""
    ps: float = 35.0
    """Room noise at the send side, dB(A)."""
    pr: float = 35.0
    """Room noise at the receive side, dB(A)."""
    a: float = 0.0
    """Advantage factor."""
    st: float = 1.0
    """Delay sensitivity of the users (1: as in carrier-grade telephony)."""
    mt: float = 100.0
    """Minimum perceivable delay of the users."""

    def __post_init__(self) -> None:
        if (
            min(self.t, self.tr, self.ta) < 0
            or not 0 <= self.ppl <= 100
            or min(self.bpl, self.burstr, self.st, self.mt) <= 0
            or self.qdu < 1
            or not 0 <= self.stmr <= 100
        ):
            raise ConfigError(
                f"the E-model has no answer for {self}",
                hint="delays and STMR from 0, ppl 0 to 100, qdu from 1, bpl and burstr above 0",
            )


@dataclass(frozen=True, slots=True)
class Rating:
    """R and what it is made of (G.107, 7.1): r = ro - is - idte - idle - idd - ie_eff + a."""

    r: float
    mos: float
    basic: float
    """Ro: the signal over all noises."""
    simultaneous: float
    """Is: too loud, sidetone, quantisation."""
    talker_echo: float
    """Idte."""
    listener_echo: float
    """Idle."""
    absolute_delay: float
    """Idd."""
    equipment: float
    """Ie-eff: codec and packet loss."""

    @classmethod
    def of(cls, model: EModel) -> Rating:
        """Compute the rating of a set of parameters."""
        noise = _noise(model)
        basic = 15 - 1.5 * (model.slr + noise)
        sidetone = _sidetone(model)
        simultaneous = _too_loud(model, noise) + sidetone + _quantisation(model, basic)
        talker = _talker_echo(model, noise, sidetone)
        listener = _listener_echo(model, basic)
        delay = _absolute_delay(model)
        equipment = _equipment(model)
        r = basic - simultaneous - talker - listener - delay - equipment + model.a
        mos = mos_from_r(r)
        return cls(r, mos, basic, simultaneous, talker, listener, delay, equipment)


def mos_from_r(r: float) -> float:
    """Return the conversational-quality MOS of a rating (G.107, annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


# ---------------------------------------------------------------- the terms of clause 7


def _power(*levels_db: float) -> float:
    return 10 * log10(sum(10 ** (level / 10) for level in levels_db))


def _root(value: float, degree: float) -> float:
    return float(max(value, 0.0) ** (1 / degree))


def _noise(model: EModel) -> float:
    """No: circuit noise, room noise of both sides and noise floor, dBm0p (7.2)."""
    pre = model.pr + 10 * log10(1 + 10 ** ((10 - (model.stmr + model.dr)) / 10))
    send = model.ps - model.slr - model.ds - 100
    send += 0.004 * (model.ps - (model.slr + model.rlr) - model.ds - 14) ** 2
    receive = model.rlr - 121 + pre + 0.008 * (pre - 35) ** 2
    return _power(model.nc, send, receive, model.nfor + model.rlr)


def _too_loud(model: EModel, noise: float) -> float:
    """Iolr: the decrease by too low an overall loudness rating (7.3.1)."""
    x = (model.slr + model.rlr + 0.2 * (64 + noise - model.rlr)) / 8
    return 20 * (_root(1 + x**8, 8) - x)


def _sidetone(model: EModel) -> float:
    """Ist: sidetone that is not optimum (7.3.2)."""
    masked = -10 * log10(10 ** (-model.stmr / 10) + exp(-model.t / 4) * 10 ** (-model.telr / 10))
    return (
        12 * _root(1 + ((masked - 13) / 6) ** 8, 8)
        - 28 * _root(1 + ((masked + 1) / 19.4) ** 35, 35)
        - 13 * _root(1 + ((masked - 3) / 33) ** 13, 13)
        + 29
    )


def _quantisation(model: EModel, basic: float) -> float:
    """Iq: quantisation distortion (7.3.3)."""
    q = 37 - 15 * log10(model.qdu)
    g = 1.07 + 0.258 * q + 0.0602 * q**2
    y = (basic - 100) / 15 + 46 / 8.4 - g / 9
    z = 46 / 30 - g / 40
    return 15 * log10(1 + 10**y + 10**z)


def _talker_echo(model: EModel, noise: float, sidetone: float) -> float:
    """Idte: hearing oneself late (7.4.1)."""
    if model.t < 1:
        return 0.0
    terv = model.telr - 40 * log10((1 + model.t / 10) / (1 + model.t / 150))
    terv += 6 * exp(-0.3 * model.t**2)
    if model.stmr < 9:
        terv += sidetone / 2
    half = (-1.5 * (noise - model.rlr) - (80 + 2.5 * (terv - 14))) / 2
    echo = (half + sqrt(half**2 + 100) - 1) * (1 - exp(-model.t))
    return sqrt(echo**2 + sidetone**2) if model.stmr > 20 else echo


def _listener_echo(model: EModel, basic: float) -> float:
    """Idle: hearing the other twice (7.4.2)."""
    half = (basic - 10.5 * (model.wepl + 7) / _root(model.tr + 1, 4)) / 2
    return half + sqrt(half**2 + 169)


def _absolute_delay(model: EModel) -> float:
    """Idd: too long to converse, even without echo (7.4.3)."""
    if model.ta <= model.mt:
        return 0.0
    x, n = log10(model.ta / model.mt) / log10(2), 6 * model.st
    return 25 * (_root(1 + x**n, n) - 3 * _root(1 + (x / 3) ** n, n) + 2)


def _equipment(model: EModel) -> float:
    """Ie-eff: codec and packet loss (7.5)."""
    return model.ie + (95 - model.ie) * model.ppl / (model.ppl / model.burstr + model.bpl)


# ---------------------------------------------------------------- a call


@dataclass(frozen=True, slots=True)
class Impairment:
    """What G.113, appendix I, says of a codec: `ie`, and its robustness `bpl` to packet loss."""

    ie: float
    bpl: float


IMPAIRMENTS = {
    "pcmu": Impairment(0.0, 4.3),
    "pcma": Impairment(0.0, 4.3),
    "g729": Impairment(11.0, 19.0),
    "ilbc": Impairment(10.0, 34.0),
}
"""By encoding name, of G.113 (11/2007), appendix I. G.711 without concealment: ours has no
listening test behind it (with that of G.711 appendix I, Bpl would be 25.1). G.729 is its annex A
with silence suppression, 20 ms a packet, and its own concealment. iLBC's (15.2 kbit/s) are planning
values that go about and are in no edition at hand; the scores in docs/codec-quality.json come to
the same Bpl. Codecs without figures have none here; wide-band ones have theirs on another scale
(G.107.1), which this model is not."""


def call_rating(
    *,
    codec: str,
    loss_fraction: float,
    one_way_delay_ms: float,
    jitter_buffer_ms: float = 0.0,
    burst_ratio: float = 1.0,
) -> Rating | None:
    """Rate one direction of a call; None where nothing is known about the codec.

    `loss_fraction`: packets lost or too late to be played, 0 to 1. Ta is the sum of the delays;
    the echo path is as long (T = Ta, Tr = 2 Ta), with the default echo loss of a good telephone.
    """
    impairment = IMPAIRMENTS.get(codec.lower())
    if impairment is None:
        return None
    delay_ms = max(0.0, one_way_delay_ms) + max(0.0, jitter_buffer_ms)
    return Rating.of(
        EModel(
            t=delay_ms,
            tr=2 * delay_ms,
            ta=delay_ms,
            ie=impairment.ie,
            bpl=impairment.bpl,
            ppl=100 * min(1.0, max(0.0, loss_fraction)),
            burstr=max(1.0, burst_ratio),
        )
    )


def call_mos(
    *,
    codec: str,
    loss_fraction: float,
    one_way_delay_ms: float,
    jitter_buffer_ms: float = 0.0,
    burst_ratio: float = 1.0,
) -> float | None:
    """Return only the MOS of `call_rating`."""
    rating = call_rating(
        codec=codec,
        loss_fraction=loss_fraction,
        one_way_delay_ms=one_way_delay_ms,
        jitter_buffer_ms=jitter_buffer_ms,
        burst_ratio=burst_ratio,
    )
    return None if rating is None else rating.mos
