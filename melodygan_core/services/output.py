"""The output of a service: a new folder per call, which appears when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.storage.files import temporary_beside

# A folder in what `augment` writes: how the set was made, and a row for each finished file. `datasets` does
# not look into it.
STATE = ".melodygan"


@dataclass(frozen=True)
class SoundFile:
    """One sound that a service made.

    Attributes:
        file: Name in the output folder.
        duration_s: Length.
        sample_rate: In Hz.
        peak_db: Highest sample, in dB of full scale.
        loudness_lufs: Integrated loudness.
        figures: Figures of the service, such as `chroma_correlation`.
    """

    file: str
    duration_s: float
    sample_rate: int
    peak_db: float
    loudness_lufs: float
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> SoundFile:
        """The sound of a row that `piece_files.write_pieces` returns."""
        names = ("file", "duration_s", "sample_rate", "peak_db", "loudness_lufs")
        return cls(**{name: row[name] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """One flat row."""
        row = {k: v for k, v in vars(self).items() if k != "figures"}
        return {**row, **self.figures}


@dataclass(frozen=True)
class ServiceResult:
    """What a service made.

    Attributes:
        sounds: In order.
        licences: Of the tracks that the release was trained on.
    """

    sounds: list[SoundFile]
    licences: list[str]


def new_folder(base: Path) -> Path:
    """The first of `base`, `base-2`, `base-3`, ... that does not exist or is empty."""
    for n in count(1):
        path = base if n == 1 else base.with_name(f"{base.name}-{n}")
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return path
    raise AssertionError("unreachable")


def check_output(out: Path, *, overwrite: bool = False) -> None:
    """Checks that a service can write to a folder; creates nothing and loads no model.

    Args:
        out: A new or empty folder.
        overwrite: Also allow a folder that an earlier call filled, and nothing else.

    Raises:
        InputError: it holds something, cannot be written, or is the current folder.
    """
    require(not out.exists() or out.is_dir(), "out", str(out), "a folder")
    # It is replaced by a new folder, and a shell would stay in the old one.
    require(out.resolve() != Path.cwd(), "out", str(out), "a folder other than the current one")
    names = [] if not out.is_dir() else sorted(path.name for path in out.iterdir())
    if names and not overwrite:
        raise InputError(f"out must be a new or empty folder (or set `overwrite`), got {str(out)!r}")
    foreign = [name for name in names if not _is_output(out / name)]
    if foreign:
        allowed = "a folder that holds nothing but what an earlier call wrote"
        raise InputError(f"out must be {allowed}, got {str(out)!r} with {foreign[0]!r}")
    _check_writable(out.resolve().parent)


def check_new(out: Path, field: str) -> None:
    """Checks that a folder is new or empty and can be written; creates nothing.

    Args:
        out: The folder.
        field: What names it, for errors.

    Raises:
        InputError: it is neither, or cannot be written.
    """
    free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(free and out.resolve() != Path.cwd(), field, str(out), "a new or empty folder, not the current one")
    _check_writable(out.resolve().parent, field)


def check_resumable(out: Path) -> None:
    """Checks that `augment` can write to a folder or continue in it; creates nothing and loads no model.

    Raises:
        InputError: it holds something else, or cannot be written.
    """
    require(not out.exists() or out.is_dir(), "out", str(out), "a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / STATE).is_dir():
        raise InputError(f"out must be a new or empty folder or one to continue, got {str(out)!r}")
    _check_writable(out.resolve())


def _is_output(path: Path) -> bool:
    """Whether a service may have written a file: sounds and MIDI always have their provenance beside them."""
    if not path.is_file() or path.is_symlink():
        return False
    return path.suffix in (".json", ".parquet") or (
        path.suffix in (".wav", ".mid") and path.with_suffix(".json").is_file()
    )


def _check_writable(folder: Path, field: str = "out") -> None:
    """Raises InputError unless a folder, or the nearest one above that exists, can be written."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    probe = temporary_beside(existing / "probe")
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{field} must be in a folder that can be written, got {folder}: {reason}") from error


@contextmanager
def output_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder, which becomes `out` atomically if the block succeeds.

    Raises:
        InputError: see check_output.
    """
    check_output(out, overwrite=overwrite)
    target = out.resolve()
    temporary, replaced = temporary_beside(target), temporary_beside(target)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Once more: another call may have filled it meanwhile.
        check_output(out, overwrite=overwrite)
        try:
            if target.exists():
                target.replace(replaced)
            temporary.replace(target)
        except BaseException:
            if replaced.exists() and not target.exists():
                replaced.replace(target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)
