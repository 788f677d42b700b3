"""Digits as people enter them: so many, or up to a terminator."""

from __future__ import annotations

__all__ = ["take_digits"]


def take_digits(digits: str, count: int, terminator: str | None) -> tuple[str, str | None]:
    """Return (what was entered, what is left), the latter None where it is not complete."""
    if terminator and terminator in digits[: count + 1]:
        entered, _, rest = digits.partition(terminator)
        return entered, rest
    if len(digits) >= count:
        return digits[:count], digits[count:]
    return "", None
