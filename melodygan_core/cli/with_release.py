"""What the commands share that use a release: its argument, its output folder, progress and what is printed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from melodygan_core.cli.terminal import echo

if TYPE_CHECKING:
    from melodygan_core.progress import Progress
    from melodygan_core.release import Release
    from melodygan_core.services.output import ServiceResult

    Service = Callable[..., ServiceResult]

# Work that takes longer than this announces itself.
SLOW_S = 1.0
# Work that takes longer than this shows its progress.
DRAWN_S = 2.0


def _resolve(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from melodygan_core.services.releases import resolve_release

    return resolve_release(value)


release_argument = click.argument("release", callback=_resolve)


def prepare(release: str, out: Path | None, overwrite: bool, default: str, *, exported: bool = False) -> Path:
    """The folder to write to, after the checks that need no model; an exported release has its own checks."""
    from melodygan_core.services.output import check_output, new_folder
    from melodygan_core.services.releases import check_release

    if overwrite and out is None:
        raise click.UsageError("--overwrite needs --out: without it every call gets a new folder")
    if not exported:
        check_release(release)
    folder = new_folder(Path(default)) if out is None else out
    check_output(folder, overwrite=overwrite)
    return folder


def open_release(name: str, vocoder: str | None, device: str) -> Release:
    """The release of a name; warns of tracks that were forgotten since."""
    with _announced(f"Loading {name} ..."):
        from melodygan_core.services import releases

        opened = releases.open_release(name, vocoder or "", device)
    if opened.erased:
        tracks = ", ".join(opened.erased)
        echo(f"Warning: the release was trained on {tracks}, forgotten since: train again", err=True)
    return opened.release


@contextmanager
def _announced(message: str) -> Iterator[None]:
    """Prints a line to stderr if the block takes longer than SLOW_S."""
    timer = threading.Timer(SLOW_S, echo, [message], {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def drawn_late() -> AbstractContextManager[Progress]:
    """A callback that draws the progress of work that takes longer than DRAWN_S, on stderr."""
    from melodygan_core.progress import drawn

    return drawn(DRAWN_S)


def run(folder: Path, service: Service, opened: Any, config: Any, overwrite: bool) -> None:
    """Calls a service, draws its progress, and prints what it made."""
    with drawn_late() as progress:
        result = service(opened, config, folder, overwrite=overwrite, progress=progress)
    for sound in result.sounds:
        figures = "".join(f"  {name} {value:.3g}" for name, value in sound.figures.items())
        line = f"{folder / sound.file}  {sound.duration_s:g} s  {sound.loudness_lufs:g} LUFS{figures}"
        echo(line)
    report_licences(result.licences)


def report_licences(licences: list[str]) -> None:
    """Prints the licences of the training tracks, which bind what was made."""
    echo(f"Licences of the training tracks: {', '.join(licences)}")
