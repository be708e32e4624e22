"""Mutated files of every format that MelodyGAN reads, and what reading each of them comes to.

Most readers run in forked processes with limits on memory and time, many inputs each, so that a crash of a
library is counted and not fatal. Sound goes through the sandbox as in a download.
"""

from __future__ import annotations

import json
import resource
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from melodygan_core.errors import MelodyGANError
from tests import stages
from tests.core.made import Trained
from tests.core.test_fuzz import PIECES
from tests.mutation_targets import Target, targets

OUTCOMES = ("read as before", "read with other values", "clear error", "limit hit", "traceback", "crash")
# For one input. A reader that needs more is a bug; sound has the limits of the sandbox.
MEMORY_BYTES, TIME_S = 3 << 30, 20
LONGEST_MESSAGE = 4000
_VALUES = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b'""', b'"../../etc/passwd"', b"[]", b"{}",
    b"9" * 400, b"0.5", b"[[[[[]]]]]", b'"\\ud800"', b"18446744073709551616", b"[" * 3000,
)  # fmt: skip
_NUMBERS = (b"\xff" * 4, b"\x00" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80\x00\x00\x00", b"\x00" * 64)


@dataclass
class Mutations:
    """What reading came to.

    Attributes:
        outcomes: Number by (format, outcome).
        problems: Sentences; empty when all is well.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def mutated(data: bytes, rng: Random, *, text: bool) -> bytes:
    """Data with one to six random changes."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        # Headers and footers decide most: half of the changes are there.
        at = rng.choice((rng.randrange(len(made) + 1), min(rng.randrange(200), len(made))))
        if rng.random() < 0.2:
            at = max(0, len(made) - rng.randrange(1, 400))
        size = rng.choice((1, 2, 4, 8, rng.randrange(1, 64)))
        match rng.randrange(7):
            case 0 if made:
                made[min(at, len(made) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                made[at : at + size] = rng.randbytes(size)
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[max(0, at - size) : at] * rng.randrange(1, 4)
            case 4:
                made[at : at + size] = rng.choice(_NUMBERS)[: max(1, size)]
            case 5 if rng.random() < 0.3:
                del made[at:]
            case _:
                made = _edited(made, at, rng) if text else made[:at] + rng.randbytes(1) + made[at + 1 :]
    return bytes(made)


def _edited(made: bytearray, at: int, rng: Random) -> bytearray:
    """A text with one value or piece of syntax replaced."""
    colon = made.find(b":", at)
    if colon < 0 or rng.random() < 0.3:
        return made[:at] + rng.choice(PIECES).encode("utf-8", "surrogatepass") + made[at:]
    ends = [end for end in (made.find(b",", colon), made.find(b"\n", colon)) if end > 0]
    return made[: colon + 1] + b" " + rng.choice(_VALUES) + made[min(ends, default=len(made)) :]


def chosen(
    found: Sequence[Target], number: int, rng: Random, shares: dict[str, float]
) -> list[tuple[Target, int]]:
    """So many (target, seed), by the share of each format, each target of a format as often."""
    result = []
    for form, share in shares.items():
        of_form = [target for target in found if target.format == form]
        result += [(of_form[i % len(of_form)], rng.getrandbits(60)) for i in range(round(number * share))]
    return result


def outcome_of(target: Target, seed: int, before: object) -> tuple[str, str]:
    """Reads one mutated file; returns the outcome, and the traceback where there is one."""
    data = mutated(target.data, Random(seed), text=target.format in ("YAML", "JSON"))
    try:
        value = target.read(data)
    except MelodyGANError as error:
        if len(str(error)) > LONGEST_MESSAGE:
            return "traceback", f"the message has {len(str(error))} characters: {str(error)[:300]}"
        return "limit hit" if "limit" in str(error) or "processor time" in str(error) else "clear error", str(
            error
        )
    except Exception as error:
        return "traceback", "".join(traceback.format_exception(error, limit=-4))
    return ("read as before" if value == before else "read with other values"), ""


def run_batch(pipeline: Trained, batch: list[tuple[str, int]], results: Path) -> None:
    """In a forked process: reads mutated files by (name of the target, seed); writes a line for each."""
    stages.start_in(results.parent)
    _limit()
    with tempfile.TemporaryDirectory(dir=results.parent) as folder, results.open("a") as file:
        found = {t.name: t for t in targets(pipeline, Path(folder))}
        before: dict[str, object] = {}
        for name, seed in batch:
            if name not in before:
                before[name] = found[name].read(found[name].data)
            signal.alarm(TIME_S if found[name].format != "audio" else 120)
            outcome = outcome_of(found[name], seed, before[name])
            signal.alarm(0)
            file.write(json.dumps(outcome) + "\n")
            file.flush()


def _limit() -> None:
    with Path("/proc/self/statm").open() as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"reading takes more than {TIME_S} s")

    signal.signal(signal.SIGALRM, late)


def mutate(pipeline: Trained, inputs: Sequence[tuple[Target, int]], folder: Path, found: Mutations) -> None:
    """Reads mutated files in a forked process, and in a new one after each crash."""
    rest = [(target.name, seed) for target, seed in inputs]
    formats = {target.name: target.format for target, _ in inputs}
    results = folder / "results"
    while rest:
        results.unlink(missing_ok=True)
        process = stages.fork(run_batch, pipeline, rest, results)
        process.join()
        lines = results.read_text().splitlines() if results.exists() else []
        for (name, seed), line in zip(rest, lines, strict=False):
            outcome, message = json.loads(line)
            found.outcomes[formats[name], outcome] += 1
            if outcome == "traceback":
                found.problems.append(f"{name}, {seed}: {message}")
        rest = rest[len(lines) :]
        if rest:
            name, seed = rest.pop(0)
            found.outcomes[formats[name], "crash"] += 1
            found.problems.append(f"{name}, {seed}: the process ended with {process.exitcode}")
