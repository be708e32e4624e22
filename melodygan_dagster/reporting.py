"""Metadata for the Dagster UI: materializations of tracks, figures of artifacts, metrics during training.

Figures are rounded for people; the exact ones are in the store. `audio_s` is a length of sound, `compute_s` is
the time that a computation took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from melodygan_core.errors import MelodyGANError, TransientError, storage_errors
from melodygan_core.settings import environment
from melodygan_core.text import terminal_text
from melodygan_dagster import private
from melodygan_dagster.partitions import PER_TRACK, keys_by_track
from melodygan_dagster.resources import StoreResource

if TYPE_CHECKING:
    from melodygan_core.parallel import Report
    from melodygan_core.storage import Artifact, Store

FAILED = "failed"
# Failed tracks that the text of a failure names.
NAMED = 10
SHOWN_ROWS = 50
PICTURES = 3
DIGITS = 3


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Turns an error of the core, the disk or SQLite into a `dg.Failure` with one sentence.

    The UI shows the sentence without a traceback, which explains nothing to whoever mistyped a value. Other
    exceptions are bugs and keep theirs.
    """
    try:
        with storage_errors():
            yield
    except MelodyGANError as error:
        retried = isinstance(error, TransientError)
        raise private.OneSentenceFailure(terminal_text(error), allow_retries=retried) from None


def image(store: StoreResource, name: str, render: Callable[[], bytes]) -> dg.MarkdownMetadataValue:
    """Returns a picture that the UI shows inline: a file of the store, which `melodygan ui` serves.

    Embedded in the metadata, the picture would be hidden behind "Show Markdown", like all text above 1,000
    characters.

    Args:
        store: Store that keeps the picture.
        name: Name of the picture in the store, without suffix. An existing picture is not rendered again.
        render: Renders the PNG.
    """
    core_store = store.open()
    path = core_store.picture(name)
    if not path.exists():
        with core_store.writing(path) as temporary:
            temporary.write_bytes(render())
    return dg.MetadataValue.md(f"![picture]({store.url(core_store.uri(path)).url})")


def samples(
    store: StoreResource, uri: str, files: Sequence[str], pictures: int = PICTURES
) -> dict[str, dg.MetadataValue]:
    """Returns a link to each sound of a folder, and spectrograms of the first ones.

    Args:
        store: Store that holds the folder.
        uri: The folder, relative to the store's root.
        files: Names of the wavs in it.
        pictures: Number of spectrograms.
    """
    from melodygan_core import audio
    from melodygan_core.audio import plots

    core_store = store.open()
    found: dict[str, dg.MetadataValue] = {}
    for number, file_name in enumerate(files):
        sound = f"{uri}/{file_name}"
        if number < pictures:
            with core_store.reading(core_store.at(sound)) as path:
                wav, sample_rate = audio.read_wav(path)
            render = partial(plots.sound_png, audio.to_mono(wav), sample_rate, width=4.0)
            found[f"picture {file_name}"] = image(store, sound.removesuffix(".wav"), render)
        found[f"listen {file_name}"] = store.url(sound)
    return found


def every_track(asset: str) -> dg.AssetCheckSpec:
    """Returns the check of a per-track asset that reports the failed tracks of its last run.

    The check is not blocking: in a run over many tracks, it would hold back those that succeeded.
    """
    return dg.AssetCheckSpec("every_track", asset=asset, description="No track of the last run failed.")


def tracks(
    context: dg.AssetExecutionContext,
    store: Store,
    report: Report,
    describe: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Iterator[dg.AssetCheckResult]:
    """Records every track that succeeded, then fails the run if some did not, naming them with their reasons.

    The materializations are logged one by one, because a run of fifty tracks may succeed for forty-nine. The
    assets have `output_required=False` for the same reason, and this generator yields only the check.

    Args:
        context: Context of the asset.
        store: Store whose catalogue holds the tracks' titles.
        report: The core's outcome per track.
        describe: Turns the core's metadata of a track into Dagster's; its `sha256` becomes the data version.

    Raises:
        dg.Failure: at least one track failed.
    """
    from melodygan_core import catalogue

    titles = {t.track_id: t.title or t.url for t in catalogue.load(store)}
    keys = keys_by_track(context.partition_keys)
    for outcome in report.good:
        key = keys[outcome.track_id]
        metadata = describe(dict(outcome.metadata))
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key,
                partition=key,
                metadata={
                    "title": titles.get(outcome.track_id, ""),
                    **metadata,
                    "computed": not outcome.skipped,
                    "compute_s": significant(outcome.duration_s),
                },
                tags=_provenance(context, key, str(metadata["sha256"])),
            )
        )
    context.log.info(
        f"{len(report.computed)} computed, {len(report.good) - len(report.computed)} already there"
    )
    rows = [
        {"title": titles.get(o.track_id, ""), "reason": o.error, "permanent": o.permanent, "track": o.track_id}
        for o in report.failed
    ]
    yield dg.AssetCheckResult(
        passed=not rows,
        check_name="every_track",
        metadata={"tracks": len(report.outcomes), FAILED: table(rows)},
    )
    if report.failed:
        named = "\n".join(terminal_text(f"{o.track_id}: {o.error}") for o in report.failed[:NAMED])
        # The core has retried transient errors already, track by track.
        raise private.OneSentenceFailure(
            f"{len(report.failed)} of {len(report.outcomes)} tracks failed:\n{named}", {FAILED: table(rows)}
        )


def _provenance(context: dg.AssetExecutionContext, partition: str, version: str) -> dict[str, str]:
    key = context.asset_key
    inputs = {
        dep: partition if dep.to_user_string() in PER_TRACK else None
        for dep in context.assets_def.asset_deps[key]
    }
    code_version = context.assets_def.code_versions_by_key[key] or ""
    return private.provenance_tags(context.instance, version, code_version, inputs)


def significant(value: float) -> float:
    """Returns the value rounded to three significant digits, enough for people to compare."""
    return float(f"{value:.{DIGITS}g}")


def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the single numbers, strings and truth values among an artifact's metrics; floats are rounded."""
    return {
        k: significant(v) if isinstance(v, float) else v
        for k, v in metrics.items()
        if isinstance(v, bool | int | float | str)
    }


def file(store: Store, uri: str, sha256: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a track's file or folder: figures, place, size and hash.

    Args:
        store: Store that holds it.
        uri: Relative to the store's root.
        sha256: Hash of the content; the data version of the track.
        metrics: The core's metadata of the track: `bytes`, `duration_s` of the sound, and more.
    """
    audio_s = {"audio_s": metrics["duration_s"]} if "duration_s" in metrics else {}
    return {
        **figures(audio_s | {k: v for k, v in metrics.items() if k not in ("bytes", "duration_s")}),
        "dagster/uri": str(store.at(uri)),
        "dagster/size_bytes": metrics["bytes"],
        "sha256": sha256,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Returns rows of plain values as a table without empty columns; no rows are `none`."""
    if not rows:
        return dg.MetadataValue.text("none")
    columns = list(dict.fromkeys(k for row in rows for k, value in row.items() if value is not None))
    return dg.MetadataValue.table(
        [dg.TableRecord({_audio_name(c): _cell(row.get(c)) for c in columns}) for row in rows]
    )


def first_rows(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Returns a table of the first rows of thousands: every event keeps its tables in Dagster's database."""
    return table(rows[:SHOWN_ROWS])


def _cell(value: Any) -> str | int | float | bool:
    if isinstance(value, float):
        return significant(value)
    return value if isinstance(value, bool | int | str) else ""


def _audio_name(name: str) -> str:
    """`duration_s` of tracks, samples and splits is a length of sound."""
    return f"{name.removesuffix('duration_s')}audio_s" if name.rpartition("/")[2] == "duration_s" else name


def artifact(
    made: Artifact, store: StoreResource, metadata: Mapping[str, Any] | None = None, **results: Any
) -> dg.MaterializeResult:
    """Returns the result of an unpartitioned asset: its record, place, size and figures.

    Args:
        made: The core's artifact. Its metric `duration_s` is the time that making it took.
        store: Store that holds it.
        metadata: More metadata, pictures first.
        results: `check_results`, if any.
    """
    named = {"compute_s" if k == "duration_s" else _audio_name(k): v for k, v in made.metrics.items()}
    described = {
        **(metadata or {}),
        **figures(named),
        "dagster/uri": str(store.open().at(made.uri)),
        "dagster/size_bytes": made.bytes,
        "version": made.version,
        "sha256": made.sha256,
    }
    return dg.MaterializeResult(
        value=made, metadata=described, data_version=dg.DataVersion(made.version), **results
    )


def metrics_callback(context: dg.AssetExecutionContext) -> Callable[[int, dict[str, float]], None]:
    """Returns a MetricsCallback that puts the figures of a training under Plots while it trains.

    It writes them for TensorBoard, too, and keeps the sound of each validation, where the deployment asks for
    that.
    """

    def report_metrics(step: int, metrics: dict[str, float]) -> None:
        context.log_event(dg.AssetObservation(context.asset_key, metadata={"step": step, **metrics}))

    settings, name = environment(), context.asset_key.to_user_string()
    callback: Callable[[int, dict[str, float]], None] = report_metrics
    if settings.tensorboard:
        from melodygan_core.services.tensorboard import TensorBoard

        with one_sentence_errors():
            callback = TensorBoard(settings.tensorboard, name, callback)
    if settings.training_sound:
        from melodygan_core.services.training_sound import TrainingSound
        from melodygan_core.storage import Store

        callback = TrainingSound(Store(settings.store), name, callback)
    return callback
