"""Progress of long work: events for a callback, and a callback that draws them on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from tqdm.auto import tqdm

from melodygan_core.text import terminal_text

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


def tracked(items: Iterable[T], total: int, stage: str, progress: Progress | None) -> Iterator[T]:
    """Yields items, and reports each as finished when the next one is asked for; draws nothing.

    Args:
        items: Items of the work.
        total: Number of items.
        stage: Name of the work.
        progress: Called with an event at the start and after every item.
    """
    if progress is not None:
        progress(ProgressEvent(stage, 0, total))
    for done, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(ProgressEvent(stage, done, total))


def bar(items: Iterable[T], total: int, stage: str, progress: Progress | None = None) -> Iterator[T]:
    """Yields items as `tracked` does; without a callback a bar on stderr shows the progress.

    It is for stages, which run in a terminal or in Dagster's compute logs. A service uses `tracked`.

    Args:
        items: Items of the work.
        total: Number of items.
        stage: Name of the work.
        progress: Called in place of drawing.
    """
    if progress is not None:
        yield from tracked(items, total, stage, progress)
        return
    with drawn() as report:
        yield from tracked(items, total, stage, report)


@contextmanager
def drawn(delay_s: float = 0.0) -> Iterator[Progress]:
    """A callback that draws a bar per stage on stderr, until the block ends.

    Args:
        delay_s: Work that takes less time is not drawn.
    """
    drawing = _Drawing(delay_s)
    try:
        yield drawing
    finally:
        drawing.close()


class _Drawing:
    """Draws the events of one stage after the other with tqdm."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._bar: tqdm | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, event: ProgressEvent) -> None:
        stage = terminal_text(event.stage)
        if self._bar is None or self._bar.desc != stage:
            self.close()
            self._bar = tqdm(total=event.total, desc=stage, delay=self._delay_s)
            # One long item has no event between its start and its end; tqdm refuses to draw before its delay.
            self._timer = threading.Timer(self._delay_s + 0.05, self._bar.update, [0])
            self._timer.daemon = True
            self._timer.start()
        self._bar.update(event.done - self._bar.n)

    def close(self) -> None:
        """Ends the line of a bar that was drawn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._bar is not None:
            self._bar.close()
