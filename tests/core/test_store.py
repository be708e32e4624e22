from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.errors import DamagedError, InputError, TransientError
from melodygan_core.maintenance.check import check_store
from melodygan_core.storage import ARTIFACT_FILE, Artifact, Store, dump_json, kinds, sha256_of


@pytest.fixture
def memory() -> Store:
    return Store(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(params=["local", "memory"])
def any_store(request: pytest.FixtureRequest, store: Store, memory: Store) -> Store:
    return store if request.param == "local" else memory


def start(store: Store, body: str) -> subprocess.Popen[str]:
    """Starts a process that runs `body` with `store`, and waits for its first line."""
    code = f"from melodygan_core.storage.store import Store\nimport time\nstore = Store({store.root!r})\n{body}"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def run_and_kill(store: Store, body: str) -> None:
    """Runs `body` in a process and kills it at its first line."""
    child = start(store, body)
    child.kill()
    assert child.wait(10) == -9


def visible(store: Store) -> list[str]:
    root = Path(store.root)
    return sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(root).parts)
        if "work" not in p.parts
    )


def build_one(folder: Path) -> dict[str, Any]:
    (folder / "a.txt").write_text("alpha", "utf-8")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.txt").write_text("beta", "utf-8")
    return {"loss": 0.5}


def get_or_build(store: Store, build: Any = build_one) -> Artifact:
    return store.get_or_build(
        "x/y", store.model("dense", "m", "v1"), build, config={"n": 1}, inputs={"up": "u1"}
    )


# One file.


def test_file_appears_when_it_is_complete(any_store: Store) -> None:
    path = any_store.raw_wav("t")
    with any_store.writing(path) as temporary:
        assert temporary.suffix == ".wav"
        temporary.write_bytes(b"first")
        assert not path.exists()
    with any_store.writing(path) as temporary:
        temporary.write_bytes(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["t.wav"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(any_store: Store) -> None:
    path = any_store.raw_wav("t")
    with any_store.writing(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), any_store.writing(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError("disk full")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["t.wav"]


def test_writing_nothing_is_an_error_and_keeps_the_old_file(any_store: Store) -> None:
    path = any_store.raw_wav("t")
    with any_store.writing(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), any_store.writing(path):
        pass
    assert path.read_bytes() == b"old"


def test_kill_while_writing_leaves_no_visible_file(store: Store) -> None:
    body = """
with store.writing(store.raw_wav("t")) as path:
    path.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""
    run_and_kill(store, body)
    assert visible(store) == []
    with store.writing(store.raw_wav("t")) as path:
        path.write_bytes(b"whole")
    assert visible(store) == ["raw/t.wav"]


def test_json_round_trip_refuses_nan(any_store: Store) -> None:
    path = any_store.record_path("dense/gan_checkpoint")
    value = {"b": [1, 2.5, None], "a": "Größe"}
    any_store.write_json(path, value)
    assert any_store.read_json(path) == value
    assert "Größe" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        any_store.write_json(path, {"x": float("nan")})
    assert any_store.read_json(path) == value


# Folders.


def test_failed_folder_keeps_the_old_one(store: Store) -> None:
    path = store.gallery("v")
    with store.writing_folder(path) as folder:
        (folder / "a").write_text("old", "utf-8")
    with pytest.raises(KeyError), store.writing_folder(path) as folder:
        (folder / "b").write_text("half", "utf-8")
        raise KeyError
    assert visible(store) == ["gallery/v/a"]
    with store.writing_folder(path) as folder:
        (folder / "b").write_text("new", "utf-8")
    assert visible(store) == ["gallery/v/b"]
    assert [p.name for p in path.parent.iterdir()] == ["v"]


def test_kill_while_filling_a_folder_leaves_no_visible_folder(store: Store) -> None:
    body = """
with store.writing_folder(store.gallery("v")) as folder:
    (folder / "a").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    run_and_kill(store, body)
    assert visible(store) == []
    assert not store.gallery("v").exists()


# Artifacts.


def test_artifact_is_built_once_and_describes_its_files(any_store: Store) -> None:
    made = get_or_build(any_store)

    def never(folder: Path) -> dict[str, Any]:
        raise AssertionError("built twice")

    assert get_or_build(any_store, never) == made
    folder = any_store.model("dense", "m", "v1")
    with any_store.reading(folder) as local:
        assert (local / "sub" / "b.txt").read_text("utf-8") == "beta"
        assert made.files == {f: sha256_of(local / f) for f in ("a.txt", "sub/b.txt")}
        assert json.loads((local / ARTIFACT_FILE).read_text("utf-8")) == asdict(made)
    assert (made.name, made.version, made.uri, made.bytes) == ("x/y", "v1", "models/dense/m/v1", 9)
    assert (made.config, made.inputs, made.metrics) == ({"n": 1}, {"up": "u1"}, {"loss": 0.5})
    assert any_store.at(made.uri) == folder


def test_hash_depends_on_names_and_contents(tmp_path: Path) -> None:
    def other_name(folder: Path) -> dict[str, Any]:
        (folder / "c.txt").write_text("alpha", "utf-8")
        return {}

    def other_content(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("gamma", "utf-8")
        return {}

    builds = [build_one, build_one, other_name, other_content]
    first, same, *others = [get_or_build(Store(str(tmp_path / str(i))), b).sha256 for i, b in enumerate(builds)]
    assert first == same
    assert len({first, *others}) == 3


def test_build_after_a_failed_build_completes(any_store: Store) -> None:
    def fails(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("half", "utf-8")
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        get_or_build(any_store, fails)
    assert not (any_store.model("dense", "m", "v1") / ARTIFACT_FILE).exists()
    assert get_or_build(any_store).files.keys() == {"a.txt", "sub/b.txt"}


def test_metrics_must_be_finite(store: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        get_or_build(store, lambda folder: {"loss": float("nan")})
    assert visible(store) == []


def test_killed_build_is_repeated(store: Store) -> None:
    body = """
def build(folder):
    (folder / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
store.get_or_build("x/y", store.model("dense", "m", "v1"), build, config={}, inputs={})
"""
    run_and_kill(store, body)
    assert visible(store) == []
    get_or_build(store)
    assert visible(store) == [f"models/dense/m/v1/{n}" for n in ("a.txt", "artifact.json", "sub/b.txt")]


def test_two_processes_build_an_artifact_once(store: Store) -> None:
    body = """
def build(folder):
    with open(store.work("race") / "builds", "a") as log:
        log.write("x")
    time.sleep(0.5)
    (folder / "a.txt").write_text("alpha")
    return {}
print("ready", flush=True)
made = store.get_or_build("x/y", store.model("dense", "m", "v1"), build, config={}, inputs={})
print(made.sha256)
"""
    children = [start(store, body) for _ in range(2)]
    outputs = [c.communicate(timeout=30)[0] for c in children]
    assert [c.returncode for c in children] == [0, 0]
    assert len(outputs[0]) == 65
    assert outputs[0] == outputs[1]
    assert (store.work("race") / "builds").read_text("utf-8") == "x"


def test_record_returns_the_artifact_in_use(any_store: Store) -> None:
    assert any_store.record("x/y") is None
    made = get_or_build(any_store)
    any_store.write_record(made)
    assert any_store.record("x/y") == made


# Locks.


def test_lock_has_one_holder_and_times_out(store: Store) -> None:
    order: list[str] = []

    def second() -> None:
        with store.lock("a", timeout_s=10):
            order.append("second")

    with store.lock("a"):
        thread = threading.Thread(target=second)
        thread.start()
        with store.lock("b", timeout_s=0.1):
            order.append("other")
        with pytest.raises(TransientError, match="'a' for 0 s"), store.lock("a", timeout_s=0.05):
            pass
        order.append("first")
    thread.join(10)
    assert order == ["other", "first", "second"]


def test_lock_of_a_killed_holder_is_free(store: Store) -> None:
    body = """
with store.lock("a"):
    print("ready", flush=True)
    time.sleep(60)
"""
    child = start(store, body)
    with pytest.raises(TransientError), store.lock("a", timeout_s=0.05):
        pass
    child.kill()
    child.wait(10)
    with store.lock("a", timeout_s=5):
        pass


# Paths.


@pytest.mark.parametrize(
    "uri", ["../x", "a/../../x", "/etc/passwd", "..", "a//../b", "file:///etc/passwd", "memory://x", "s3://b/k"]
)
def test_uri_may_not_leave_the_root(any_store: Store, uri: str) -> None:
    with pytest.raises(InputError, match="a path below the store's root"):
        any_store.at(uri)


def test_uris_are_relative_with_forward_slashes(any_store: Store) -> None:
    for path in (any_store.raw_wav("t"), any_store.release("dense", "v"), any_store.shards("d")):
        uri = any_store.uri(path)
        assert not uri.startswith("/")
        assert any_store.at(uri) == path
    assert any_store.uri(any_store.stems("m", "t")) == "stems/m/t"


def test_local_root_is_absolute_and_may_be_a_file_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative, uri = Store("data"), Store(f"file://{tmp_path}/data")
    assert relative.is_local
    assert uri.is_local
    assert str(relative.base) == str(uri.base) == str(tmp_path / "data")


def test_work_is_local_for_every_store_and_can_be_dropped(any_store: Store) -> None:
    scratch = any_store.work("train")
    (scratch / "state").write_text("x", "utf-8")
    assert (any_store.work("train") / "state").read_text("utf-8") == "x"
    any_store.drop_work("train")
    assert not (any_store.work_base / "train").exists()


def test_scratch_is_named_after_its_fields_and_removed(any_store: Store) -> None:
    with any_store.scratch(kinds.TRACK_SCRATCH, track_id="t") as folder:
        (folder / "x").write_text("x", "utf-8")
        parsed = kinds.parse(f"work/{folder.relative_to(any_store.work_base).as_posix()}")
        assert (parsed.kind, parsed.track_id, parsed.lock) == (kinds.TRACK_SCRATCH, "t", "raw/t")
        assert Path(any_store.locate(parsed.uri).path) == folder
    assert not folder.exists()
    with any_store.scratch(kinds.SCRATCH) as folder:
        parsed = kinds.parse(f"work/{folder.relative_to(any_store.work_base).as_posix()}")
        assert (parsed.kind, parsed.track_id) == (kinds.SCRATCH, "")


def test_try_locks_takes_all_or_none(store: Store) -> None:
    with store.lock("b"):
        with store.try_locks(["a", "b"]) as free:
            assert not free
        with store.try_locks(["a", "c"]) as free:
            assert free
            with pytest.raises(TransientError), store.lock("a", timeout_s=0.05):
                pass


def test_group_is_the_part_of_the_name_before_the_slash(store: Store) -> None:
    assert get_or_build(store).group == "x"


def test_store_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    Store(str(tmp_path)).require_exists()
    with pytest.raises(InputError, match=r"store must be an existing folder.*nowhere"):
        Store(str(tmp_path / "nowhere")).require_exists()


def test_reading_yields_local_files_and_folders(any_store: Store) -> None:
    get_or_build(any_store)
    folder = any_store.model("dense", "m", "v1")
    with any_store.reading(folder / "a.txt") as local:
        assert local.name == "a.txt"
        assert local.read_text("utf-8") == "alpha"
    with any_store.reading(folder) as local:
        assert sorted(p.name for p in local.iterdir()) == ["a.txt", "artifact.json", "sub"]


@pytest.fixture(autouse=True)
def no_scratch_left(memory: Store) -> Iterator[None]:
    yield
    memory.drop_work("locks")


def test_dumped_json_keeps_the_order_of_keys(tmp_path: Path) -> None:
    dump_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n  "b": 1,\n  "a": 2\n}\n'


@pytest.mark.parametrize(
    "wrong",
    [{"version": []}, {"name": None}, {"bytes": "1"}, {"files": []}, {"inputs": {"a": {}}}, {"more": 1}],
)
def test_a_record_with_a_value_of_another_type_is_damaged(store: Store, wrong: dict[str, Any]) -> None:
    made = store.get_or_build("gallery", store.gallery("v"), lambda _: {}, config={}, inputs={})
    store.write_json(store.record_path("gallery"), asdict(made) | wrong)
    with pytest.raises(DamagedError, match=r"gallery\.json is damaged"):
        store.record("gallery")
    assert [(f.path, f.kind) for f in check_store(store).findings] == [("records/gallery.json", "damaged")]


def test_scratch_that_cannot_be_removed_does_not_hide_the_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tempfile.TemporaryDirectory would try again until Python's recursion limit."""
    opened = os.open

    def denied(path: Any, *arguments: Any, **options: Any) -> int:
        if "scratch" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="No space left"),
        store.scratch(kinds.SCRATCH),
    ):
        patch.setattr(os, "open", denied)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert len(list((Path(store.root) / "work" / "scratch").iterdir())) == 1
    with store.scratch(kinds.SCRATCH) as folder:
        assert folder.is_dir()
    assert not folder.exists()
