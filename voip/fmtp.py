"""The parameters of formats, a=fmtp, read into typed values and written from them.

Rooms that code and rooms that negotiate need the same, so it is on the ground floor. What is not
known here stays text, which nobody has to understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final, TypeAlias

from voip.errors import ConfigError

__all__ = ["MAX_PARAMETERS", "PARAMETERS", "Rule", "Value", "pairs", "read", "write"]

Value: TypeAlias = bool | int | str | tuple[int, ...]
"""What a parameter may be: a flag, a number, a word, or a list of numbers."""

MAX_PARAMETERS: Final = 64
"""Of one format; more are not looked at."""
_MOST_DIGITS: Final = 9
_MOST_NUMBERS: Final = 16


@dataclass(frozen=True, slots=True)
class Rule:
    """How one parameter is read and written. `read` gives None for what is no value of it."""

    read: Callable[[str], Value | None]
    write: Callable[[Value], str]
    values: str
    """In words, for who gives another one."""


def number(least: int, most: int) -> Rule:
    """Return the rule of a number from `least` to `most`."""

    def read_number(text: str) -> int | None:
        value = _natural(text)
        return value if value is not None and least <= value <= most else None

    return Rule(read_number, str, f"{least} to {most}")


def one_of(*values: int) -> Rule:
    """Return the rule of one of a few numbers."""

    def read_one(text: str) -> int | None:
        value = _natural(text)
        return value if value in values else None

    return Rule(read_one, str, " or ".join(map(str, values)))


def numbers(least: int, most: int) -> Rule:
    """Return the rule of a list of numbers, "0,2,5", each once and in ascending order."""

    def read_numbers(text: str) -> tuple[int, ...] | None:
        found = [_natural(word.strip()) for word in text.split(",", _MOST_NUMBERS)]
        wanted = {n for n in found if n is not None and least <= n <= most}
        return tuple(sorted(wanted)) if len(wanted) == len(found) else None

    return Rule(
        read_numbers,
        lambda value: ",".join(map(str, value if isinstance(value, tuple) else (value,))),
        f"numbers from {least} to {most}",
    )


def word(*words: str) -> Rule:
    """Return the rule of one of a few words, in lower case."""
    return Rule(lambda text: text if text in words else None, str, " or ".join(words))


def flag(no: str = "0", yes: str = "1") -> Rule:
    """Return the rule of a flag, by its two words."""
    return Rule(
        {no: False, yes: True}.get, lambda value: yes if value else no, f"{no} or {yes}, a flag"
    )


def _natural(text: str) -> int | None:
    fits = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if fits else None


_RATE: Final = number(8000, 48000)


def _amr(modes: int) -> Mapping[str, Rule]:
    return {
        "octet-align": flag(),
        "mode-set": numbers(0, modes - 1),
        "mode-change-period": number(1, 2),
        "mode-change-capability": number(1, 2),
        "mode-change-neighbor": flag(),
        "crc": flag(),
        "robust-sorting": flag(),
        "interleaving": number(1, 60),
        "max-red": number(0, 65_535),
    }


PARAMETERS: Final[Mapping[str, Mapping[str, Rule]]] = MappingProxyType(
    {
        "opus": {  # RFC 7587, section 6.1
            "maxplaybackrate": _RATE,
            "sprop-maxcapturerate": _RATE,
            "maxaveragebitrate": number(6_000, 510_000),
            "stereo": flag(),
            "sprop-stereo": flag(),
            "cbr": flag(),
            "useinbandfec": flag(),
            "usedtx": flag(),
        },
        "ilbc": {"mode": one_of(20, 30)},  # RFC 3952, section 5
        "amr": _amr(8),  # RFC 4867, section 8.1
        "amr-wb": _amr(9),
        "speex": {  # RFC 5574
            "vbr": word("on", "off", "vad"),
            "cng": flag("off", "on"),
            "mode": word("any", *map(str, range(11))),
        },
        "g729": {"annexb": flag("no", "yes")},  # RFC 4856, section 2.1.9
    }
)
"""By encoding name, in lower case."""


def pairs(fmtp: str) -> Iterator[tuple[str, str]]:
    """Yield the names, in lower case, and the texts of "a=1; b=2", each without blanks."""
    for part in islice(fmtp.split(";"), MAX_PARAMETERS):
        name, _, text = part.partition("=")
        if name.strip():
            yield name.strip().lower(), text.strip()


def read(name: str, fmtp: str) -> dict[str, Value]:
    """Return the parameters that an encoding is known to have, the first of each name.

    It is the network's: what is unknown, or no value of its parameter, is as if not said.
    """
    rules = PARAMETERS.get(name.lower(), {})
    found: dict[str, Value] = {}
    for parameter, text in pairs(fmtp):
        rule = rules.get(parameter)
        value = None if rule is None else rule.read(text.lower())
        if value is not None:
            found.setdefault(parameter, value)
    return found


def write(name: str, values: Mapping[str, Value]) -> str:
    """Return parameters as text; the inverse of `read`. An underscore in a name is a hyphen.

    Raises ConfigError for a parameter that the encoding has not, and for no value of it.
    """
    rules = PARAMETERS.get(name.lower(), {})
    words = []
    for key, value in values.items():
        parameter = key.replace("_", "-")
        rule = rules.get(parameter)
        if rule is None:
            there = ", ".join(rules) or "none that are known"
            raise ConfigError(f"{name} has no parameter {parameter}", hint=f"it has {there}")
        text = rule.write(value)
        if rule.read(text) != value:
            raise ConfigError(f"{name}: {parameter} cannot be {value!r}", hint=rule.values)
        words.append(f"{parameter}={text}")
    return ";".join(words)
