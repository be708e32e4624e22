"""What every screen works with: the store, its sounds and jobs, and Dagster's runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.requests import Request

from melodygan_core.config import Config
from melodygan_core.storage import Store
from melodygan_web.dagster_runs import DagsterRuns
from melodygan_web.jobs import JobQueue
from melodygan_web.library import LibraryIndex
from melodygan_web.sounds import SoundIndex


@dataclass(frozen=True)
class Studio:
    """The state of the app, shared by all requests.

    Attributes:
        store: Of everything that is shown.
        sounds: What was made.
        jobs: Short work.
        dagster: Dagster's runs; None where no Dagster is served beside the studio.
        sources: The deployment's sources.yaml; None where the studio serves a store alone.
        config: The deployment's config, likewise.
    """

    store: Store
    sounds: SoundIndex
    jobs: JobQueue
    dagster: DagsterRuns | None = None
    sources: Path | None = None
    config: Config | None = None

    @cached_property
    def library(self) -> LibraryIndex:
        """Tracks that models learn from."""
        return LibraryIndex(self.store)


def studio_of(request: Request) -> Studio:
    """The studio that a request is for."""
    return request.app.state.studio
