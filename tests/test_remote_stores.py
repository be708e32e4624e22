"""Stores on S3 (moto's server on loopback) and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import fsspec
import pytest
import s3fs
import torch
from aiobotocore.client import AioBaseClient
from click.testing import CliRunner
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer

from melodygan_core import codec, evaluation, generation, latents, prior, release, vocoder
from melodygan_core.cli import main
from melodygan_core.dataset import Dataset
from melodygan_core.demo import songs
from melodygan_core.errors import InputError
from melodygan_core.maintenance.check import BAD, check_store
from melodygan_core.maintenance.repair import repair_store
from melodygan_core.storage import ARTIFACT_FILE, MARKERS, Artifact, Layout, Store, listing
from melodygan_core.storage.files import own_folder
from melodygan_dagster import track_scheduling
from melodygan_dagster.deployment import Deployment
from melodygan_dagster.partitions import PER_TRACK
from melodygan_dagster.runner import failure_of
from tests.conftest import PRESET
from tests.core.made import (
    DENSE_CODEC,
    DENSE_GAN,
    EVALUATION,
    GENERATION,
    VOCODER,
    Trained,
    make_dense,
)
from tests.dagster.conftest import execute

pytestmark = pytest.mark.slow
COUNT, SONG_S = 6, 4.0
BUCKET = "bucket"
Requests = list[tuple[str, str]]


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of this machine's scratch for remote stores."""
    folder = tmp_path_factory.mktemp("scratch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket that the usual variables lead to."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    """The requests to S3 so far, in order: operation and key."""
    sent: Requests = []
    call = AioBaseClient._make_api_call

    async def recorded(self: AioBaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        sent.append((operation, arguments.get("Key", "")))
        return await call(self, operation, arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", recorded)
    return sent


# The data's stages, run by Dagster.


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    songs.write_songs(folder / "songs", COUNT, SONG_S)
    file = folder / "sources.yaml"
    file.write_text("sources:\n  - {path: songs, rights: own, licence: CC0-1.0}\n", "utf-8")
    # Short segments, so that short songs are enough to train on.
    (folder / "config.yaml").write_text("features: {segment_frames: 32}\n", "utf-8")
    return file


def run(root: str, sources: Path, home: Path) -> dict[str, Any]:
    """Runs the data's stages in a new Dagster instance; returns all data versions that it has then."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("MELODYGAN_"):
                patch.setenv(name, os.environ[name])
        patch.setenv("DAGSTER_HOME", str(home))
        deployment = Deployment(root, sources, PRESET, config=sources.with_name("config.yaml"))
        with deployment.instance() as instance:
            from melodygan_dagster.definitions import defs
            from melodygan_dagster.resources import deployed_settings

            definitions, settings, computed = defs(), deployed_settings(), {}
            assert execute(definitions, instance, "catalogue_job").success
            for stage in PER_TRACK:
                (batch,) = track_scheduling.pending(
                    instance, stage, track_scheduling.made(deployment.opened, settings)
                )
                result = execute(definitions, instance, f"{stage}_job", batch.tags)
                assert result.success
                events = result.asset_materializations_for_node(stage)
                computed[stage] = sum(bool(e.metadata["computed"].value) for e in events)
            result = execute(definitions, instance, "dataset_job")
            assert result.success, failure_of(result)
            return {"computed": computed, **versions(instance)}


def versions(instance: dg.DagsterInstance) -> dict[str, str]:
    """Data version by asset, or by stage and track."""
    found = {}
    for name in (*PER_TRACK, "feature_table"):
        for record in instance.fetch_materializations(dg.AssetKey(name), limit=100).records:
            made = record.asset_materialization
            assert made is not None and made.tags is not None
            found[f"{name} {made.partition or ''}"] = made.tags["dagster/data_version"]
    return found


@pytest.fixture(scope="module")
def on_disk(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("disk")
    return Store(str(folder / "store")), run(str(folder / "store"), sources, folder / "home")


@pytest.fixture(scope="module")
def on_s3(bucket: str, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    root = f"{bucket}/some/prefix"
    return Store(root), run(root, sources, tmp_path_factory.mktemp("s3") / "home")


def files(store: Store) -> set[str]:
    """URIs of all files; scratch and Dagster's database are of this machine."""
    return {n for n in listing.names(store.base) if n.split("/")[0] not in ("work", "dagster")}


def test_data_on_s3_is_the_data_in_a_folder(
    on_disk: tuple[Store, dict[str, Any]], on_s3: tuple[Store, dict[str, Any]]
) -> None:
    assert on_s3[1] == on_disk[1]
    assert on_s3[1]["computed"] == dict.fromkeys(PER_TRACK, COUNT)
    there, here = (store.record("feature_table") for store in (on_s3[0], on_disk[0]))
    assert there is not None and there == here
    assert files(on_s3[0]) == files(on_disk[0])
    assert check_store(on_s3[0]).findings == ()


def test_a_rerun_on_s3_computes_nothing(
    on_s3: tuple[Store, dict[str, Any]], sources: Path, tmp_path: Path, requests: Requests
) -> None:
    store, first = on_s3
    # The instance is a new one: it finds in the store what exists.
    again = run(store.root, sources, tmp_path / "home")
    assert again == first | {"computed": dict.fromkeys(PER_TRACK, 0)}
    put = {key.removeprefix("some/prefix/") for operation, key in requests if operation == "PutObject"}
    assert put == {"dataset/report.json", store.uri(store.record_path("feature_table"))}


def test_data_in_memory_is_the_data_in_a_folder(
    on_disk: tuple[Store, dict[str, Any]], sources: Path, tmp_path: Path
) -> None:
    assert run("memory://graph", sources, tmp_path / "home") == on_disk[1]
    store = Store("memory://graph")
    assert store.record("feature_table") == on_disk[0].record("feature_table")
    store.base.fs.rm(store.base.path, recursive=True)


def test_one_listing_per_stage_finds_what_exists(
    on_s3: tuple[Store, dict[str, Any]],
    on_disk: tuple[Store, dict[str, Any]],
    sources: Path,
    requests: Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from melodygan_dagster.resources import deployed_settings

    monkeypatch.setenv("MELODYGAN_CONFIG", str(sources.with_name("config.yaml")))
    settings = deployed_settings()
    made = track_scheduling.made(on_s3[0], settings)
    assert made == track_scheduling.made(on_disk[0], settings)
    assert {stage: len(tracks) for stage, tracks in made.items()} == dict.fromkeys(PER_TRACK, COUNT)
    assert [operation for operation, _ in requests] == ["ListObjectsV2"] * len(PER_TRACK)


def test_shards_are_copied_once_and_completely(
    on_s3: tuple[Store, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, requests: Requests
) -> None:
    store = on_s3[0]
    made = store.record("feature_table")
    assert made is not None
    Dataset(store, made)
    copies = store.work("shards")
    expected = {p.name: p.read_bytes() for p in copies.iterdir()}
    assert expected
    requests.clear()
    Dataset(store, made)
    assert not [key for _, key in requests if key.endswith(".arrow")]

    for name in expected:
        (copies / name).unlink()

    def half(source: str, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(store.base.fs, "get_file", half)
        with pytest.raises(ConnectionError):
            Dataset(store, made)
    assert list(copies.iterdir()) == []
    Dataset(store, made)
    assert {p.name: p.read_bytes() for p in copies.iterdir()} == expected


# The models, without Dagster: those of the fixture `dense`, which are in a folder.


@pytest.fixture(scope="module")
def models_on_s3(bucket: str) -> Trained:
    return make_dense(Store(f"{bucket}/models"))


def content(trained: Trained) -> dict[str, str]:
    """Version and hash of the files of every artifact of a pipeline, by name."""
    made = [trained.dataset, trained.latents, trained.samples, trained.evaluation]
    made += trained.artifacts.parts.values()
    return {a.name: f"{a.version} {a.sha256}" for a in made}


def test_models_on_s3_are_the_models_in_a_folder(models_on_s3: Trained, dense: Trained) -> None:
    assert content(models_on_s3) == content(dense)
    assert len(content(dense)) == 7
    assert files(models_on_s3.store) == files(dense.store)
    assert not check_store(models_on_s3.store).of(*BAD)


def test_what_exists_on_s3_is_not_trained_again(models_on_s3: Trained, requests: Requests) -> None:
    store, data = models_on_s3.store, models_on_s3.dataset
    found = [
        vocoder.train(data, store, VOCODER),
        model := codec.train("dense", data, store, DENSE_CODEC),
        table := latents.encode(model, data, store),
        prior.train("gan", table, model, store, DENSE_GAN),
        generation.generate(models_on_s3.artifacts, data, store, GENERATION),
        evaluation.evaluate(models_on_s3.artifacts, data, store, EVALUATION, GENERATION),
    ]
    assert {a.name: f"{a.version} {a.sha256}" for a in [data, *found]} == content(models_on_s3)
    assert requests
    assert not [operation for operation, _ in requests if operation.startswith(("Put", "Delete"))]


def publish(trained: Trained) -> Artifact:
    artifacts, figures = trained.artifacts, trained.evaluation
    return release.publish(artifacts, figures, trained.dataset, trained.store, GENERATION, None).artifact


def test_a_release_on_s3_makes_the_same_sound(
    models_on_s3: Trained, own_dense: Trained, tmp_path: Path
) -> None:
    wavs = []
    for trained in (models_on_s3, own_dense):
        made, out = publish(trained), tmp_path / str(len(wavs))
        options = ["--count", "1", "--seconds", "1", "--vocoder", "griffin_lim", "--out", str(out)]
        result = CliRunner().invoke(main, ["generate", f"{trained.store.root}/{made.uri}", *options])
        assert result.exit_code == 0, result.output
        wavs.append((out / "sample-000.wav").read_bytes())
    assert wavs[0] == wavs[1]
    result = CliRunner().invoke(main, ["generate", f"{models_on_s3.store.root}/releases/dense_gan/none"])
    assert result.exit_code == 2
    assert "STORE/releases/PIPELINE[/VERSION] of a store" in result.output


# Interrupted writes.


def build(folder: Path) -> dict[str, Any]:
    for name in ("a.txt", "z.txt"):
        (folder / name).write_text(name, "utf-8")
    return {}


def get_or_build(store: Store) -> Artifact:
    return store.get_or_build("x/y", store.model("dense", "m", "v1"), build, config={}, inputs={})


def write_stems(store: Store, content: str) -> None:
    with store.writing_folder(store.stems("m", "t")) as folder:
        for name in ("instrumental.wav", "vocals.wav", "stems.json"):
            (folder / name).write_text(content, "utf-8")


def failing_at(monkeypatch: pytest.MonkeyPatch, change: int) -> None:
    """Makes S3 refuse everything from the given change on, counted from 0."""
    seen = 0
    call = AioBaseClient._make_api_call

    async def breaking(self: AioBaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        nonlocal seen
        seen += operation.startswith(("Put", "Delete"))
        if seen > change:
            raise PermissionError("S3 is gone")
        return await call(self, operation, arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", breaking)


def attempts(monkeypatch: pytest.MonkeyPatch, write: Callable[[], object], check: Callable[[], None]) -> int:
    """Writes while S3 fails from the first change on, from the second on, ... until a write succeeds.

    Returns:
        Number of failed writes; `check` is called after each.
    """
    for change in range(100):
        with monkeypatch.context() as patch:
            failing_at(patch, change)
            try:
                write()
            except PermissionError:
                pass
            else:
                return change
        check()
    raise AssertionError("no write succeeded")


def test_an_incomplete_artifact_on_s3_is_no_artifact(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{bucket}/artifact")
    folder = store.model("dense", "m", "v1")

    def check() -> None:
        assert not (folder / ARTIFACT_FILE).exists()
        # Before the first upload has arrived there is no store.
        assert not listing.names(store.base) or check_store(store).of("mismatch") == []

    # Each attempt first removes what the last one left.
    assert attempts(monkeypatch, lambda: get_or_build(store), check) >= 3
    made = get_or_build(store)
    assert sorted(listing.names(folder)) == ["a.txt", ARTIFACT_FILE, "z.txt"]
    assert sorted(made.files) == ["a.txt", "z.txt"]


def test_old_and_new_stems_are_never_mixed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{bucket}/stems-of-two")
    folder = store.stems("m", "t")
    write_stems(store, "old")

    def check() -> None:
        found = {p.name: p.read_text("utf-8") for p in folder.iterdir()} if folder.exists() else {}
        assert "stems.json" not in found or (len(found) == 3 and len(set(found.values())) == 1)

    assert attempts(monkeypatch, lambda: write_stems(store, "new"), check) >= 3
    assert {p.read_text("utf-8") for p in folder.iterdir()} == {"new"}


KILLED = """
import os, signal
from aiobotocore.client import AioBaseClient
from melodygan_core.storage import Store
call = AioBaseClient._make_api_call
async def killing(self, operation, arguments):
    if operation == "PutObject" and arguments["Key"].endswith("artifact.json"):
        os.kill(os.getpid(), signal.SIGKILL)
    return await call(self, operation, arguments)
AioBaseClient._make_api_call = killing
def build(folder):
    for name in ("a.txt", "z.txt"):
        (folder / name).write_text(name)
    return {{}}
store = Store({root!r})
store.get_or_build("x/y", store.model("dense", "m", "v1"), build, config={{}}, inputs={{}})
"""


def test_what_a_killed_process_leaves_on_s3_is_found_and_removed(bucket: str, scratch: Path) -> None:
    store = Store(f"{bucket}/killed")
    environment = os.environ | {"TMPDIR": str(scratch)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(root=store.root)], env=environment, check=False
    )
    assert killed.returncode == -9
    assert sorted(listing.names(store.base)) == ["models/dense/m/v1/a.txt", "models/dense/m/v1/z.txt"]
    (copy,) = store.work("copies").iterdir()
    hour = time.time() - 2 * listing.QUIET_S
    for path in [*copy.rglob("*"), copy]:
        os.utime(path, (hour, hour))
    # Somebody who holds the lock is still writing.
    with store.lock("models/dense/m/v1"):
        assert check_store(store).findings == ()
    report = check_store(store)
    assert {f.path: f.kind for f in report.findings} == {
        "models/dense/m/v1": "incomplete",
        f"work/copies/{copy.name}": "orphaned",
    }
    repair_store(store, report)
    assert listing.names(store.base) == []
    assert not copy.exists()
    assert get_or_build(store).bytes == 10


# Listings and requests.


def test_writes_of_another_process_are_visible_at_once(bucket: str) -> None:
    store, client = Store(f"{bucket}/seen"), boto3.client("s3")
    store.write_json(store.raw_json("t1"), {})
    path = store.raw_json("t2")
    assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == listing.names(path.parent) == ["t1.json"]
    client.put_object(Bucket=BUCKET, Key="seen/raw/t2.json", Body=b'{"n": 2}')
    assert path.exists()
    assert sorted(listing.names(path.parent)) == ["t1.json", "t2.json"]
    assert len(list(path.parent.iterdir())) == 2
    client.delete_object(Bucket=BUCKET, Key="seen/raw/t1.json")
    assert listing.names(path.parent) == ["t2.json"]
    assert not store.raw_json("t1").exists()


def test_a_misspelt_bucket_is_refused_and_not_created(bucket: str) -> None:
    store = Store("s3://bukcet/x")
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        store.write_json(store.raw_json("t"), {})
    with pytest.raises(InputError, match="existing bucket, got 's3://bukcet/x'"):
        listing.names(store.base)
    assert [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]] == [BUCKET]


@pytest.mark.parametrize("root", ["s3", "memory"])
def test_a_listing_has_every_file(bucket: str, root: str) -> None:
    store = Store({"s3": bucket, "memory": "memory:/"}[root] + "/listed")
    values = {"raw/a.json": 1, "raw/b/c.json": 2, "dagster/d.json": 3}
    for uri, value in values.items():
        store.write_json(store.at(uri), {"n": value})
    assert sorted(listing.names(store.base)) == sorted(values)
    assert sorted(listing.list_files(store.base, ("dagster",))) == ["raw/a.json", "raw/b/c.json"]
    assert {s.bytes for s in listing.list_files(store.base).values()} == {
        len(json.dumps({"n": 1}, indent=2)) + 1
    }
    assert all(abs(s.modified - time.time()) < 600 for s in listing.list_files(store.base).values())
    assert listing.names(store.at("ra")) == listing.names(store.at("nothing")) == []
    assert [v["n"] for v in store.read_jsons([store.at(uri) for uri in values])] == [1, 2, 3]
    with pytest.raises(FileNotFoundError):
        store.read_jsons([store.at("raw/a.json"), store.at("raw/none.json")])


# Local files of remote stores.


def test_only_the_user_may_read_scratch(bucket: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"{bucket}/work")
    folder = store.work("locks")
    assert folder.parent.parent == scratch
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert Store(f"{bucket}/work/").work_base == folder.parent
    assert Store(f"{bucket}/other").work_base != folder.parent
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    with pytest.raises(InputError, match="which another user owns"):
        own_folder(folder.parent)


def test_a_folder_that_another_user_could_have_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    (tmp_path / "file").touch(mode=0o600)
    assert own_folder(tmp_path / "own") == tmp_path / "own"
    for name in ("open", "link", "file"):
        with pytest.raises(InputError, match="must be your own with mode 0700"):
            own_folder(tmp_path / name)


def test_each_remote_store_has_its_own_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    homes = {Deployment(f"{bucket}/{name}", tmp_path / "s", PRESET).home for name in ("a", "a/", "b")}
    assert len(homes) == 2
    assert all(home.is_relative_to(tmp_path) for home in homes)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(InputError, match=r"\.venv/bin/uv pip install -e '\.\[s3\]'.*'s3://b/x'"):
        _ = Layout("s3://b/x").base
    with pytest.raises(InputError, match=r"a folder, s3.*'nosuch://b/x'"):
        _ = Layout("nosuch://b/x").base
    assert fsspec.get_filesystem_class("memory") is type(Layout("memory://x").base.fs)


def test_the_marker_of_every_kind_of_folder_is_listed() -> None:
    from melodygan_core.separation.stems import MARKER
    from melodygan_core.services.uses import USE_FILE

    assert set(MARKERS) == {ARTIFACT_FILE, MARKER, USE_FILE}
