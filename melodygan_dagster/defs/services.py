"""What `melodygan generate`, `transfer`, ... do with a release, as jobs that show what they made."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from melodygan_core.config import VOCODERS, AugmentConfig, GenerationConfig, from_dict, require
from melodygan_core.errors import InputError
from melodygan_core.storage import Artifact, dump_json
from melodygan_dagster import configs, reporting
from melodygan_dagster.resources import Settings, StoreResource, deployed_config

if TYPE_CHECKING:
    from melodygan_core.release import Release
    from melodygan_core.services.output import ServiceResult

# Of what a run made this much is shown in the UI; all of it lies in its folder.
UI_SAMPLES = 6
OWN_FILE = (
    "A wav, flac, ogg, mp3, ... of the machine that runs this, in the folder of sources.yaml or below one of"
    " MELODYGAN_ALLOW_ROOTS."
)

# What erasure and doctor know such a folder by.
USE_FILE = "use.json"

Make = Callable[["Release", Path], "ServiceResult"]


def _field(default: Any, description: str) -> dg.Field:
    return dg.Field(type(default), default_value=default, description=description)


def _sound(what: str) -> dg.Field:
    return dg.Field(str, description=f"{what} {OWN_FILE}")


_VOCODER = {"vocoder": _field("", f"{' or '.join(VOCODERS)}; empty for the release's own.")}


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
    metadata: dict[str, Any] = dict(reporting.samples(store, uri, [row["file"] for row in rows[:UI_SAMPLES]]))
    metadata |= {"made": reporting.first_rows(rows), "folder": dg.MetadataValue.path(str(core_store.at(uri)))}
    metadata["release"] = version
    context.add_output_metadata(metadata)
    pipeline = context.op_config["pipeline"]
    context.log_event(
        dg.AssetObservation([pipeline, "release"], metadata={"job": context.job_name, **metadata})
    )


def _use(context: dg.OpExecutionContext, release: Artifact) -> dict[str, Any]:
    return {"job": context.job_name, "config": context.op_config, "release": dataclasses.asdict(release)}


def _run(
    context: dg.OpExecutionContext, store: StoreResource, vocoder: str, names: list[str], make: Make
) -> None:
    """Makes sounds into `uses/<job>/<run_id>`, which appears when all are there."""
    core_store = store.open()
    target = core_store.use(context.job_name.removesuffix("_job"), context.run_id)
    opened = _release(store, context.op_config["pipeline"], vocoder, names)
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
            dg.Enum("Pipeline", [dg.EnumValue(name) for name in names]),
            default_value=names[0],
            description="Whose release in use.",
        )
    }

    @dg.op(config_schema={**pipeline, **_VOCODER, **configs.schema(generation)})
    def generate(context: dg.OpExecutionContext, store: StoreResource) -> None:
        """New pieces from the release in use."""
        from melodygan_core.services.generate import generate as service

        values = {k: v for k, v in context.op_config.items() if k not in ("pipeline", "vocoder")}
        with reporting.one_sentence_errors():
            config = from_dict(GenerationConfig, values)
        _run(context, store, context.op_config["vocoder"], names, lambda r, out: service(r, config, out))

    @dg.op(config_schema={"sound": _sound("What is put through the models."), **pipeline, **_VOCODER})
    def reconstruct(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound through codec and vocoder: what the models keep of it."""
        from melodygan_core.services.reconstruct import reconstruct as service

        config = context.op_config
        with reporting.one_sentence_errors():
            sound = _own(settings, config["sound"], "sound")
        _run(context, store, config["vocoder"], names, lambda r, out: service(r, sound, out))

    @dg.op(
        config_schema={
            "first": _sound("Where it begins."),
            "second": _sound("Where it ends."),
            "steps": _field(5, "Sounds, both ends included."),
            **pipeline,
            **_VOCODER,
        }
    )
    def interpolate(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Sounds between two sounds, through the latents."""
        from melodygan_core.services.interpolate import interpolate as service

        config = context.op_config
        with reporting.one_sentence_errors():
            first, second = (_own(settings, config[name], name) for name in ("first", "second"))
        make: Make = lambda r, out: service(r, first, second, config["steps"], out)  # noqa: E731
        _run(context, store, config["vocoder"], names, make)

    @dg.op(
        config_schema={
            "content": _sound("Whose melody and rhythm are kept."),
            "style": _field("", f"A sound whose timbre is taken; empty for that of a tag. {OWN_FILE}"),
            "style_tag": _field("", "A tag or stem of the training tracks of the release, or `all`."),
            "strength": _field(1.0, "0 leaves the timbre, 1 takes the style's."),
            **pipeline,
        }
    )
    def transfer(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """A sound with the timbre of another one, or of a tag; its melody and rhythm are kept."""
        from melodygan_core.services.transfer import transfer as service

        config = context.op_config
        with reporting.one_sentence_errors():
            content = _own(settings, config["content"], "content")
            style = _own(settings, config["style"], "style") if config["style"] else None

        def make(release: "Release", out: Path) -> "ServiceResult":
            return service(release, content, style, config["style_tag"], config["strength"], out)

        # The content's own sound is filtered: the vocoder is not heard, so the one without training will do.
        _run(context, store, "griffin_lim", names, make)

    @dg.op(
        config_schema={
            "dataset": _field(
                "", "A folder of sounds with labels, below the same folders as sounds; empty for this store's."
            ),
            **configs.schema(AugmentConfig()),
            **pipeline,
        }
    )
    def augment(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
        """Variations of every sound of a labelled set, which keep its label; a re-executed run goes on."""
        from melodygan_core.services.augment import augment as service

        core_store, config = store.open(), context.op_config
        values = {k: v for k, v in config.items() if k not in ("pipeline", "dataset")}
        opened = _release(store, config["pipeline"], "griffin_lim", names)
        with reporting.one_sentence_errors(), opened as (release, artifact):
            require(core_store.is_local, "store", store.root, "a local folder, to augment into")
            source = (
                _own(settings, config["dataset"], "dataset")
                if config["dataset"]
                else Path(core_store.base.path)
            )
            target = core_store.use("augment", context.run.root_run_id or context.run_id)
            result = service(release, source, Path(target.path), from_dict(AugmentConfig, values))
            core_store.write_json(target / USE_FILE, _use(context, artifact))
            rows = [{"file": row["file_name"], **row} for row in result.rows]
            _show(context, store, core_store.uri(target), rows, release.version)
            if result.failed:
                failed = [{"sound": k, "reason": v} for k, v in result.failed.items()]
                raise dg.Failure(
                    f"{len(failed)} sounds could not be varied; the others were",
                    metadata={reporting.FAILED: reporting.first_rows(failed)},
                    allow_retries=False,
                )

    return [_job(op) for op in (generate, reconstruct, interpolate, transfer, augment)]


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
