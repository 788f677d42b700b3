"""Call-progress tones of the world's networks: what callers of a country expect to hear.

Frequencies and cadences are facts of ITU-T E.180 Supplement 2, "Various tones used in national
networks" (03/1998, kept up as a list of the ITU Operational Bulletin, 2003), as telephone software
quotes it: each row says by `source` where its figures are from.

    itu       the ITU's list, named as the source of this very country by what quotes it
    field     zone tables in use in PBXes (Asterisk, DAHDI), which name Supplement 2 as a whole
    others    a national specification, by its name

Levels are E.180's: nominally -10 dBm0 (section 2), shared by two frequencies that
sound at once; North America's are those of Telcordia GR-506. Cadences are written as
`voip.dsp.cadence` says.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType

from voip.dsp.cadence import CadencedTone, parse
from voip.errors import ConfigError

__all__ = ["COUNTRIES", "TONES", "CountryTones", "call_progress_tone"]

SIT = "950:0.33 1400:0.33 1800:0.33 0:1"
"""The special information tone of E.180: three tones of 0.33 s each, and a pause."""
LEVEL_DBM0 = -10.0
PAIR_DBM0 = -13.0


@dataclass(frozen=True, slots=True)
class CountryTones:
    """Tones of a country; "" where it has none of its own."""

    name: str
    source: str
    dial: str
    ringback: str
    busy: str
    congestion: str
    waiting: str = ""
    info: str = SIT


TONES = tuple(item.name for item in fields(CountryTones) if item.name not in ("name", "source"))
"""The tones by name: dial, ringback, busy, congestion (reorder), waiting, info (intercept)."""
_ALIASES = {"ring": "ringback", "reorder": "congestion", "intercept": "info", "sit": "info"}
_GR_506_DBM0 = {"dial": -13.0, "ringback": -19.0, "busy": -24.0, "congestion": -24.0}


def _plain(hertz: str, ring: str, busy: str, congestion: str) -> tuple[str, str, str, str]:
    """Return dial, ringback, busy and congestion of one frequency, from "on off" in seconds."""
    bursts = (item.split() for item in (ring, busy, congestion))
    return hertz, *(f"{hertz}:{on} 0:{off}" for on, off in bursts)  # type: ignore[return-value]


_DOUBLE = "{0}:0.4 0:0.2 {0}:0.4 0:2"
"""The ring of the Commonwealth: two short ones and a pause."""

COUNTRIES = MappingProxyType({
    "at": CountryTones(
        "Austria", "itu", *_plain("420", "1 5", "0.4 0.4", "0.2 0.2"), "420:0.04 0:1.96",
        "950:0.33 1450:0.33 1850:0.33 0:1",
    ),
    "au": CountryTones(
        "Australia", "ACIF S002", "413+438", _DOUBLE.format("413+438"), "425:0.375 0:0.375",
        "425:0.375 0:0.375 420:0.375 0:0.375", "425:0.2 0:0.2 425:0.2 0:4.4", "425:2.5 0:0.5",
    ),
    "be": CountryTones(
        "Belgium", "itu", *_plain("425", "1 3", "0.5 0.5", "0.167 0.167"),
        "1400:0.175 0:0.175 1400:0.175 0:3.5", "900:0.33 1400:0.33 1800:0.33 0:1",
    ),
    "bg": CountryTones(
        "Bulgaria", "itu", *_plain("425", "1 4", "0.5 0.5", "0.25 0.25"),
        "425:0.15 0:0.15 425:0.15 0:4",
    ),
    "br": CountryTones(
        "Brazil", "field", "425", "425:1 0:4", "425:0.25 0:0.25",
        "425:0.25 0:0.25 425:0.75 0:0.25", "425:0.05 0:1",
    ),
    "ch": CountryTones(
        "Switzerland", "itu", *_plain("425", "1 4", "0.5 0.5", "0.2 0.2"),
        "425:0.2 0:0.2 425:0.2 0:4",
    ),
    "cl": CountryTones(
        "Chile", "field", *_plain("400", "1 3", "0.5 0.5", "0.2 0.2"), "400:0.25 0:8.75",
    ),
    "cn": CountryTones(
        "China", "itu", *_plain("450", "1 4", "0.35 0.35", "0.7 0.7"), "450:0.4 0:4",
        "450:0.1 0:0.1 450:0.1 0:0.1 450:0.1 0:0.1 450:0.4 0:0.4",
    ),
    "cz": CountryTones(
        "Czechia", "itu", "425:0.33 0:0.33 425:0.66 0:0.66", "425:1 0:4", "425:0.33 0:0.33",
        "425:0.165 0:0.165", "425:0.33 0:9", "950:0.33 0:0.03 1400:0.33 0:0.03 1800:0.33 0:1",
    ),
    "de": CountryTones(
        "Germany", "itu", *_plain("425", "1 4", "0.48 0.48", "0.24 0.24"),
        "425:0.2 0:0.2 425:0.2 0:5",
    ),
    "dk": CountryTones(
        "Denmark", "itu", *_plain("425", "1 4", "0.5 0.5", "0.2 0.2"),
        "425:0.2 0:0.6 425:0.2 0:3",
    ),
    "ee": CountryTones(
        "Estonia", "itu", *_plain("425", "1 4", "0.3 0.3", "0.2 0.2"),
        "950:0.65 0:0.325 950:0.325 0:0.03 1400:1.3 0:2.6",
        "950:0.65 0:0.325 950:0.325 0:0.03 1400:1.3 0:2.6",
    ),
    "es": CountryTones(
        "Spain", "field", "425", "425:1.5 0:3", "425:0.2 0:0.2",
        "425:0.2 0:0.2 425:0.2 0:0.2 425:0.2 0:0.6", "425:0.175 0:0.175 425:0.175 0:3.5",
    ),
    "fi": CountryTones(
        "Finland", "field", *_plain("425", "1 4", "0.3 0.3", "0.2 0.2"),
        "425:0.15 0:0.15 425:0.15 0:8", "950:0.65 0:0.325 950:0.325 0:0.03 1400:1.3 0:2.6",
    ),
    "fr": CountryTones("France", "itu", *_plain("440", "1.5 3.5", "0.5 0.5", "0.25 0.25")),
    "gb": CountryTones(
        "United Kingdom", "BT SIN 350", "350+440", _DOUBLE.format("400+450"),
        "400:0.375 0:0.375", "400:0.4 0:0.35 400:0.225 0:0.525", "400:0.1 0:4",
        "950:0.33 0:0.015 1400:0.33 0:0.015 1800:0.33 0:1",
    ),
    "gr": CountryTones(
        "Greece", "field", "425:0.2 0:0.3 425:0.7 0:0.8", "425:1 0:4", "425:0.3 0:0.3",
        "425:0.2 0:0.2", "425:0.15 0:0.15 425:0.15 0:8",
    ),
    "hu": CountryTones(
        "Hungary", "itu", *_plain("425", "1.25 3.75", "0.3 0.3", "0.3 0.3"), "425:0.04 0:1.96",
    ),
    "id": CountryTones(
        "Indonesia", "itu", *_plain("425", "1 4", "0.5 0.5", "0.25 0.25"),
        "425:0.15 0:0.15 425:0.15 0:10",
    ),
    "il": CountryTones(
        "Israel", "field", *_plain("414", "1 3", "0.5 0.5", "0.25 0.25"),
        "414:0.1 0:0.1 414:0.1 0:0.1 414:0.6 0:3", "1000:0.33 1400:0.33 1800:0.33 0:1",
    ),
    "in": CountryTones(
        "India", "field", "400*25", _DOUBLE.format("400*25"), "400:0.75 0:0.75",
        "400:0.25 0:0.25", "400:0.2 0:0.1 400:0.2 0:7.5",
    ),
    "it": CountryTones(
        "Italy", "itu", "425:0.2 0:0.2 425:0.6 0:1", "425:1 0:4", "425:0.5 0:0.5",
        "425:0.2 0:0.2", "425:0.4 0:0.1 425:0.25 0:0.1 425:0.15 0:14",
    ),
    "jp": CountryTones(
        "Japan", "field", "400", "400*16:1 0:2", "400:0.5 0:0.5", "400:0.5 0:0.5",
        "400*16:0.5 0:8",
    ),
    "lt": CountryTones(
        "Lithuania", "field", *_plain("425", "1 4", "0.35 0.35", "0.2 0.2"),
        "425:0.15 0:0.15 425:0.15 0:4",
    ),
    "mx": CountryTones(
        "Mexico", "field", *_plain("425", "1 4", "0.25 0.25", "0.25 0.25"),
        "425:0.2 0:0.6 425:0.2 0:10", "950:0.33 0:0.03 1400:0.33 0:0.03 1800:0.33 0:1",
    ),
    "my": CountryTones(
        "Malaysia", "field", "425", _DOUBLE.format("425"), "425:0.5 0:0.5", "425:0.5 0:0.5",
    ),
    "nl": CountryTones(
        "Netherlands", "itu", *_plain("425", "1 4", "0.5 0.5", "0.25 0.25"), "425:0.5 0:9.5",
    ),
    "no": CountryTones(
        "Norway", "field", *_plain("425", "1 4", "0.5 0.5", "0.2 0.2"),
        "425:0.2 0:0.6 425:0.2 0:10",
    ),
    "nz": CountryTones(
        "New Zealand", "TNA 102", "400", _DOUBLE.format("400+450"), "400:0.5 0:0.5",
        "400:0.25 0:0.25", "400:0.2 0:3 400:0.2 0:3 400:0.2 0:3 400:0.2 |",
        "400:0.75 0:0.1 400:0.75 0:0.1 400:0.75 0:0.1 400:0.75 0:0.4",
    ),
    "ph": CountryTones(
        "Philippines", "itu", "425", "425+480:1 0:4", "480+620:0.5 0:0.5",
        "480+620:0.25 0:0.25", "440:0.3 0:10",
    ),
    "pl": CountryTones(
        "Poland", "field", *_plain("425", "1 4", "0.5 0.5", "0.5 0.5"),
        "425:0.15 0:0.15 425:0.15 0:4",
    ),
    "pt": CountryTones(
        "Portugal", "field", *_plain("425", "1 5", "0.5 0.5", "0.2 0.2"), "440:0.3 0:10",
    ),
    "ru": CountryTones(
        "Russia", "GOST 45.223-2001", *_plain("425", "1 4", "0.35 0.35", "0.175 0.175"),
        "425:0.2 0:5",
    ),
    "se": CountryTones(
        "Sweden", "field", *_plain("425", "1 5", "0.25 0.25", "0.25 0.75"),
        "425:0.2 0:0.5 425:0.2 0:9.1",
        "950:0.332 0:0.024 1400:0.332 0:0.024 1800:0.332 0:2.024",
    ),
    "sg": CountryTones(
        "Singapore", "IDA TS PSTN1", "425", _DOUBLE.format("425*24"), "425:0.75 0:0.75",
        "425:0.25 0:0.25", "425*24:0.3 0:0.2 425*24:0.3 0:3.2",
    ),
    "th": CountryTones(
        "Thailand", "itu", "400*50", "420:1 0:5", "400:0.5 0:0.5", "400:0.3 0:0.3",
    ),
    "tw": CountryTones(
        "Taiwan", "field", "350+440", "440+480:1 0:2", "480+620:0.5 0:0.5",
        "480+620:0.25 0:0.25", "350+440:0.25 0:0.25 350+440:0.25 0:3.25",
    ),
    "us": CountryTones(
        "North America", "GR-506", "350+440", "440+480:2 0:4", "480+620:0.5 0:0.5",
        "480+620:0.25 0:0.25", "440:0.3 0:10",
    ),
    "ve": CountryTones(
        "Venezuela", "itu", *_plain("425", "1 4", "0.5 0.5", "0.25 0.25"), "400+450:0.3 0:6",
        "950:0.33 1440:0.33 1800:0.33 0:1",
    ),
    "za": CountryTones(
        "South Africa", "field", "400*33", _DOUBLE.format("400*33"), "400:0.5 0:0.5",
        "400:0.25 0:0.25", "400*33:0.25 0:0.25 400*33:0.25 0:0.25 400*33:0.25 0:0.25",
        "950:0.33 1400:0.33 1800:0.33 0:0.33",
    ),
})  # fmt: skip
"""By ISO 3166 code, lower case; "us" stands for North America, "ca" and "uk" are understood."""
_OTHER_CODES = {"ca": "us", "uk": "gb"}


@cache
def call_progress_tone(name: str, country: str = "us") -> CadencedTone:
    """Return a tone by name ("busy"; "ring", "reorder", "intercept" and "sit" too) and country.

    Raises `ConfigError` for what is not known.
    """
    code = country.lower()
    tones = COUNTRIES.get(_OTHER_CODES.get(code, code))
    if tones is None:
        raise ConfigError(f"no tones of {country!r} are known", hint=", ".join(COUNTRIES))
    kind = _ALIASES.get(name, name)
    words = getattr(tones, kind) if kind in TONES else ""
    if not words:
        there = ", ".join(item for item in TONES if getattr(tones, item))
        raise ConfigError(f"there is no tone {name!r} of {tones.name}", hint=there)
    level = PAIR_DBM0 if "+" in words else LEVEL_DBM0
    if tones.source == "GR-506":
        level = _GR_506_DBM0.get(kind, level)
    return parse(words, level)
