"""A set of sounds with labels: a folder as Hugging Face's `audiofolder` reads it, or the tracks of a store."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from melodygan_core.errors import InputError
from melodygan_core.storage import Store
from melodygan_core.text import plain_text

SUFFIXES = frozenset([".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".wma"])
SPLITS = frozenset({"train", "validation", "valid", "dev", "val", "test", "eval"})
METADATA = ("metadata.csv", "metadata.jsonl")
UNKNOWN = "unknown"
_MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class Labelled:
    """One sound of a set.

    Attributes:
        path: Of the file.
        name: Relative to the set, with forward slashes; what its variations are named after.
        labels: Column to value, as the set has it.
        group: Split and label: a variation only borrows from sounds of the same group.
        licence: Of the sound; `unknown` is not free.
        rights: own, licensed, open or unknown.
    """

    path: Path
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    group: tuple[str, ...] = ()
    licence: str = UNKNOWN
    rights: str = UNKNOWN


def is_store(dataset: Path) -> bool:
    """Whether a folder is the root of a store, not a set of sounds."""
    return (dataset / "records").is_dir() and (dataset / "catalogue.parquet").is_file()


def check_labelled(dataset: Path, out: Path) -> None:
    """Checks a set and the folder that its variations go to; loads no model.

    Raises:
        InputError: see read_labelled; or the folder lies in the set, whose sounds its own would become.
    """
    # What a store holds is read with the models.
    if is_store(dataset):
        return
    read_labelled(dataset)
    if out.resolve().is_relative_to(dataset.resolve()):
        raise InputError(f"out must be a folder outside of {dataset}, got {str(out)!r}")


def read_labelled(dataset: Path, licence: str = "", rights: str = "") -> list[Labelled]:
    """The sounds of a set, sorted by name.

    A folder with `metadata.csv` or `metadata.jsonl` has the labels in that; without, the folder that a file
    lies in is its label. A store has its dataset's tracks, labelled by their tags.

    Args:
        dataset: A folder of sounds, or a store.
        licence: Of sounds for which the set names none.
        rights: Of the same.

    Raises:
        InputError: no folder, no sound in it, or metadata that names what is not there.
    """
    if not dataset.is_dir():
        raise InputError(f"dataset must be a folder of sounds or a store, got {str(dataset)!r}")
    if is_store(dataset):
        found = list(_of_store(Store(str(dataset))))
    else:
        found = list(_of_folder(dataset.resolve(), licence or UNKNOWN, rights or UNKNOWN))
    if not found:
        raise InputError(f"{dataset} must have a sound ({' '.join(sorted(SUFFIXES))}), got none")
    return sorted(found, key=lambda item: item.name)


def _of_store(store: Store) -> Iterator[Labelled]:
    # Imports torch, which a check of a folder need not wait for.
    from melodygan_core.dataset.assemble import NAME as DATASET

    record = store.record(DATASET)
    if record is None or not store.is_local:
        raise InputError(f"dataset must be a folder or a local store that has a dataset, got {store.root!r}")
    with store.reading(store.at(record.uri) / "tracks.parquet") as path:
        rows = pq.read_table(path, columns=["track_id", "split", "tags", "licence", "rights"]).to_pylist()
    for row in rows:
        wav = Path(store.raw_wav(row["track_id"]).path)
        tags = "; ".join(sorted(row["tags"]))
        if wav.is_file():
            labels = {"tags": tags, "split": row["split"]}
            yield Labelled(
                wav, wav.name, labels, (row["split"], tags), row["licence"] or UNKNOWN, row["rights"]
            )


def _of_folder(root: Path, licence: str, rights: str) -> Iterator[Labelled]:
    tables = [root / name for name in METADATA if (root / name).is_file()]
    if len(tables) > 1:
        raise InputError(f"{root} must have one of {' and '.join(METADATA)}, got both")
    if tables:
        yield from _of_table(root, tables[0], licence, rights)
        return
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(p.startswith(".") for p in parts)
        # A link may lead out of the folder.
        if hidden or path.suffix.lower() not in SUFFIXES or not path.is_file() or path.is_symlink():
            continue
        folders = [p for p in parts[:-1] if p != "data"]
        split = next((p for p in folders if p.lower() in SPLITS), "")
        label = folders[-1] if folders and folders[-1] != split else ""
        labels = {"label": label} if label else {}
        name = PurePosixPath(*parts).as_posix().removeprefix("data/")
        yield Labelled(path, name, labels, (split, label), licence, rights)


def _of_table(root: Path, table: Path, licence: str, rights: str) -> Iterator[Labelled]:
    seen = set()
    for line, row in _rows(table):
        file = row.pop("file_name", "")
        path = (root / file).resolve()
        if not file or not path.is_relative_to(root) or not path.is_file():
            raise InputError(f"{table}, line {line}: file_name must be a file in {root}, got {file!r}")
        if path in seen:
            raise InputError(f"{table}, line {line}: file_name must differ from those before, got {file!r}")
        seen.add(path)
        of = next((row.pop(k) for k in ("licence", "license") if row.get(k)), "")
        own_rights = row.pop("rights", "")
        folders = path.relative_to(root).parts[:-1]
        split = row.get("split") or next((p for p in folders if p.lower() in SPLITS), "")
        # All labels together where none is called so: nearest to the same is the same.
        label = (row["label"],) if "label" in row else tuple(row.values())
        name = path.relative_to(root).as_posix().removeprefix("data/")
        yield Labelled(
            path, name, row, (split, *label), plain_text(of) or licence, plain_text(own_rights) or rights
        )


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if table.stat().st_size > _MAX_BYTES:
        raise InputError(f"{table} must have at most {_MAX_BYTES} bytes, got {table.stat().st_size}")
    try:
        text = table.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table} is not UTF-8: {error}") from error
    if table.suffix == ".jsonl":
        for line, one in enumerate(text.split("\n"), 1):
            if one.strip():
                yield line, {str(k): _text(v) for k, v in _object(table, line, one).items()}
        return
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{table}, line {reader.line_num} must have one value per column")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: {error}") from error


def _object(table: Path, line: int, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{table}, line {line} must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{table}, line {line} must be a JSON object, got {text[:60]!r}")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
