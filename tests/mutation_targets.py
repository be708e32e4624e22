"""Every format that MelodyGAN reads: a valid file, and what reads it in place of that file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from melodygan_core import catalogue, codec, download, features, prior, release, vocoder
from melodygan_core.config import DownloadConfig, presets
from melodygan_core.dataset import Dataset, index
from melodygan_core.maintenance.check import check_store
from melodygan_core.storage import Artifact, Store
from tests.core.hostile import encoded, sine
from tests.core.made import Trained
from tests.core.test_fuzz import SETTINGS, SOURCES

FORMATS = ("audio", "YAML", "JSON", "safetensors", "Parquet", "Arrow")
_DOWNLOAD = DownloadConfig(max_duration_s=5, timeout_s=30)


@dataclass(frozen=True)
class Target:
    """One file and what reads it.

    Attributes:
        format: Of FORMATS.
        name: What is read.
        data: The valid file.
        read: Writes the mutated file where it belongs and reads it; equal results mean equal content.
    """

    format: str
    name: str
    data: bytes
    read: Callable[[bytes], object]


def targets(pipeline: Trained, folder: Path) -> list[Target]:
    """Every file that is mutated.

    Args:
        pipeline: A store with everything; it is not changed.
        folder: An empty folder, for copies.
    """
    root = folder / "store"
    shutil.copytree(pipeline.store.root, root, ignore=shutil.ignore_patterns("work"))
    store = Store(str(root))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [
        *_sounds(),
        *_texts(folder),
        *_weights(pipeline, store),
        *_tables(pipeline, store),
        *(_checked(store, path) for path in files if path.suffix == ".json"),
        *_release(folder, store),
    ]


def _at(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    def write_and_read(data: bytes) -> object:
        original = path.read_bytes() if path.exists() else None
        path.write_bytes(data)
        try:
            return read()
        finally:
            if original is not None:
                path.write_bytes(original)

    return write_and_read


def _sounds() -> list[Target]:
    tone = sine(1.2)

    def decode(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sound").write_bytes(data)
            raw, _ = download.decode(Path(folder) / "sound", Path(folder), _DOWNLOAD)
            wav = Path(folder) / "a.wav"
            download._write_wav(raw, wav, _DOWNLOAD)
            return wav.read_bytes()

    return [Target("audio", f, encoded(tone, format=f), decode) for f in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]


def _texts(folder: Path) -> list[Target]:
    sources, settings = folder / "sources.yaml", folder / "settings.yaml"
    return [
        Target("YAML", "sources", SOURCES.encode(), _at(sources, lambda: catalogue.read_sources(sources))),
        Target("YAML", "settings", SETTINGS.encode(), _at(settings, lambda: presets.load("small", settings))),
    ]


def _weights(pipeline: Trained, store: Store) -> list[Target]:
    parts = pipeline.artifacts
    readers: list[tuple[Artifact, Callable[..., object]]] = [
        (parts.codec, codec.load),
        (parts.prior, prior.load),
    ]
    if parts.vocoder is not None:
        readers.append((parts.vocoder, vocoder.load))
    found = []
    for artifact, load in readers:
        folder = Path(store.at(artifact.uri).path)

        def read(folder: Path = folder, load: Callable[..., object] = load) -> object:
            return _state(load(folder, "cpu"))

        for file, form in (("weights.safetensors", "safetensors"), ("config.json", "JSON")):
            path = folder / file
            found.append(Target(form, f"{artifact.name} {file}", path.read_bytes(), _at(path, read)))
    return found


def _state(model: object) -> object:
    module = getattr(model, "model", model)
    state = getattr(module, "state_dict", dict)()
    return [(key, value.numpy().tobytes()) for key, value in state.items()]


def _tables(pipeline: Trained, store: Store) -> list[Target]:
    root = Path(store.root)
    rows, shards = root / "catalogue.parquet", next(root.glob("dataset/shards/*"))
    feature, shard = next(root.glob("features/*/*.parquet")), next(shards.glob("*.arrow"))
    table = pipeline.dataset

    def dataset() -> object:
        opened = Dataset(store, table)
        return [row.tobytes() for row in opened.rows("train", ("vocals",)).__dict__.values()]

    def doctor() -> object:
        return [(f.path, f.kind) for f in check_store(store).findings]

    def read_features() -> object:
        found = features.read(feature)
        return found.to_pydict().keys(), found.num_rows, features.footer(feature)

    def entries() -> object:
        return {
            k: {**vars(e), "sums": e.sums.tobytes()}
            for k, e in index.load(store, store.at(_uri(shards, root))).items()
        }

    tracks = root / table.uri / "tracks.parquet"
    return [
        Target("Parquet", "catalogue", rows.read_bytes(), _at(rows, lambda: catalogue.load(store))),
        Target("Parquet", "features", feature.read_bytes(), _at(feature, read_features)),
        Target(
            "Parquet", "index", (shards / "index.parquet").read_bytes(), _at(shards / "index.parquet", entries)
        ),
        Target("Parquet", "tracks of the dataset", tracks.read_bytes(), _at(tracks, dataset)),
        *(
            Target("Parquet", f"doctor: {path.name}", path.read_bytes(), _at(path, doctor))
            for path in (rows, feature, shards / "index.parquet", tracks)
        ),
        Target("Arrow", "shard", shard.read_bytes(), _at(shard, dataset)),
        Target("Arrow", "doctor: shard", shard.read_bytes(), _at(shard, doctor)),
    ]


def _uri(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _checked(store: Store, path: Path) -> Target:
    """A JSON file of a store, read by the check, and as a record or artifact where it is one."""
    uri = _uri(path, Path(store.root))

    def read() -> object:
        found: list[object] = [(f.path, f.kind) for f in check_store(store, hashes=False).findings]
        if path.name == "artifact.json":
            found.append(store.artifact(store.at(uri).parent))
        elif uri.startswith("records/"):
            found.append(store.record(path.stem.replace(".", "/")))
        elif uri.startswith("raw/"):
            found.append(download.provenance(store, path.stem))
        return found

    return Target("JSON", uri, path.read_bytes(), _at(path, read))


def _release(folder: Path, store: Store) -> list[Target]:
    made = next(Path(store.root).glob("releases/*/*"), None)
    if made is None:
        return []
    copy = folder / "release"
    shutil.copytree(made, copy)

    def read() -> object:
        loaded = release.load(copy, device="cpu")
        return repr(loaded.manifest), repr(loaded.generation)

    return [
        Target("JSON", f"release {name}", (copy / name).read_bytes(), _at(copy / name, read))
        for name in ("manifest.json", "styles.json")
    ]
