"""Progress of long work: a bar on the terminal, and events for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


class ProgressEvent(NamedTuple):
    """How far some work is.

    Attributes:
        stage: What is being done, such as `generate`.
        done: Units that are finished.
        total: Units in all.
    """

    stage: str
    done: int
    total: int


Progress = Callable[[ProgressEvent], None]


def bar(items: Iterable[T], total: int, stage: str, unit: str, progress: Progress | None = None) -> Iterator[T]:
    """Yields items behind a progress bar, and reports each as finished when the next one is asked for.

    Args:
        items: Of the work.
        total: How many there are.
        stage: Name of the work.
        unit: Of one item, such as `sample`.
        progress: Called with an event at the start and after every item.
    """
    if progress is not None:
        progress(ProgressEvent(stage, 0, total))
    for done, item in enumerate(tqdm(items, total=total, desc=stage, unit=unit), 1):
        yield item
        if progress is not None:
            progress(ProgressEvent(stage, done, total))
