"""What a job of a service does: read its request, open the release in use, and show what was made."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from melodygan_core.config import ConfigModel, from_dict, replace, require
from melodygan_core.config.requests import SOUND
from melodygan_core.errors import InputError
from melodygan_core.progress import Progress, ProgressEvent
from melodygan_core.services import uses
from melodygan_core.services.uses import write_use
from melodygan_core.storage import Artifact
from melodygan_dagster import reporting
from melodygan_dagster.resources import Settings, StoreResource

if TYPE_CHECKING:
    from melodygan_core.release import Release
    from melodygan_core.services.output import ServiceResult

# Progress is logged at most once in this many seconds.
LOG_EVERY_S = 5.0

C = TypeVar("C", bound=ConfigModel)
Make = Callable[["Release", Path], "ServiceResult"]


def sound_fields(request: ConfigModel | type[ConfigModel]) -> list[str]:
    """Names of the fields that hold the path of a sound file."""
    kind = request if isinstance(request, type) else type(request)
    return [name for name, field in kind.model_fields.items() if SOUND in field.metadata]


def request_of(context: dg.OpExecutionContext, request: type[C], settings: Settings | None = None) -> C:
    """The run's config as the request of a service.

    Args:
        context: Of the op.
        request: Its class.
        settings: Where sound files may lie.

    Raises:
        dg.Failure: a value that is not allowed, or a sound file elsewhere.
    """
    with reporting.one_sentence_errors():
        made = from_dict(request, {name: context.op_config[name] for name in request.model_fields})
        if settings is None:
            return made
        paths = {name: getattr(made, name) for name in sound_fields(request)}
        found = {name: str(own_file(settings, path, name)) for name, path in paths.items() if path}
        return replace(made, **found)


def vocoder_of(context: dg.OpExecutionContext) -> str:
    """The vocoder of a run; the release's own when empty.

    Where a filter goes over the sound itself, no vocoder is heard: the one without weights will do.
    """
    return "griffin_lim" if context.op_config.get("method") == "eq" else context.op_config.get("vocoder", "")


def logged(context: dg.OpExecutionContext) -> Progress:
    """A callback that logs the first event, the last one, and one every few seconds between them."""
    last = float("-inf")

    def log(event: ProgressEvent) -> None:
        nonlocal last
        now = time.monotonic()
        if event.done == event.total or now - last >= LOG_EVERY_S:
            last = now
            context.log.info(f"{event.stage}: {event.done} of {event.total}")

    return log


def own_file(settings: Settings, path: str, name: str) -> Path:
    """A file or folder that a user named, if it lies where `path:` sources may lie.

    Raises:
        InputError: not there, or elsewhere; whether there is such a file elsewhere is not said.
    """
    roots = settings.catalogue().allowed_roots or (str(settings.sources_file.absolute().parent),)
    found = Path(os.path.realpath(Path(roots[0]) / path))
    inside = any(found.is_relative_to(Path(root).resolve()) for root in roots)
    require(inside and found.exists(), name, path, f"a file or folder below {', '.join(roots)}")
    return found


@contextmanager
def release_in_use(
    store: StoreResource, pipeline: str, vocoder: str, names: list[str]
) -> Iterator[tuple["Release", Artifact]]:
    """The release in use of a pipeline, and its record."""
    from melodygan_core import release

    require(pipeline in names, "pipeline", pipeline, ", ".join(names))
    core_store = store.open()
    made = core_store.record(release.name_of(pipeline))
    if made is None:
        raise InputError(f"{release.name_of(pipeline)} must be materialized first: it is not there yet")
    with core_store.reading(core_store.at(made.uri)) as folder:
        yield release.load(folder, vocoder), made


def show(
    context: dg.OpExecutionContext, store: StoreResource, uri: str, rows: list[dict[str, Any]], version: str
) -> None:
    """Players, pictures and figures as metadata of the op's output, and on the page of the release."""
    core_store = store.open()
    files = [row["file"] for row in rows[: reporting.SHOWN_ROWS]]
    metadata: dict[str, Any] = dict(reporting.samples(store, uri, files))
    metadata |= {"made": reporting.first_rows(rows), "folder": dg.MetadataValue.path(str(core_store.at(uri)))}
    metadata["release"] = version
    context.add_output_metadata(metadata)
    pipeline = context.op_config["pipeline"]
    context.log_event(
        dg.AssetObservation([pipeline, "release"], metadata={"job": context.job_name, **metadata})
    )


def use_note(context: dg.OpExecutionContext, release: Artifact) -> dict[str, Any]:
    """What erasure and `doctor` know such a folder by."""
    return uses.use_note(context.job_name, context.op_config, release)


def run(context: dg.OpExecutionContext, store: StoreResource, names: list[str], make: Make) -> None:
    """Makes sounds into `uses/<job>/<run_id>`, which appears when all are there."""
    core_store = store.open()
    target = core_store.use(context.job_name.removesuffix("_job"), context.run_id)
    opened = release_in_use(store, context.op_config["pipeline"], vocoder_of(context), names)
    with reporting.one_sentence_errors(), opened as (release, artifact):
        made = write_use(core_store, target, use_note(context, artifact), partial(make, release))
        rows = [sound.to_dict() for sound in made.sounds]
        show(context, store, core_store.uri(target), rows, release.version)
