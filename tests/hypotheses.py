"""How many examples Hypothesis tries: all of them in `make test`, a third in `make check`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

MANY = 100
"""What is tried where a test does not say how much."""

settings.register_profile("voip", deadline=None, max_examples=MANY)  # no test is timed
settings.register_profile("check", deadline=None, max_examples=MANY // 3)


def examples(count: int, **more: Any) -> settings:
    """Let a test try so many, or as much less as the profile has; `more`: other settings."""
    return settings(max_examples=max(count * settings.default.max_examples // MANY, 1), **more)
