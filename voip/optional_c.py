"""Ground floor: whether what is optional and written in C is wanted."""

from __future__ import annotations

import os

__all__ = ["c_is_wanted"]


def c_is_wanted() -> bool:
    """Return whether to use it where it was built: VOIP_NATIVE=0 in the environment says no."""
    return os.environ.get("VOIP_NATIVE") != "0"
