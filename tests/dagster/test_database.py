"""Dagster's database on a bad day: one sentence with the file, in place of SQLAlchemy's traceback."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from melodygan_core.errors import StorageError
from melodygan_core.storage import Store
from melodygan_core.storage.store import Artifact
from melodygan_dagster import cli, database, reporting, runner
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.io_managers import ArtifactRecords
from melodygan_dagster.resources import StoreResource
from tests.conftest import PRESET
from tests.core.hostile import run_module
from tests.core.made import put_tracks
from tests.core.test_storage import UNSHARE, _may_mount

pytestmark = pytest.mark.slow

RUNS = "history/runs.db"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive transaction, as another process does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def home(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an instance that exists; nobody is waited for."""
    deployment.instance().dispose()
    monkeypatch.setattr(database, "TIMEOUT_S", 0.05)
    return deployment.home


@pytest.mark.parametrize("name", database.DATABASES)
def test_a_locked_database_is_one_sentence_of_every_command(
    deployment: Deployment, home: Path, name: str
) -> None:
    assert (home / name).is_file()
    deployment.sources.write_text("https://a.example/x.mp3\n", "utf-8")
    put_tracks(deployment.opened, ["t"])
    common = ["--store", deployment.store]
    options = [*common, "--sources", str(deployment.sources), "--preset", PRESET]
    for command in (["run", *options], ["ui", *options, "--port", "39117"], ["forget", *common, "t", "--yes"]):
        with locked(home / name):
            result = CliRunner().invoke(cli.main, command)
        assert result.exit_code == 1, (command, result.output)
        assert result.stdout == "" and result.stderr.count("\n") == 1
        assert f"the database is locked ({home / name}); another process writes to it" in result.stderr
    # Nothing was removed before.
    assert deployment.opened.raw_json("t").exists()
    database.check(home)


def test_a_database_that_is_locked_in_the_middle_of_a_run(
    deployment: Deployment, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it had been free when the run began.
    monkeypatch.setattr(database, "check", lambda home: None)
    with locked(home / RUNS), pytest.raises(StorageError) as caught:
        list(runner.run(deployment))
    assert str(caught.value).startswith(f"the database is locked ({home}); ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.write_bytes(b"x" * 4096), "the database is damaged"),
        (None, "the database cannot be opened"),
    ],
)
def test_a_damaged_database_is_one_sentence(home: Path, damage: object, words: str) -> None:
    path = home / RUNS
    if callable(damage):
        damage(path)
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(StorageError) as caught:
        database.check(home)
    assert str(caught.value).startswith(words) and f"({path}); " in str(caught.value)


def test_an_instance_without_sqlite_is_good(tmp_path: Path) -> None:
    database.check(tmp_path)
    with pytest.raises(ZeroDivisionError), database.database_errors(tmp_path):
        raise ZeroDivisionError


# In a step.


def _reason(instance: dg.DagsterInstance, error: Exception, root: str = "") -> str:
    """Why a run fails whose asset raises an error of the disk, or whose record cannot be written."""

    @dg.asset(io_manager_key="records")
    def made() -> Artifact:
        with reporting.one_sentence_errors():
            if root:
                return Artifact("made", "v", "models/made/v", "0", 1)
            raise error

    store = StoreResource(root=root or "none", listen_url="")
    definitions = dg.Definitions([made], resources={"records": ArtifactRecords(store=store)})
    job = definitions.resolve_implicit_global_asset_job_def()
    reason, _ = runner.failure_of(job.execute_in_process(instance=instance, raise_on_error=False))
    return reason


def test_a_step_that_meets_a_bad_disk_fails_with_one_sentence(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.wav")
    assert _reason(instance, full).startswith("the disk is full (x.wav); free some space and run again")
    assert _reason(instance, sqlite3.OperationalError("database is locked")).startswith(
        "the database is locked;"
    )

    def write_record(self: Store, artifact: Artifact) -> None:
        raise full

    monkeypatch.setattr(Store, "write_record", write_record)
    found = _reason(instance, full, str(tmp_path / "store"))
    assert found == "the disk is full (x.wav); free some space and run again: nothing is lost"


@pytest.mark.slow
def test_commands_on_a_full_and_a_read_only_disk(tmp_path: Path) -> None:
    if not _may_mount(tmp_path):
        pytest.skip("needs a mount namespace of one's own (unshare, Linux)")
    printed = json.loads(run_module("small_disk_commands", str(tmp_path), prefix=UNSHARE))
    assert printed, "no command was tried"
    for name, (status, out, err) in printed.items():
        assert status in (1, 2), (name, out, err)
        assert "Traceback" not in err and err.startswith("Error: "), (name, err)
        assert err.count("\n") == 1 and ("full" in name or "ad-only" in err or "cannot be opened" in err), err
        assert str(tmp_path) in err, (name, err)
