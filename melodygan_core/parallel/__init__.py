"""Maps a function over tracks: existing results are skipped, failures stay with their track."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm

from melodygan_core.parallel import cluster, local
from melodygan_core.parallel.outcomes import Backend, BackendName, Outcome, Report, TrackFunction, attempt

__all__ = ["Backend", "BackendName", "Outcome", "Report", "TrackFunction", "map_tracks"]


def map_tracks(
    stage: str, function: TrackFunction, track_ids: Sequence[str], backend: Backend | None = None
) -> Report:
    """Calls `function` on every track and returns an outcome for each.

    Args:
        stage: Name for the progress bar and the report.
        function: Takes a track_id, returns metadata (`skipped=True` if the artifact exists already). For
            processes and Ray it must be picklable; each worker receives it once and keeps what it loads.
        track_ids: The report has the same order.
        backend: Serial by default.

    Raises:
        InputError: the backend is Ray, and Ray is not installed or this process is not connected to a cluster.
    """
    results = _attempts(function, track_ids, backend or Backend())
    outcomes: dict[str, Outcome] = {}
    with tqdm(total=len(track_ids), desc=stage, unit="track", mininterval=1.0) as bar:
        for outcome in results:
            outcomes[outcome.track_id] = outcome
            bar.update()
            bar.set_postfix(failed=sum(bool(o.error) for o in outcomes.values()), refresh=False)
    return Report(stage, tuple(outcomes[t] for t in track_ids))


def _attempts(function: TrackFunction, track_ids: Sequence[str], backend: Backend) -> Iterator[Outcome]:
    # A single track runs on the cluster too: its machines may have a GPU that this one lacks.
    if backend.name == "ray" and track_ids:
        return cluster.attempts(function, track_ids, backend)
    if backend.name == "serial" or len(track_ids) < 2 or backend.workers < 2:
        return (attempt(function, t) for t in track_ids)
    return local.attempts(function, track_ids, backend)
