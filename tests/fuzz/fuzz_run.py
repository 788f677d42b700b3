"""The long run: `make fuzz`, or `python tests/fuzz/fuzz_run.py --inputs 10000000`.

Inputs are numbered; blocks of them go to processes. What is done is noted in the folder, so that a
run that was stopped goes on where it was. An input that a target cannot bear is kept there:
`--replay FILE` runs it again. Exit status 1 where there is any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import FrameType

from fuzz_mutation import mutated, reference_folder, seeds
from fuzz_targets import TARGETS

BLOCK = 5_000
SLOW_S = 5
"""An input that takes more CPU time counts as one that cannot be borne."""


def run_block(seed: int, target: str, block: int, inputs: int, folder: str) -> list[str]:
    """Run `inputs` inputs; return what went wrong, each kept in `folder`."""
    corpus = seeds(target, reference_folder())
    test = TARGETS[target]
    signal.signal(signal.SIGPROF, _too_slow)
    wrong = []
    for data in block_of(seed, target, block, inputs, corpus):
        signal.setitimer(signal.ITIMER_PROF, SLOW_S)
        try:
            test(data)
        except Exception:
            path = Path(folder) / f"{target}-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            wrong.append(f"{path}\n{traceback.format_exc(limit=-3)}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return wrong


def block_of(
    seed: int, target: str, block: int, inputs: int, corpus: list[bytes]
) -> Iterator[bytes]:
    """Yield the inputs of a block: the same ones whenever it is asked for."""
    chance = random.Random(f"{seed} {target} {block}")
    for _ in range(inputs):
        yield mutated(corpus, chance)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SLOW_S} s of CPU time")


def main() -> int:
    """Run what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=10_000_000, help="of all targets together")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--folder", type=Path, default=Path("artifacts/fuzz"))
    options.add_argument("--targets", default=",".join(TARGETS))
    options.add_argument(
        "--replay", type=Path, help="a file that was kept; its name has the target"
    )
    given = options.parse_args()
    if given.replay is not None:
        TARGETS[given.replay.name.partition("-")[0]](given.replay.read_bytes())
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    return _run(given.inputs, given.seed, given.jobs, given.folder, given.targets.split(","))


def _run(inputs: int, seed: int, jobs: int, folder: Path, targets: list[str]) -> int:
    blocks = -(-inputs // BLOCK)
    notes = folder / f"progress-{seed}.json"
    done: list[int] = json.loads(notes.read_text())["done"] if notes.exists() else []
    left = [block for block in range(blocks) if block not in set(done)]
    print(f"seed {seed}: {blocks - len(left)} of {blocks} blocks of {BLOCK} are done", flush=True)
    wrong: list[str] = []
    begun = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        running = {
            pool.submit(
                run_block, seed, targets[block % len(targets)], block, BLOCK, str(folder)
            ): block
            for block in left
        }
        for number, future in enumerate(as_completed(running), 1):
            for story in future.result():
                wrong.append(story)
                print(story, flush=True)
            done.append(running[future])
            notes.write_text(json.dumps({"seed": seed, "blocks": blocks, "done": sorted(done)}))
            rate = number * BLOCK / (time.monotonic() - begun)
            if not number % 20 or number == len(left):
                print(
                    f"{len(done) * BLOCK:,} inputs, {len(wrong)} wrong, {rate:,.0f} a second",
                    flush=True,
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
