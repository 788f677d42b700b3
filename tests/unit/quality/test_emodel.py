"""The E-model: figures of G.107 and of another implementation, and the shape of its answers."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import ConfigError
from voip.quality.emodel import IMPAIRMENTS, EModel, Rating, call_mos, call_rating, mos_from_r


def test_at_its_defaults_r_is_93_2_and_mos_4_41() -> None:
    """G.107, 7.7: all parameters at default."""
    rating = Rating.of(EModel())
    assert round(rating.r, 1) == 93.2
    assert round(rating.mos, 2) == 4.41


def test_default_values_are_those_of_table_3() -> None:
    table = {"slr": 8, "rlr": 2, "stmr": 15, "ds": 3, "dr": 3, "telr": 65, "wepl": 110}
    table |= {"t": 0, "tr": 0, "ta": 0, "qdu": 1, "ie": 0, "bpl": 4.3, "ppl": 0, "burstr": 1}
    table |= {"nc": -70, "nfor": -64, "ps": 35, "pr": 35, "a": 0, "st": 1, "mt": 100}
    assert {f.name: getattr(EModel(), f.name) for f in fields(EModel)} == table


@pytest.mark.parametrize(("r", "mos"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_mos_of_the_categories_of_user_satisfaction(r: float, mos: float) -> None:
    """G.107, table B.1, and G.109."""
    assert mos_from_r(r) == pytest.approx(mos, abs=0.01)


def test_mos_is_bounded_and_never_falls_as_r_grows() -> None:
    mos = [mos_from_r(r / 10) for r in range(-200, 1300)]
    assert (mos[0], mos[-1]) == (1.0, 4.5)
    assert all(before <= after for before, after in pairwise(mos))


@pytest.mark.parametrize(
    ("changed", "r"),
    [
        ({}, 93.2062),
        ({"ta": 150}, 93.0427),
        ({"ta": 400}, 69.1361),
        ({"t": 100, "tr": 200, "ta": 100}, 90.6637),
        ({"t": 300, "tr": 600, "ta": 300, "telr": 45}, 37.3758),
        ({"stmr": 7, "t": 50}, 91.1211),
        ({"qdu": 4}, 88.2031),
        ({"slr": 18}, 78.8539),
        ({"pr": 60, "ps": 60}, 70.2704),
        ({"ppl": 1}, 75.2817),
        ({"ppl": 5, "burstr": 2}, 23.3533),
        ({"ie": 11, "bpl": 19, "ppl": 2}, 74.2062),
    ],
)
def test_every_term_agrees_with_another_implementation(changed: dict[str, float], r: float) -> None:
    """R as another implementation of the 2015 edition (OpenBACH's) computes it."""
    assert Rating.of(replace(EModel(), **changed)).r == pytest.approx(r, abs=1e-4)


def test_intermediate_values_known_from_other_implementations() -> None:
    rating = Rating.of(EModel(t=100))
    assert rating.basic == pytest.approx(15 - 1.5 * (8 - 61.17921438624169))
    assert rating.simultaneous == pytest.approx(1.4135680813438616)


@pytest.mark.parametrize("delay_ms", [25, 50, 100, 150, 177, 200, 250, 300, 350])
def test_delay_costs_what_the_well_known_approximation_says(delay_ms: float) -> None:
    """Cole and Rosenbluth (2001): Id = 0.024 d + 0.11 (d - 177.3) H(d - 177.3)."""
    rating = call_rating(codec="pcmu", loss_fraction=0, one_way_delay_ms=delay_ms)
    assert rating is not None
    expected = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - 177.3)
    assert Rating.of(EModel()).r - rating.r == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize(
    ("loss", "ie_eff"), [(0.0, 0.0), (0.01, 17.92), (0.02, 30.16), (0.043, 47.5), (1.0, 91.08)]
)
def test_loss_without_concealment_costs_what_bpl_4_3_says(loss: float, ie_eff: float) -> None:
    """G.113, appendix I: G.711 has Ie 0 and Bpl 4.3; half of 95 is gone at ppl = Bpl."""
    rating = call_rating(codec="PCMA", loss_fraction=loss, one_way_delay_ms=0)
    assert rating is not None
    assert rating.equipment == pytest.approx(ie_eff, abs=0.005)


@pytest.mark.parametrize(("loss", "ie_eff"), [(0.0, 11.0), (0.02, 19.0), (0.19, 53.0)])
def test_g729_costs_what_ie_11_and_bpl_19_say(loss: float, ie_eff: float) -> None:
    """G.113, appendix I: G.729 annex A; half of 95 - 11 is gone at ppl = Bpl."""
    rating = call_rating(codec="G729", loss_fraction=loss, one_way_delay_ms=0)
    assert rating is not None
    assert rating.equipment == pytest.approx(ie_eff, abs=0.005)


def test_bpl_of_ilbc_is_what_pesq_gives_over_a_sweep_of_losses() -> None:
    """As ITU-T P.834 derives it: scores to ratings, and Bpl by the least squares of Ie-eff."""
    result = json.loads((Path(__file__).parents[3] / "docs/codec-quality.json").read_text())
    (swept,) = (
        one["random"] for one in result["lossy"] if (one["codec"], one["remedy"]) == ("ilbc", "own")
    )
    ratings = np.linspace(10, 99, 8901)  # MOS grows with them
    scores = [mos_from_r(rating) for rating in ratings]
    rated = {int(loss): float(np.interp(score, scores, ratings)) for loss, score in swept.items()}
    assert len(rated) == 6
    ie = Rating.of(EModel()).r - rated[0]

    def miss(bpl: float) -> float:
        lost = [ie + (95 - ie) * loss / (loss + bpl) for loss in rated]
        return sum(
            (rated[0] + ie - cost - r) ** 2 for cost, r in zip(lost, rated.values(), strict=True)
        )

    best = min(range(1, 100), key=miss)
    assert best == pytest.approx(IMPAIRMENTS["ilbc"].bpl, abs=6)


@pytest.mark.parametrize("codec", ["g722", "opus", "amr-wb", "gsm"])
def test_what_no_table_of_this_model_has_is_not_guessed(codec: str) -> None:
    assert call_mos(codec=codec, loss_fraction=0, one_way_delay_ms=0) is None


SWEEPS = {
    "ta": [0, 50, 100, 101, 150, 300, 500, 1000],
    "t": [0, 1, 5, 20, 100, 300, 1000],
    "tr": [0, 1, 10, 100, 1000],
    "ppl": [0, 0.1, 1, 5, 20, 100],
    "burstr": [1, 1.5, 2, 8],
    "ie": [0, 5, 11, 40],
    "qdu": [1, 2, 7, 14],
    "nc": [-80, -70, -60, -40],
    "pr": [35, 50, 60, 85],
    "bpl": [40, 25.1, 10, 4.3, 1],
    "telr": [65, 50, 30, 5],
    "wepl": [110, 60, 20, 5],
}


@pytest.mark.parametrize("name", SWEEPS)
def test_more_impairment_never_sounds_better(name: str) -> None:
    base = EModel(ppl=0 if name in ("ppl", "ie") else 2, t=0 if name == "t" else 50, tr=10)
    ratings = [Rating.of(replace(base, **{name: value})).r for value in SWEEPS[name]]
    # but for the Recommendation's own Idte, which is -0.11 at 1 ms and positive from 5 ms on
    slack = 0.12 if name == "t" else 0.0
    assert all(before >= after - slack for before, after in pairwise(ratings))
    assert ratings[0] > ratings[-1]


@given(
    st.floats(-1, 2),
    st.floats(-100, 1e6),
    st.floats(-10, 1e4),
    st.floats(0, 100),
)
def test_whatever_a_call_measures_there_is_a_mos(
    loss: float, delay: float, buffer: float, burst: float
) -> None:
    mos = call_mos(
        codec="pcmu",
        loss_fraction=loss,
        one_way_delay_ms=delay,
        jitter_buffer_ms=buffer,
        burst_ratio=burst,
    )
    assert mos is not None
    assert 1.0 <= mos <= 4.5


def test_of_an_unknown_codec_there_is_none() -> None:
    assert call_mos(codec="speex", loss_fraction=0, one_way_delay_ms=0) is None
    assert call_rating(codec="speex", loss_fraction=0, one_way_delay_ms=0) is None


@pytest.mark.parametrize(
    "wrong", [{"ta": -1}, {"ppl": 101}, {"bpl": 0}, {"burstr": 0}, {"qdu": 0.5}, {"stmr": -5}]
)
def test_meaningless_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="no answer"):
        EModel(**wrong)
