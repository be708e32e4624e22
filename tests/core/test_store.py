from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from melodygan_core.errors import InputError, TransientError
from melodygan_core.storage.store import ARTIFACT_FILE, Artifact, Store, dump_json, sha256_of


@pytest.fixture
def memory() -> Store:
    return Store(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(params=["local", "memory"])
def any_store(request: pytest.FixtureRequest, store: Store, memory: Store) -> Store:
    return store if request.param == "local" else memory


def started(store: Store, body: str) -> subprocess.Popen[str]:
    """A process that runs `body` with `store` until it has printed a line."""
    code = f"from melodygan_core.storage.store import Store\nimport time\nstore = Store({store.root!r})\n{body}"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def killed(store: Store, body: str) -> None:
    """Runs `body` in a process that is killed while it waits in the middle."""
    child = started(store, body)
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


def test_a_written_file_appears_whole(any_store: Store) -> None:
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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(any_store: Store) -> None:
    path = any_store.raw_wav("t")
    with any_store.writing(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), any_store.writing(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError("disk full")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["t.wav"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(any_store: Store) -> None:
    path = any_store.raw_wav("t")
    with any_store.writing(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), any_store.writing(path):
        pass
    assert path.read_bytes() == b"old"


def test_a_kill_while_writing_leaves_nothing_that_is_taken_for_whole(store: Store) -> None:
    body = """
with store.writing(store.raw_wav("t")) as path:
    path.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""
    killed(store, body)
    assert visible(store) == []
    with store.writing(store.raw_wav("t")) as path:
        path.write_bytes(b"whole")
    assert visible(store) == ["raw/t.wav"]


def test_json_comes_back_and_has_no_nan(any_store: Store) -> None:
    path = any_store.record_path("dense/gan_checkpoint")
    value = {"b": [1, 2.5, None], "a": "Größe"}
    any_store.write_json(path, value)
    assert any_store.read_json(path) == value
    assert "Größe" in path.read_text("utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        any_store.write_json(path, {"x": float("nan")})
    assert any_store.read_json(path) == value


# Folders.


def test_a_failed_folder_leaves_the_old_one(store: Store) -> None:
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


def test_a_kill_while_a_folder_is_filled_leaves_none(store: Store) -> None:
    body = """
with store.writing_folder(store.gallery("v")) as folder:
    (folder / "a").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    killed(store, body)
    assert visible(store) == []
    assert not store.gallery("v").exists()


# Artifacts.


def test_an_artifact_is_built_once_and_describes_its_files(any_store: Store) -> None:
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


def test_the_hash_follows_names_and_contents(tmp_path: Path) -> None:
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


def test_a_failed_build_leaves_nothing_and_the_next_one_completes(any_store: Store) -> None:
    def fails(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("half", "utf-8")
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        get_or_build(any_store, fails)
    assert not (any_store.model("dense", "m", "v1") / ARTIFACT_FILE).exists()
    assert get_or_build(any_store).files.keys() == {"a.txt", "sub/b.txt"}


def test_figures_that_are_not_finite_never_become_an_artifact(store: Store) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        get_or_build(store, lambda folder: {"loss": float("nan")})
    assert visible(store) == []


def test_a_build_that_was_killed_is_built_again(store: Store) -> None:
    body = """
def build(folder):
    (folder / "a.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
store.get_or_build("x/y", store.model("dense", "m", "v1"), build, config={}, inputs={})
"""
    killed(store, body)
    assert visible(store) == []
    get_or_build(store)
    assert visible(store) == [f"models/dense/m/v1/{n}" for n in ("a.txt", "artifact.json", "sub/b.txt")]


def test_two_processes_build_one_artifact_once(store: Store) -> None:
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
    children = [started(store, body) for _ in range(2)]
    told = [c.communicate(timeout=30)[0] for c in children]
    assert [c.returncode for c in children] == [0, 0]
    assert len(told[0]) == 65
    assert told[0] == told[1]
    assert (store.work("race") / "builds").read_text("utf-8") == "x"


def test_records_name_the_artifact_in_use(any_store: Store) -> None:
    assert any_store.record("x/y") is None
    made = get_or_build(any_store)
    any_store.write_record(made)
    assert any_store.record("x/y") == made


# Locks.


def test_a_lock_has_one_holder_and_tells_who_waits_too_long(store: Store) -> None:
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


def test_the_lock_of_a_killed_holder_is_free(store: Store) -> None:
    body = """
with store.lock("a"):
    print("ready", flush=True)
    time.sleep(60)
"""
    child = started(store, body)
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
def test_a_uri_may_not_leave_the_root(any_store: Store, uri: str) -> None:
    with pytest.raises(InputError, match="allowed: a path below the store's root"):
        any_store.at(uri)


def test_uris_are_relative_with_forward_slashes(any_store: Store) -> None:
    for path in (any_store.raw_wav("t"), any_store.release("dense", "v"), any_store.shards("d")):
        uri = any_store.uri(path)
        assert not uri.startswith("/")
        assert any_store.at(uri) == path
    assert any_store.uri(any_store.stems("m", "t")) == "stems/m/t"


def test_every_path_of_the_layout_is_another(store: Store) -> None:
    paths = [
        store.catalogue(), store.raw_wav("t"), store.raw_json("t"), store.raw_error("t"), store.stems("m", "t"),
        store.features("f", "t"), store.shards("d"), store.dataset("d"), store.model("f", "s", "v"),
        store.samples("f", "v"), store.evaluation("f", "v"), store.release("f", "v"), store.gallery("v"),
        store.record_path("f/s"),
    ]  # fmt: skip
    assert len({store.uri(p) for p in paths}) == len(paths)


def test_a_local_root_is_absolute_and_may_be_a_file_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative, uri = Store("data"), Store(f"file://{tmp_path}/data")
    assert relative.is_local
    assert uri.is_local
    assert str(relative.base) == str(uri.base) == str(tmp_path / "data")


def test_work_is_local_everywhere_and_can_be_dropped(any_store: Store) -> None:
    scratch = any_store.work("train")
    (scratch / "state").write_text("x", "utf-8")
    assert (any_store.work("train") / "state").read_text("utf-8") == "x"
    any_store.drop_work("train")
    assert list(any_store.work("train").iterdir()) == []


def test_reading_gives_files_and_folders_as_local_paths(any_store: Store) -> None:
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


def test_dumped_json_keeps_the_order_that_people_read(tmp_path: Path) -> None:
    dump_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n  "b": 1,\n  "a": 2\n}\n'
