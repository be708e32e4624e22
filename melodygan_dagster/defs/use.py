"""A release, used: what `melodygan generate`, `transfer`, ... do, as jobs that show what they made."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from melodygan_core.config import FAMILIES, VOCODERS, AugmentConfig, GenerationConfig, from_dict, require
from melodygan_core.errors import InputError
from melodygan_core.storage.store import Artifact, dump_json
from melodygan_dagster import configs, reporting
from melodygan_dagster.resources import Settings, StoreResource, deployed_preset

if TYPE_CHECKING:
    from melodygan_core.release import Release

# Of what a run made this much can be seen and heard in the UI; all of it lies in its folder.
SHOWN = 6
OWN_FILE = (
    "A wav, flac, ogg, mp3, ... of the machine that runs this, in the folder of sources.yaml or below one of"
    " MELODYGAN_ALLOW_ROOTS."
)

# What `forget` and `doctor` know a use by.
USE_FILE = "use.json"

Make = Callable[["Release", Path], list[dict[str, Any]]]


def _field(default: Any, description: str) -> dg.Field:
    return dg.Field(type(default), default_value=default, description=description)


def _sound(what: str) -> dg.Field:
    return dg.Field(str, description=f"{what} {OWN_FILE}")


_FAMILY = {"family": _field("temporal", f"Of whose release in use: {', '.join(FAMILIES)}.")}
_VOCODER = {"vocoder": _field("", f"{' or '.join(VOCODERS)}; empty for what the release was evaluated with.")}


@contextmanager
def _blaming() -> Iterator[None]:
    """A wrong value is one sentence, and trying again would not help."""
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _own(settings: Settings, path: str, name: str) -> Path:
    """A file or folder that a person named, if it lies where `path:` sources may lie.

    Raises:
        InputError: not there, or elsewhere; whether there is such a file elsewhere is not said.
    """
    roots = settings.catalogue().allowed_roots or (str(settings.sources_file.absolute().parent),)
    found = Path(os.path.realpath(Path(roots[0]) / path))
    inside = any(found.is_relative_to(Path(root).resolve()) for root in roots)
    require(inside and found.exists(), name, path, f"a file or folder below {', '.join(roots)}")
    return found


@contextmanager
def _release(store: StoreResource, family: str, vocoder: str) -> Iterator[tuple["Release", Artifact]]:
    """The release in use of a family, and its record."""
    from melodygan_core import release

    require(family in FAMILIES, "family", family, ", ".join(FAMILIES))
    core_store = store.open()
    made = core_store.record(release.name_of(family))
    if made is None:
        raise InputError(f"there is no release of family {family!r} yet: materialize {release.name_of(family)}")
    with core_store.reading(core_store.at(made.uri)) as folder:
        yield release.load(folder, vocoder), made


def _show(
    context: dg.OpExecutionContext, store: StoreResource, uri: str, rows: list[dict[str, Any]], version: str
) -> None:
    """Players, pictures and figures as metadata of the op's output, and on the page of the release."""
    from melodygan_core import audio
    from melodygan_core.audio import plots

    core_store = store.open()
    shown: dict[str, Any] = {}
    for row in rows[:SHOWN]:
        sound = f"{uri}/{row['file']}"
        with core_store.reading(core_store.at(sound)) as path:
            wav, sample_rate = audio.read_wav(path)
        picture = partial(plots.sound_png, audio.to_mono(wav), sample_rate, width=4.0)
        shown[f"picture {row['file']}"] = reporting.image(store, sound.removesuffix(".wav"), picture)
        shown[f"listen {row['file']}"] = store.url(sound)
    shown |= {"made": reporting.shown(rows), "folder": dg.MetadataValue.path(str(core_store.at(uri)))}
    shown["release"] = version
    context.add_output_metadata(shown)
    family = context.op_config["family"]
    context.log_event(dg.AssetObservation([family, "release"], metadata={"job": context.job_name, **shown}))


def _use(context: dg.OpExecutionContext, release: Artifact) -> dict[str, Any]:
    return {"job": context.job_name, "config": context.op_config, "release": dataclasses.asdict(release)}


def _run(context: dg.OpExecutionContext, store: StoreResource, vocoder: str, make: Make) -> None:
    """Makes sounds into `uses/<job>/<run_id>`, which appears when all are there."""
    core_store = store.open()
    target = core_store.use(context.job_name.removesuffix("_job"), context.run_id)
    with _blaming(), _release(store, context.op_config["family"], vocoder) as (release, artifact):
        with core_store.writing_folder(target) as folder:
            rows = make(release, folder)
            dump_json(folder / USE_FILE, _use(context, artifact))
        _show(context, store, core_store.uri(target), rows, release.description["version"])


@dg.op(config_schema={**_FAMILY, **configs.schema(deployed_preset().generation)})
def generate(context: dg.OpExecutionContext, store: StoreResource) -> None:
    """New pieces from the release in use."""
    from melodygan_core import services

    values = {k: v for k, v in context.op_config.items() if k != "family"}
    with _blaming():
        config = from_dict(GenerationConfig, values)
    _run(context, store, config.vocoder, lambda release, out: services.generate_files(release, config, out))


@dg.op(config_schema={"sound": _sound("What is put through the models."), **_FAMILY, **_VOCODER})
def reconstruct(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
    """A sound through autoencoder and vocoder: what the models keep of it."""
    from melodygan_core import services

    config = context.op_config
    with _blaming():
        sound = _own(settings, config["sound"], "sound")
    _run(context, store, config["vocoder"], lambda r, out: services.reconstruct_file(r, sound, out))


@dg.op(
    config_schema={
        "first": _sound("Where it begins."),
        "second": _sound("Where it ends."),
        "steps": _field(5, "Sounds, both ends included."),
        **_FAMILY,
        **_VOCODER,
    }
)
def interpolate(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
    """Sounds on the way from one to another, through the latents."""
    from melodygan_core import services

    config = context.op_config
    with _blaming():
        ends = [_own(settings, config[name], name) for name in ("first", "second")]
    _run(
        context,
        store,
        config["vocoder"],
        lambda r, out: services.interpolate_files(r, ends[0], ends[1], config["steps"], out),
    )


@dg.op(
    config_schema={
        "content": _sound("Whose melody and rhythm are kept."),
        "style": _field("", f"A sound whose timbre is taken; empty for that of a tag. {OWN_FILE}"),
        "style_tag": _field("", "A tag or stem of the tracks that the release was trained on, or `all`."),
        "strength": _field(1.0, "0 leaves the timbre, 1 takes the style's."),
        **_FAMILY,
    }
)
def transfer(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
    """A sound with the timbre of another one, or of a tag; its melody and rhythm are kept."""
    config = context.op_config
    with _blaming():
        content = _own(settings, config["content"], "content")
        style = _own(settings, config["style"], "style") if config["style"] else None

    def make(release: "Release", out: Path) -> list[dict[str, Any]]:
        from melodygan_core import services

        return services.transfer_file(release, content, style, config["style_tag"], config["strength"], out)

    # The content's own sound is filtered: no vocoder is heard, so that the one that needs no training will do.
    _run(context, store, "griffin_lim", make)


@dg.op(
    config_schema={
        "dataset": _field(
            "", "A folder of sounds with labels, below the same folders as sounds; empty for this store's."
        ),
        **configs.schema(AugmentConfig()),
        **_FAMILY,
    }
)
def augment(context: dg.OpExecutionContext, store: StoreResource, settings: Settings) -> None:
    """Variations of every sound of a labelled set, which keep its label; a re-executed run goes on."""
    from melodygan_core import services

    core_store = store.open()
    values = {k: v for k, v in context.op_config.items() if k not in ("family", "dataset")}
    with _blaming(), _release(store, context.op_config["family"], "griffin_lim") as (release, artifact):
        config = from_dict(AugmentConfig, values)
        require(core_store.is_local, "store", store.root, "a local folder, to augment into")
        dataset = context.op_config["dataset"]
        source = _own(settings, dataset, "dataset") if dataset else Path(core_store.base.path)
        target = core_store.use("augment", context.run.root_run_id or context.run_id)
        result = services.augment(release, source, Path(target.path), config)
        core_store.write_json(target / USE_FILE, _use(context, artifact))
        rows = [{"file": row["file_name"], **row} for row in result.rows]
        _show(context, store, core_store.uri(target), rows, release.description["version"])
        if result.failed:
            failed = [{"sound": k, "reason": v} for k, v in result.failed.items()]
            raise dg.Failure(
                f"{len(failed)} sounds could not be varied; the others were",
                metadata={reporting.FAILED: reporting.shown(failed)},
                allow_retries=False,
            )


def _job(op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.job(name=f"{op.name}_job", description=op.description, executor_def=dg.in_process_executor)
    def job() -> None:
        op()

    return job


generate_job, reconstruct_job, interpolate_job, transfer_job, augment_job = map(
    _job, (generate, reconstruct, interpolate, transfer, augment)
)
