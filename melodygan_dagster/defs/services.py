"""What `melodygan generate`, `transfer`, ... do with a release, as jobs that show what they made."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg

from melodygan_core.config import (
    VOCODERS,
    AugmentConfig,
    ConfigModel,
    ContinueConfig,
    GenerationConfig,
    InpaintConfig,
    InterpolateConfig,
    LoopConfig,
    ReconstructConfig,
    TransferConfig,
    VariationsConfig,
    from_dict,
    replace,
    require,
)
from melodygan_core.config.use import SOUND
from melodygan_core.errors import InputError
from melodygan_core.progress import Progress, ProgressEvent
from melodygan_core.storage import Artifact, dump_json
from melodygan_dagster import configs, private, reporting
from melodygan_dagster.resources import Settings, StoreResource, deployed_config

if TYPE_CHECKING:
    from melodygan_core.release import Release
    from melodygan_core.services.output import ServiceResult

OWN_FILE = (
    "A wav, flac, ogg, mp3, ... of the machine that runs this, in the folder of sources.yaml or below one of"
    " MELODYGAN_ALLOW_ROOTS."
)
# Progress is logged at most once in this many seconds.
LOG_EVERY_S = 5.0

# What erasure and doctor know such a folder by.
USE_FILE = "use.json"

C = TypeVar("C", bound=ConfigModel)
Make = Callable[["Release", Path], "ServiceResult"]

_VOCODER = {
    "vocoder": dg.Field(
        configs.choice(VOCODERS),
        is_required=False,
        description="Vocoder to use instead of the release's own.",
    )
}
_DATASET = {
    "dataset": dg.Field(
        str,
        default_value="",
        description="A folder of sounds with labels, below the same folders as sounds; empty for this store's.",
    )
}


def _schema(request: type[ConfigModel]) -> dict[str, dg.Field]:
    """The launchpad's fields for a request; those of sound files say where the files may lie."""
    fields = configs.schema(request)
    for name in _sounds(request):
        field = fields[name]
        default = {"default_value": field.default_value} if field.default_provided else {}
        fields[name] = dg.Field(field.config_type, description=f"{field.description} {OWN_FILE}", **default)
    return fields


def _sounds(request: type[ConfigModel]) -> list[str]:
    """Names of the fields that hold the path of a sound file."""
    return [name for name, field in request.model_fields.items() if SOUND in field.metadata]


def _request(context: dg.OpExecutionContext, request: type[C], settings: Settings | None = None) -> C:
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
        paths = {name: getattr(made, name) for name in _sounds(request)}
        found = {name: str(_own(settings, path, name)) for name, path in paths.items() if path}
        return replace(made, **found)


def _vocoder(context: dg.OpExecutionContext) -> str:
    """The vocoder of a run; the release's own when empty.

    Where a filter goes over the sound itself, no vocoder is heard: the one without weights will do.
    """
    return "griffin_lim" if context.op_config.get("method") == "eq" else context.op_config.get("vocoder", "")


def _logged(context: dg.OpExecutionContext) -> Progress:
    """A callback that logs the first event, the last one, and one every few seconds between them."""
    last = float("-inf")

    def log(event: ProgressEvent) -> None:
        nonlocal last
        now = time.monotonic()
        if event.done == event.total or now - last >= LOG_EVERY_S:
            last = now
            context.log.info(f"{event.stage}: {event.done} of {event.total}")

    return log


def _own(settings: Settings, path: str, name: str) -> Path:
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
def _release(
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


def _show(
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


def _use(context: dg.OpExecutionContext, release: Artifact) -> dict[str, Any]:
    return {"job": context.job_name, "config": context.op_config, "release": dataclasses.asdict(release)}


def _run(context: dg.OpExecutionContext, store: StoreResource, names: list[str], make: Make) -> None:
    """Makes sounds into `uses/<job>/<run_id>`, which appears when all are there."""
    core_store = store.open()
    target = core_store.use(context.job_name.removesuffix("_job"), context.run_id)
    opened = _release(store, context.op_config["pipeline"], _vocoder(context), names)
    with reporting.one_sentence_errors(), opened as (release, artifact):
        with core_store.writing_folder(target) as folder:
            rows = [sound.to_dict() for sound in make(release, folder / "made").sounds]
            for path in (folder / "made").iterdir():
                path.rename(folder / path.name)
            (folder / "made").rmdir()
            dump_json(folder / USE_FILE, _use(context, artifact))
        _show(context, store, core_store.uri(target), rows, release.version)


def build_jobs(names: list[str], generation: GenerationConfig) -> list[dg.JobDefinition]:
    """A job per service.

    Args:
        names: Pipelines whose releases can be used; the first is the default.
        generation: Defaults of `generate`.
    """
    pipeline = {
        "pipeline": dg.Field(
            configs.choice(tuple(names)),
            default_value=names[0],
            description="Whose release in use.",
        )
    }

    @dg.op(config_schema={**pipeline, **_VOCODER, **configs.schema(generation)})
    def generate(context: dg.OpExecutionContext, store: StoreResource) -> None:
        """New pieces from the release in use."""
        from melodygan_core.services.generate import generate as service

        config, progress = _request(context, GenerationConfig), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(ReconstructConfig), **pipeline, **_VOCODER})
    def reconstruct(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound through codec and vocoder: what the models keep of it."""
        from melodygan_core.services.reconstruct import reconstruct as service

        config, progress = _request(context, ReconstructConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(InterpolateConfig), **pipeline, **_VOCODER})
    def interpolate(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Sounds between two sounds, through the latents."""
        from melodygan_core.services.interpolate import interpolate as service

        config, progress = _request(context, InterpolateConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(TransferConfig), **pipeline, **_VOCODER})
    def transfer(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound with the timbre of another one, or of a tag; its melody and rhythm are kept."""
        from melodygan_core.services.transfer import transfer as service

        config, progress = _request(context, TransferConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    # Dagster takes no op that is called as a word of Python: not `continue`.
    @dg.op(config_schema={**_schema(ContinueConfig), **pipeline, **_VOCODER})
    def continuation(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound that goes on; of a pipeline whose prior is a flow."""
        from melodygan_core.services.continuation import continue_sound as service

        config, progress = _request(context, ContinueConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(InpaintConfig), **pipeline, **_VOCODER})
    def inpaint(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound of which a part is made anew; of a pipeline whose prior is a flow."""
        from melodygan_core.services.continuation import inpaint as service

        config, progress = _request(context, InpaintConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(LoopConfig), **pipeline, **_VOCODER})
    def loop(context: dg.OpExecutionContext, store: StoreResource) -> None:
        """New sounds whose end goes over into their beginning; of a pipeline whose prior is a flow."""
        from melodygan_core.services.loop import loop as service

        config, progress = _request(context, LoopConfig), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_schema(VariationsConfig), **pipeline, **_VOCODER})
    def variations(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Variations of a sound; of a pipeline whose prior is a flow."""
        from melodygan_core.services.variations import variations as service

        config, progress = _request(context, VariationsConfig, settings), _logged(context)
        _run(context, store, names, lambda r, out: service(r, config, out, progress=progress))

    @dg.op(config_schema={**_DATASET, **configs.schema(AugmentConfig()), **pipeline, **_VOCODER})
    def augment(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Variations of every sound of a labelled set, which keep its label; a re-executed run goes on."""
        from melodygan_core.services.augment import augment as service

        core_store, config = store.open(), context.op_config
        request = _request(context, AugmentConfig)
        opened = _release(store, config["pipeline"], _vocoder(context), names)
        with reporting.one_sentence_errors(), opened as (release, artifact):
            require(core_store.is_local, "store", store.root, "a local folder, to augment into")
            source = (
                _own(settings, config["dataset"], "dataset")
                if config["dataset"]
                else Path(core_store.base.path)
            )
            target = core_store.use("augment", context.run.root_run_id or context.run_id)
            result = service(release, source, Path(target.path), request, progress=_logged(context))
            core_store.write_json(target / USE_FILE, _use(context, artifact))
            rows = [{"file": row["file_name"], **row} for row in result.rows]
            _show(context, store, core_store.uri(target), rows, release.version)
            if result.failed:
                failed = [{"sound": k, "reason": v} for k, v in result.failed.items()]
                raise private.OneSentenceFailure(
                    f"{len(failed)} sounds could not be varied; the others were",
                    {reporting.FAILED: reporting.first_rows(failed)},
                )

    ops = (generate, reconstruct, interpolate, transfer, continuation, inpaint, loop, variations, augment)
    return [_job(op) for op in ops]


def _job(op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.job(name=f"{op.name}_job", description=op.description, executor_def=dg.in_process_executor)
    def job() -> None:
        op()

    return job


@dg.definitions
def services() -> dg.Definitions:
    """A job per service, for the releases of this deployment's pipelines."""
    config = deployed_config()
    return dg.Definitions(jobs=build_jobs(list(config.train), config.generation))
