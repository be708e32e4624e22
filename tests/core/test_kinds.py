"""Paths of a store are built from declared kinds and parse back to them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from upath import UPath

from melodygan_core import catalogue, download, features, separation
from melodygan_core.config import CatalogueConfig, DownloadConfig
from melodygan_core.storage import Store, kinds
from melodygan_core.storage.kinds import FIELDS, KINDS, UNKNOWN, Kind, final, lock_name, parse
from tests.core.made import FEATURE, SEPARATION, assemble, put_tracks

WORD = st.text(string.ascii_letters + string.digits + "_-é", min_size=1, max_size=12)
PATH = st.lists(WORD, min_size=1, max_size=4).map("/".join)
FIELD_VALUES = {
    "asset": PATH,
    "copied": st.one_of(PATH, PATH.map(lambda p: f"{p}.json")),
    "pictured": PATH,
    "version": WORD.filter(lambda w: w not in ("shards", "health")),
}


def names(kind: Kind) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(kind.path) if name]


@st.composite
def paths(draw: st.DrawFn) -> tuple[Kind, dict[str, str]]:
    kind = draw(st.sampled_from(KINDS))
    return kind, {name: draw(FIELD_VALUES.get(name, WORD)) for name in names(kind)}


@given(paths())
def test_every_path_parses_back_to_its_kind_and_fields(path: tuple[Kind, dict[str, str]]) -> None:
    kind, fields = path
    uri = kind.uri(**fields)
    parsed = parse(uri)
    assert (parsed.kind, parsed.fields) == (kind, fields)
    assert (parsed.uri, parsed.inside, parsed.temporary, parsed.path) == (uri, "", "", uri)


@given(paths())
def test_no_two_kinds_claim_one_path(path: tuple[Kind, dict[str, str]]) -> None:
    kind, fields = path
    uri = kind.uri(**fields)
    inside = f"{uri}/a/b.json" if kind.is_folder else uri
    assert [k for k in KINDS if k.pattern.fullmatch(inside)] == [kind]


@given(paths(), PATH)
def test_files_in_a_folder_are_of_its_kind(path: tuple[Kind, dict[str, str]], inside: str) -> None:
    kind, fields = path
    assume(kind.is_folder)
    uri = kind.uri(**fields)
    parsed = parse(f"{uri}/{inside}")
    assert (parsed.kind, parsed.uri, parsed.inside, parsed.fields) == (kind, uri, inside, fields)
    assert parsed.lock == lock_name(uri)


@given(paths(), st.from_regex(r"\A[0-9a-f]{8}\Z"))
def test_unfinished_paths_are_of_the_kind_that_they_become(
    path: tuple[Kind, dict[str, str]], digits: str
) -> None:
    kind, fields = path
    uri = kind.uri(**fields)
    folder, slash, name = uri.rpartition("/")
    unfinished = f"{folder}{slash}.{digits}-{name}"
    parsed = parse(unfinished)
    assert (parsed.kind, parsed.fields, parsed.temporary) == (kind, fields, unfinished)
    assert parsed.lock == lock_name(uri)
    assert final(unfinished) == uri


@given(st.text(string.ascii_lowercase + "./%-{}", max_size=30))
def test_any_text_parses(uri: str) -> None:
    parsed = parse(uri)
    if parsed.kind is UNKNOWN:
        assert (parsed.fields, parsed.lock, parsed.track_id) == ({}, final(uri), "")
    else:
        assert parsed.kind.pattern.fullmatch(final(uri))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_declarations_are_consistent(kind: Kind) -> None:
    # A lock is built from the fields of the path alone.
    assert set(re.findall(r"{(\w+)}", kind.lock)) <= set(names(kind))
    assert bool(kind.scratch) == kind.path.startswith("work/")
    assert kind.is_folder or not kind.marker
    assert set(FIELDS) - set().union(*map(names, KINDS)) == set()
    # What the check removes must be made again by something.
    assert kind.remake or not kind.marker or kind is kinds.USE


LAYOUT = {
    "catalogue.parquet": ("catalogue", ()),
    "forgotten.json": ("forgotten", ()),
    "marks/dense.gan_checkpoint/v.json": ("mark", ("dense/gan_checkpoint", "v")),
    "raw/t.wav": ("raw_wav", ("t",)),
    "raw/t.json": ("raw_json", ("t",)),
    "raw/t.error.json": ("raw_error", ("t",)),
    "fingerprints/t.json": ("fingerprint", ("t",)),
    "stems/m/t": ("stems", ("m", "t")),
    "features/f/t.parquet": ("features", ("f", "t")),
    "dataset/shards/d": ("shards", ("d",)),
    "dataset/v": ("dataset", ("v",)),
    "dataset/splits.json": ("splits", ()),
    "dataset/groups.json": ("groups", ()),
    "dataset/health/d.json": ("dataset_health", ("d",)),
    "dataset/report.json": ("dataset_report", ()),
    "models/dense/autoencoder/v": ("model", ("dense", "autoencoder", "v")),
    "samples/dense_gan/v": ("samples", ("dense_gan", "v")),
    "evaluations/dense_gan/v": ("evaluation", ("dense_gan", "v")),
    "releases/dense_gan/v": ("release", ("dense_gan", "v")),
    "uses/transfer/r": ("use", ("transfer", "r")),
    "gallery/v": ("gallery", ("v",)),
    "pictures/features/f/t.png": ("picture", ("features/f/t",)),
    "records/dense.gan_checkpoint.json": ("record_path", ("dense/gan_checkpoint",)),
}


@pytest.mark.parametrize("uri", LAYOUT)
def test_paths_of_version_01_are_unchanged(store: Store, uri: str) -> None:
    method, arguments = LAYOUT[uri]
    path = getattr(store, method)(*arguments)
    assert store.uri(path) == uri
    assert list(parse(uri).fields.values()) == list(arguments)


def test_every_path_of_the_layout_is_of_another_kind() -> None:
    found = [parse(uri).kind for uri in LAYOUT]
    assert len(set(found)) == len(LAYOUT)
    assert UNKNOWN not in found


@pytest.mark.parametrize(
    ("uri", "lock"),
    [
        ("raw/a.wav", "raw/a"),
        ("raw/.0123abcd-a.error.json", "raw/a"),
        ("stems/m/a/vocals.wav", "stems/m/a"),
        ("stems/m/.0123abcd-a/vocals.wav", "stems/m/a"),
        ("features/f/a.parquet", "features/f/a.parquet"),
        ("dataset/shards/d/x.arrow", "dataset"),
        ("dataset/splits.json", "dataset"),
        ("dataset/v/tracks.parquet", "dataset/v"),
        ("models/dense/gan/.0123abcd-v/weights.safetensors", "models/dense/gan/v"),
        ("releases/dense_gan/v/gan/config.json", "releases/dense_gan/v"),
        ("gallery/v/index.html", "gallery/v"),
        ("catalogue.parquet", "catalogue"),
        ("forgotten.json", "catalogue"),
        ("work/training/dense/gan/v/state.pt", "models/dense/gan/v"),
        ("work/dense.gan.v/state.pt", "models/dense/gan/v"),
        ("work/scratch/a.x7/attempt-1/song.mp3", "raw/a"),
        ("work/separation/m/a.x7/mix.wav", "stems/m/a"),
        ("work/copies/models%2Fdense%2Fgan%2Fv.x7/v", "models/dense/gan/v"),
        ("work/copies/raw%2Fa.wav.x7/a.wav", "raw/a"),
    ],
)
def test_lock_of_a_path(uri: str, lock: str) -> None:
    assert lock_name(uri) == lock


@pytest.mark.parametrize(
    ("uri", "track_id", "removed"),
    [
        ("raw/t.wav", "t", "raw/t.wav"),
        ("raw/.0123abcd-t.wav", "t", "raw/.0123abcd-t.wav"),
        ("stems/m/t/vocals.wav", "t", "stems/m/t"),
        ("stems/m/.0123abcd-t/vocals.wav", "t", "stems/m/.0123abcd-t"),
        ("pictures/features/f/t.png", "t", "pictures/features/f/t.png"),
        ("pictures/stems/m/t/vocals.png", "t", "pictures/stems/m/t/vocals.png"),
        ("pictures/uses/augment/r/data/t.01.png", "t", "pictures/uses/augment/r/data/t.01.png"),
        ("uses/augment/r/data/t.01.wav", "t", "uses/augment/r/data/t.01.wav"),
        ("uses/augment/r/data/.0123abcd-t.01.wav", "t", "uses/augment/r/data/.0123abcd-t.01.wav"),
        ("uses/augment/r/.melodygan/rows/t.01.json", "t", "uses/augment/r/.melodygan/rows/t.01.json"),
        ("uses/augment/r/metadata.csv", "", "uses/augment/r"),
        ("work/copies/raw%2Ft.wav.x7", "t", "work/copies/raw%2Ft.wav.x7"),
        ("samples/dense_gan/v/t.wav", "", "samples/dense_gan/v"),
        ("marks/t/v.json", "", "marks/t/v.json"),
    ],
)
def test_track_of_a_path_and_what_is_removed_with_it(uri: str, track_id: str, removed: str) -> None:
    assert (parse(uri).track_id, parse(uri).track_uri) == (track_id, removed)


def test_writers_hold_the_declared_locks(
    store: Store, tmp_path: Path, tone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []
    written: dict[str, set[str]] = {}
    lock, write, write_folder = Store.lock, Store.writing, Store.writing_folder

    @contextmanager
    def locked(self: Store, name: str, timeout_s: float = 3600.0) -> Iterator[None]:
        with lock(self, name, timeout_s):
            held.append(name)
            yield
            held.remove(name)

    @contextmanager
    def writing(self: Store, path: UPath) -> Iterator[Path]:
        written[self.uri(path)] = set(held)
        with write(self, path) as temporary:
            yield temporary

    @contextmanager
    def writing_folder(self: Store, path: UPath) -> Iterator[Path]:
        written[self.uri(path)] = set(held)
        with write_folder(self, path) as temporary:
            yield temporary

    monkeypatch.setattr(Store, "lock", locked)
    monkeypatch.setattr(Store, "writing", writing)
    monkeypatch.setattr(Store, "writing_folder", writing_folder)
    (tmp_path / "a.wav").write_bytes(tone)
    (tmp_path / "s.txt").write_text("a.wav\n", "utf-8")
    ids = catalogue.expand(tmp_path / "s.txt", store, CatalogueConfig()).new
    assert not download.fetch(ids, store, DownloadConfig(workers=1)).failed
    assert not separation.separate(ids, store, SEPARATION).failed
    assert not features.extract(ids, store, FEATURE, SEPARATION).failed
    stages = dict(written)
    put_tracks(store, [f"t{i}" for i in range(8)])
    made_before = set(written)
    assemble(store)
    stages |= {uri: locks for uri, locks in written.items() if uri not in made_before}
    by_kind = {parse(uri).kind: uri for uri in stages}
    assert {
        kinds.CATALOGUE,
        kinds.RAW_WAV,
        kinds.RAW_JSON,
        kinds.STEMS,
        kinds.FEATURES,
        kinds.SHARDS,
        kinds.SPLITS,
        kinds.DATASET,
    } <= by_kind.keys()
    # Whoever reads these reads the old or the new file, so their writers need no lock.
    free = (kinds.FINGERPRINT, kinds.REPORT, kinds.RECORD)
    for kind, uri in by_kind.items():
        assert kind in free or lock_name(uri) in stages[uri], uri
