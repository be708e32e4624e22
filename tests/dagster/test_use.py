"""The jobs that use a release, run as the UI runs them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from melodygan_core.maintenance import inspection
from melodygan_core.storage.store import Store
from melodygan_dagster.deployment import Deployment
from tests.core.made_temporal import RATE, make_release, put, tone


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("made") / "store"))
    make_release(store)
    return store


@pytest.fixture
def store(made: Store, deployment: Deployment) -> Store:
    """The deployment's store with a release; two sounds lie beside its sources."""
    shutil.copytree(made.root, deployment.store, dirs_exist_ok=True)
    folder = deployment.sources.absolute().parent
    put(folder / "own" / "x" / "a.wav", tone(1.2, (220.0, 330.0)))
    put(folder / "own" / "x" / "b.wav", tone(1.0, (196.0, 147.0), bright=0.9))
    return deployment.opened


def run(
    definitions: dg.Definitions, instance: dg.DagsterInstance, name: str, config: dict[str, Any]
) -> dg.ExecuteInProcessResult:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return definitions.resolve_job_def(f"{name}_job").execute_in_process(
        run_config={"ops": {name: {"config": config}}, **quiet}, instance=instance, raise_on_error=False
    )


def shown(result: dg.ExecuteInProcessResult, op: str) -> dict[str, Any]:
    [event] = [e for e in result.events_for_node(op) if e.is_successful_output]
    return dict(event.step_output_data.metadata)


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None and data.description is not None
    return data.description


USES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "generate",
        {"count": 2, "duration_s": 1.0, "vocoder": "griffin_lim"},
        ["sample-000.wav", "sample-001.wav"],
    ),
    ("reconstruct", {"sound": "own/x/a.wav"}, ["a-reconstructed.wav"]),
    (
        "interpolate",
        {"first": "own/x/a.wav", "second": "own/x/b.wav", "steps": 2},
        ["interpolation-00.wav", "interpolation-01.wav"],
    ),
    ("transfer", {"content": "own/x/a.wav", "style": "own/x/b.wav"}, ["a-as-b.wav"]),
    ("transfer", {"content": "own/x/a.wav", "style_tag": "slow"}, ["a-as-slow.wav"]),
    ("augment", {"dataset": "own", "copies": 1}, ["data/x/a.01.wav", "data/x/b.01.wav"]),
]


@pytest.mark.parametrize(("name", "config", "files"), USES)
def test_what_a_job_makes_can_be_heard_and_seen(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    name: str,
    config: dict[str, Any],
    files: list[str],
) -> None:
    result = run(definitions, instance, name, config)
    assert result.success, failure(result)
    folder = Path(store.use(name, result.run_id).path)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.wav")) == files
    metadata = shown(result, name)
    for file in files:
        assert metadata[f"listen {file}"].value.endswith(f"/uses/{name}/{result.run_id}/{file}")
        assert Path(store.picture(f"uses/{name}/{result.run_id}/{file.removesuffix('.wav')}").path).is_file()
    assert len(metadata["made"].records) == len(files)
    [seen] = instance.fetch_observations(dg.AssetKey(["temporal", "release"]), limit=1).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["job"].value == f"{name}_job"
    # Nothing of it looks damaged or needless to the doctor.
    assert not [f for f in inspection.inspect(store).findings if "uses/" in f.path]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("transfer", {"content": "own/x/a.wav", "style_tag": "loud"}, "allowed: all, mix, fast, minor, slow"),
    ("transfer", {"content": "own/x/a.wav"}, "allowed: exactly one of them"),
    ("reconstruct", {"sound": "/etc/passwd"}, "sound is '/etc/passwd'; allowed: a file or folder below"),
    ("reconstruct", {"sound": "own/../../x.wav"}, r"allowed: a file or folder below"),
    ("reconstruct", {"sound": "link.wav"}, "sound is 'link.wav'; allowed"),
    ("generate", {"family": "dense"}, "no release of family 'dense' yet: materialize dense/release"),
    ("generate", {"family": "other"}, "family is 'other'; allowed: dense, temporal"),
    ("generate", {"count": 0}, "count is 0; allowed: 1 to 10000"),
    ("generate", {"condition": "x"}, "condition is 'x'; allowed: none"),
    ("augment", {"dataset": "own", "strength": 2.0}, r"strength is 2\.0; allowed: 0 to 1"),
]


def test_a_wrong_value_is_one_sentence_and_leaves_nothing(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance, deployment: Deployment
) -> None:
    (deployment.sources.absolute().parent / "link.wav").symlink_to("/etc/passwd")
    for name, config, message in WRONG:
        result = run(definitions, instance, name, config)
        assert not result.success
        assert re.search(message, failure(result)), failure(result)
        assert not (store.base / "uses" / name / result.run_id).exists()


def test_more_folders_are_allowed_by_the_environment(
    store: Store,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from melodygan_dagster.definitions import defs

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = put(elsewhere / "c.wav", tone(1.0, (220.0,)))
    config = {"sound": str(path)}
    assert "allowed: a file or folder below" in failure(run(definitions, instance, "reconstruct", config))
    monkeypatch.setenv("MELODYGAN_ALLOW_ROOTS", str(elsewhere))
    assert run(defs(), instance, "reconstruct", config).success


def test_the_store_itself_is_augmented_by_default(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = run(definitions, instance, "augment", {"copies": 1, "strength": 0.2})
    assert result.success, failure(result)
    assert len(list(Path(store.use("augment", result.run_id).path).rglob("*.wav"))) == 9
    assert store.read_json(store.use("augment", result.run_id) / "use.json")["job"] == "augment_job"


def test_a_sound_that_cannot_be_varied_fails_the_run_and_the_others_are_there(
    store: Store, definitions: dg.Definitions, instance: dg.DagsterInstance, deployment: Deployment
) -> None:
    folder = deployment.sources.absolute().parent / "own"
    (folder / "x" / "bad.wav").write_bytes(b"no sound")
    result = run(definitions, instance, "augment", {"dataset": "own", "copies": 1})
    assert failure(result) == "1 sounds could not be varied; the others were"
    assert len(list(Path(store.use("augment", result.run_id).path).rglob("*.wav"))) == 2
    assert RATE == 22_050
