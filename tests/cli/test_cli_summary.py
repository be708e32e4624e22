"""What `melodygan run` prints: results of jobs, what there is, and the next command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.config import PipelineConfig
from melodygan_core.evaluation.distances import SETUP
from melodygan_core.storage import Artifact, Store
from melodygan_dagster.cli import summary
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.runner import StageResult

PIPELINES = {
    "dense_gan": PipelineConfig(codec="dense", prior="gan"),
    "temporal_gan": PipelineConfig(codec="temporal", prior="gan"),
}


def figures(kad: float | None, **changed: Any) -> dict[str, Any]:
    return {**dict.fromkeys(SETUP, "same"), "generated/kad": kad, **changed}


@pytest.mark.parametrize(
    ("dense", "temporal", "best"),
    [
        (figures(3.0), figures(5.0), "dense_gan"),
        (figures(5.0), figures(3.0), "temporal_gan"),
        # A KAD of 0 is the best there is, not a missing one.
        (figures(0.0), figures(3.0), "dense_gan"),
        (figures(3.0), figures(-0.1), "temporal_gan"),
        # Not comparable: other test tracks, too few of them, or no evaluation.
        (figures(3.0, test_tracks="others"), figures(5.0), "temporal_gan"),
        (figures(None), figures(None), "temporal_gan"),
        (figures(3.0), figures(None), "temporal_gan"),
        (None, None, "temporal_gan"),
        (figures(3.0), None, "dense_gan"),
    ],
)
def test_the_best_pipeline_is_first(dense: dict | None, temporal: dict | None, best: str) -> None:
    found = {n: f for n, f in {"dense_gan": dense, "temporal_gan": temporal}.items() if f is not None}
    ranked = summary.ranked(["temporal_gan", "dense_gan"], found)
    assert ranked[0] == best
    assert sorted(ranked) == ["dense_gan", "temporal_gan"]


def result(job: str, reason: str = "", **failed: str) -> StageResult:
    return StageResult(job, not reason and not failed, reason, failed, 3.2)


def put(store: Store, name: str, uri: str, **metrics: Any) -> None:
    store.write_record(Artifact(name, uri.rsplit("/", 1)[-1], uri, "", 0, metrics=metrics))


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A deployment with a long path, whose store holds the records of two pipelines and a gallery."""
    root = tmp_path / "a-folder-with-a-name-that-is-longer-than-a-terminal-of-eighty-columns" / "store"
    made = Deployment(str(root), tmp_path / "s.yaml", "demo")
    store = made.opened
    put(store, "feature_table", "dataset/d1", **{"train/segments": 80, "test/segments": 10})
    put(store, "vocoder_checkpoint", "models/vocoder/vocoder/v1", **{"test/neural/kad": 1.25})
    for name, kad in (("dense_gan", 30.0), ("temporal_gan", 20.0)):
        metrics = figures(kad, **{"real_baseline/kad": 2.0, "codec/kad": 5.0, "generated/excess_kad": kad - 2})
        put(store, f"{name}/evaluation", f"evaluations/{name}/e1", **metrics)
        put(store, f"{name}/release", f"releases/{name}/r1")
        put(store, f"{name}/generated_samples", f"samples/{name}/s1")
    put(store, "gallery", "gallery/g1", page="index.html")
    return made


def printed(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], *results: StageResult
) -> tuple[bool, list[str]]:
    good = summary.report(deployment, results)
    return good, capsys.readouterr().out.splitlines()


def test_paths_are_whole_and_the_best_release_is_first(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    good, lines = printed(deployment, capsys, result("catalogue_job"), result("temporal_gan_job"))
    assert good
    assert lines[0] == "done catalogue_job in 3 s"
    start = lines.index("Make more:")
    root = deployment.store
    assert lines[start + 1 : start + 5] == [
        f"  melodygan generate {root}/releases/temporal_gan/r1",
        f"  melodygan generate {root}/releases/dense_gan/r1",
        "Listen:",
        f"  {root}/gallery/g1/index.html",
    ]
    assert f"    {root}/samples/dense_gan/s1" in lines
    assert "Dataset: 80 train, 10 test segments" in lines
    assert "Vocoder: KAD 1.25; Griffin-Lim not measured" in lines
    evaluation = "  evaluation: KAD of generated sound 20, codec 5, real music 2, excess 18"
    assert lines.index("temporal_gan: released") + 1 == lines.index(evaluation)


def test_a_failed_pipeline_is_named_and_hides_nothing(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    good, lines = printed(
        deployment,
        capsys,
        result("raw_wav_job", dead="404"),
        result("dense_gan_job", "no_collapse: 1 direction is active"),
        result("temporal_gan_job"),
        result("gallery_job"),
    )
    assert not good
    assert lines[:2] == ["partly raw_wav_job in 3 s", "  dead: 404"]
    assert lines[2:4] == ["failed dense_gan_job in 3 s", "  no_collapse: 1 direction is active"]
    assert "dense_gan: failed: no_collapse: 1 direction is active" in lines
    assert "  release in use of an earlier run: version r1" in lines
    assert "temporal_gan: released" in lines
    assert lines[lines.index("Listen:") + 1].endswith("gallery/g1/index.html")


def test_a_failed_dataset_still_shows_what_there_is(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    good, lines = printed(deployment, capsys, result("dataset_job", "too few groups"))
    assert not good
    assert "Listen:" in lines and "Make more:" in lines


def test_an_empty_store_has_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Deployment(str(tmp_path / "store"), tmp_path / "s.yaml", "demo", pipelines=("temporal_gan",))
    good, lines = printed(empty, capsys, result("catalogue_job", "no sources"))
    assert not good
    assert lines[2:] == ["", "Tracks: 0 in the catalogue, 0 fetched", "", "temporal_gan: not released"]


def test_too_few_tracks_are_reported_in_place_of_figures(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "too few tracks to compare (2 of at least 5)"
    put(
        deployment.opened, "dense_gan/evaluation", "e/dense_gan/e2", **figures(None, **{"generated/note": note})
    )
    baseline = f"no excess over the real baseline: {note}"
    few = figures(20.0, **{"generated/excess_kad": None, "generated/note": baseline})
    put(deployment.opened, "temporal_gan/evaluation", "e/temporal_gan/e2", **few)
    _, lines = printed(deployment, capsys)
    assert f"  evaluation: {note}" in lines
    [other] = [line for line in lines if line.startswith("  evaluation: KAD of generated sound 20")]
    assert other.endswith(baseline)


def test_many_failed_tracks_are_counted(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = printed(deployment, capsys, result("raw_wav_job", **{f"t{i}": "404" for i in range(25)}))
    assert sum(line.endswith(": 404") for line in lines) == summary.FAILED_SHOWN
    assert "  and 5 more" in lines


def test_a_command_is_printed_as_it_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "melodygan"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    assert summary.command("generate", "/a b") == f"{program} generate '/a b'"
    monkeypatch.setenv("PATH", str(program.parent))
    assert summary.command("generate", "/x") == "melodygan generate /x"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert summary.command("generate", "/x") == "melodygan generate /x"
