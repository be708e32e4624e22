"""A sample of what `scripts/` does for longer: power cuts, failed calls, several processes, mutated files."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from random import Random

import pytest

from melodygan_core.storage import Store, replacing
from melodygan_core.storage.files import synced
from tests import stages
from tests.conftest import Site
from tests.contents import contents
from tests.core.made import Trained
from tests.crowd import run_together
from tests.disk_model import Disk, Folder
from tests.io_errors import Counts, Fault, Faults, fail, run_counted
from tests.mutation_targets import FORMATS, targets
from tests.mutations import Mutations, chosen, mutate
from tests.power_loss import lose_power, save_calls
from tests.reference import Reference, write_sources
from tests.syscalls import Call, record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux"),
]
DATA = stages.STAGES[: stages.STAGES.index("dataset") + 1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, Counts]:
    """The stages up to the dataset on six short songs, and the numbers of calls of the last two."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    reference = write_sources(tmp_path_factory.mktemp("calls"), Site(""), served=0, own=6, song_s=4.0)
    return reference, run_counted(reference, DATA, DATA[-2:])


@pytest.mark.parametrize(
    ("stage", "call", "code", "for_good"),
    [
        ("features", "write", errno.ENOSPC, True),
        ("features", "rename", errno.EACCES, False),
        ("dataset", "fsync", errno.EIO, False),
        ("dataset", "open to write", errno.ENOSPC, False),
        ("dataset", "open to read", errno.EIO, False),
    ],
)
def test_a_failed_call_is_one_sentence_and_the_next_run_completes(
    undisturbed: tuple[Reference, Counts], stage: str, call: str, code: int, for_good: bool
) -> None:
    reference, counts = undisturbed
    faults = Faults()
    k = Random(f"{stage} {call}").randint(1, counts[stage][call])
    fail(reference, stage, Fault(call, k, code, for_good), faults)
    assert faults.problems == []
    assert [outcome for _, _, outcome in faults.outcomes] == ["one sentence"]


def test_several_processes_on_the_same_tracks_end_with_one_store(
    undisturbed: tuple[Reference, Counts],
) -> None:
    *_, crowd = run_together(undisturbed[0], [("separation", "features"), ("dataset",)], 3)
    assert crowd.problems == []
    assert crowd.runs == {"separation": 3, "features": 3, "dataset": 3}


WRITER = """
import sys
from melodygan_core.storage import Store
store = Store(sys.argv[1])
def build(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "page.html").write_text("page" * 5000)
    return {}
artifact = store.get_or_build("gallery", store.gallery("v"), build, config={}, inputs={})
store.write_record(artifact)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, list[Call]]:
    """An artifact and its record, as the gallery writes them, with the calls that did it."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    folder = tmp_path_factory.mktemp("recording")
    reference = Reference(folder, Site(""), folder)
    root, reference.stores["gallery"] = reference.undisturbed, folder / "before"
    for start in (root, folder / "before"):
        # The record can outlive a power cut that loses the new folder which it names.
        (start / "records").mkdir(parents=True)
    found = list(record([sys.executable, "-c", WRITER, str(root)], root, folder / "log"))
    calls = [call for call in found if not call.path.startswith(f"{root}/work/")]
    reference.after["gallery"] = contents(root)
    return reference, calls


def _problems(reference: Reference, calls: list[Call]) -> list[str]:
    save_calls(reference.folder, "gallery", calls)
    losses = lose_power(reference, "gallery", Random(0), reruns=0)
    assert losses.cuts == 3 * len(calls) > 60
    return losses.problems


def test_a_power_cut_after_any_call_leaves_whole_files(recording: tuple[Reference, list[Call]]) -> None:
    assert _problems(*recording) == []


def test_power_cuts_find_what_is_not_synced(recording: tuple[Reference, list[Call]]) -> None:
    """What the model is for: without the syncs of files, or of folders, the same calls leave something bad."""
    reference, calls = recording
    disk = Disk(reference.undisturbed, reference.stores["gallery"])
    folders: list[Call] = []
    for call in calls:
        disk.apply(call)
        if call.name == "fsync" and isinstance(disk.find(call.path), Folder):
            folders.append(call)
    files = [call for call in calls if call.name == "fsync" and call not in folders]
    unsynced = _problems(reference, [call for call in calls if call not in files])
    assert any("is neither the old nor the new file" in problem for problem in unsynced)
    top = [call for call in folders if call.path == f"{reference.undisturbed}/gallery"]
    lost = _problems(reference, [call for call in calls if call not in top])
    assert any(problem.endswith("1 missing") for problem in lost)


def test_the_model_loses_what_is_not_synced(tmp_path: Path) -> None:
    disk, file = Disk(tmp_path / "store", tmp_path), str(tmp_path / "store" / "a")
    disk.apply(Call("open", 3, file, flags="O_WRONLY|O_CREAT"))
    disk.apply(Call("write", 3, file, data=b"abcd"))
    disk.apply(Call("lseek", 3, file, position=1))
    disk.apply(Call("write", 3, file, data=b"X"))
    (written,) = disk.files("torn").values()
    assert bytes(written.data) == b"aXcd" == written.after("ordered", Random(0))
    assert {written.after("torn", Random(i)) for i in range(20)} == {b"", b"aX", bytes(4)}
    disk.apply(Call("fsync", 3, file))
    assert written.after("torn", Random(0)) == b"aXcd"
    assert disk.files("synced") == {}
    disk.apply(Call("fsync", 4, str(tmp_path / "store")))
    disk.apply(Call("rename", -1, file, file + "b"))
    assert set(disk.files("synced")) == {"a"} and set(disk.files("torn")) == {"ab"}


def test_mutated_files_are_read_or_refused(dense: Trained, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    stages.start_server()
    found = Mutations()
    all_targets = targets(dense, tmp_path / "targets")
    assert {target.format for target in all_targets} == set(FORMATS)
    shares = dict.fromkeys(FORMATS, 0.19) | {"audio": 0.05}
    mutate(dense, chosen(all_targets, 100, Random(1), shares), tmp_path, found)
    assert found.problems == []
    assert found.outcomes.total() == 100
    assert {outcome for _, outcome in found.outcomes} <= {
        "read as before",
        "read with other values",
        "clear error",
        "limit hit",
    }


def test_an_error_of_the_disk_names_the_file_that_is_written(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match=r"a\.json"), replacing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="gallery/v"), store.writing_folder(store.gallery("v")):
        raise OSError(errno.ENOSPC, "No space left on device")

    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (new := tmp_path / "new").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match=r"error: .*new"):
            synced(new)
    with pytest.raises(OSError, match="reset") as caught, replacing(tmp_path / "a.json"):
        raise OSError(errno.ECONNRESET, "reset")
    assert caught.value.filename is None
