"""Samples and sets of sounds in the formats of others: WebDataset shards, and Hugging Face's `audiofolder`."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.release.model_card import escape_markdown
from melodygan_core.services.labelled import METADATA, read_labelled
from melodygan_core.services.output import output_folder
from melodygan_core.storage import load_object

Kind = Literal["webdataset", "audiofolder"]
SHARD_SOUNDS = 1000
# Of the JSON beside a sound.
_MAX_BYTES = 64_000_000


@dataclass(frozen=True)
class Item:
    """A sound and what is known of it.

    Attributes:
        path: Of the sound.
        key: Name without suffix: letters, digits, `-` and `_`, all different.
        facts: As plain JSON.
    """

    path: Path
    key: str
    facts: dict[str, Any]


def pack(folder: Path, out: Path, kind: Kind = "webdataset", shard_sounds: int = SHARD_SOUNDS) -> list[str]:
    """Writes the sounds of a folder in another format; the same folder gives the same bytes.

    Args:
        folder: What `generate` or another service wrote, or a set with `metadata.csv` or `metadata.jsonl`.
        out: New or empty.
        kind: `webdataset`: tar shards of `KEY.wav` and `KEY.json`. `audiofolder`: `data/` and `metadata.csv`.
        shard_sounds: Most sounds of a shard.

    Returns:
        Names of the shards, or of the files of the set, in `out`.

    Raises:
        InputError: no sounds, metadata that cannot be read, or `out` holds something.
    """
    require(shard_sounds >= 1, "shard_sounds", shard_sounds, "1 or more")
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"out must be a folder outside of {folder}, got {str(out)!r}")
    items = read_items(folder)
    with output_folder(out) as temporary:
        return (
            _shards(items, temporary, shard_sounds) if kind == "webdataset" else _set(items, folder, temporary)
        )


def read_items(folder: Path) -> list[Item]:
    """The sounds of a folder, sorted by name.

    Raises:
        InputError: none, or metadata that cannot be read.
    """
    require(folder.is_dir(), "folder", str(folder), "a folder of sounds")
    if any((folder / name).is_file() for name in METADATA):
        found = [
            (item.path, item.name, {**item.labels, "licence": item.licence, "rights": item.rights})
            for item in read_labelled(folder)
        ]
    else:
        sounds = sorted(p for p in folder.glob("*.wav") if p.with_suffix(".json").is_file())
        found = [(p, p.name, load_object(p.with_suffix(".json"), _MAX_BYTES)) for p in sounds]
    require(
        bool(found), "folder", str(folder), f"one with {' or '.join(METADATA)}, or of sounds with a .json each"
    )
    keys = [_key(name) for _, name, _ in found]
    if len(set(keys)) < len(keys):
        # What differs in other characters alone.
        keys = [f"{n:06d}-{key}" for n, key in enumerate(keys)]
    return [Item(path, key, facts) for (path, _, facts), key in zip(found, keys, strict=True)]


def _key(name: str) -> str:
    """A name as WebDataset takes it: what follows the first dot would be the kind of the file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", PurePosixPath(name).with_suffix("").as_posix())[:80]


def _shards(items: Sequence[Item], out: Path, size: int) -> list[str]:
    names = []
    for start in range(0, len(items), size):
        name = f"sounds-{start // size:06d}.tar"
        with tarfile.open(out / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for member, content in _members(items[start : start + size]):
                # No time and no owner: the same sounds are the same bytes.
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        names.append(name)
    return names


def _members(items: Sequence[Item]) -> Iterator[tuple[str, bytes]]:
    for item in items:
        yield f"{item.key}{item.path.suffix.lower()}", item.path.read_bytes()
        text = json.dumps(item.facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        yield f"{item.key}.json", text.encode()


def _set(items: Sequence[Item], folder: Path, out: Path) -> list[str]:
    if any((folder / name).is_file() for name in METADATA):
        raise InputError(f"folder must be one that is no audiofolder yet, got {str(folder)!r}")
    (out / "data").mkdir()
    rows = []
    for item in items:
        name = f"data/{item.key}{item.path.suffix.lower()}"
        shutil.copyfile(item.path, out / name)
        rows.append({"file_name": name, **_columns(item.facts)})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (out / "metadata.csv").write_text(text.getvalue(), "utf-8")
    (out / "README.md").write_text(_card(rows), "utf-8")
    return ["README.md", "metadata.csv", *(str(row["file_name"]) for row in rows)]


def _columns(facts: dict[str, Any]) -> dict[str, str | int | float]:
    """The plain values of a sound's JSON, and the licences of what it was made from."""
    plain = {
        k: v for k, v in facts.items() if isinstance(v, str | int | float) and k not in ("file", "file_name")
    }
    sources = facts.get("sources")
    licences = sources.get("licences") if isinstance(sources, dict) else None
    return {**plain, "licence": "; ".join(map(str, licences)) if isinstance(licences, list) else "unknown"}


def _card(rows: Sequence[dict[str, Any]]) -> str:
    licences = sorted({str(row["licence"]) for row in rows})
    listed = "\n".join(f"- {escape_markdown(name)}" for name in licences)
    return f"""---
tags:
- audio
- music
---

# {len(rows)} sounds made by MelodyGAN

`metadata.csv` has the model, seed and length of each. Licences of the tracks that the models were trained on:

{listed}

```python
datasets.load_dataset("audiofolder", data_dir="...")
```
"""
