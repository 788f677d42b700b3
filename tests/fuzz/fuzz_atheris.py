"""Fuzz one target led by coverage, with atheris: `python tests/fuzz/fuzz_atheris.py uri`.

`pip install '.[fuzz]'` brings it. Further arguments are libFuzzer's: `-max_total_time=600`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["voip"]):
    from fuzz_mutation import reference_folder, seeds
    from fuzz_targets import TARGETS


def main() -> None:
    """Give the target's seeds to atheris, and let it go on."""
    target, *rest = sys.argv[1:]
    folder = Path("artifacts") / "fuzz" / f"corpus-{target}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target, reference_folder())):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(folder), *rest], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
