"""How a set of variations describes itself, so that Hugging Face's `audiofolder` loads it with its labels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from melodygan_core.config import AugmentConfig
from melodygan_core.release import Release, escape_markdown
from melodygan_core.services.labelled import Labelled

OWN_COLUMNS = (
    "file_name",
    "source_file",
    "copy",
    "seed",
    "strength",
    "release",
    "licence",
    "rights",
    "chroma_correlation",
    "onset_correlation",
)

# What a variation has of its source, by method.
_PRESERVED = {
    "eq": "the length, the notes and the onsets of its source, and another timbre and level.",
    "flow": "the length of its source, and is made anew: the nearer to it, the lower the strength.",
}


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """`metadata.csv`: the name of the file, its labels, where it comes from."""
    labels = dict.fromkeys(k for row in rows for k in row if k not in OWN_COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["file_name", *labels, *OWN_COLUMNS[1:]], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def card_of(
    release: Release,
    dataset: Path,
    config: AugmentConfig,
    method: str,
    items: Sequence[Labelled],
    rows: Sequence[dict[str, Any]],
) -> str:
    """`README.md`: what the set is, and under which licences; all text of strangers is inert."""
    sources = release.manifest.sources
    escaped = [escape_markdown(name) for name in sorted({item.licence for item in items})]
    counted = Counter(row["licence"] for row in rows)
    table = "\n".join(f"| {escape_markdown(k)} | {n} |" for k, n in sorted(counted.items()))
    means = {k: float(np.mean([row[k] for row in rows])) for k in ("chroma_correlation", "onset_correlation")}
    return f"""---
tags:
- audio
- augmentation
---

# Variations of {escape_markdown(dataset.resolve().name)}

{len(rows)} variations of {
        len({row["source_file"] for row in rows})
    } sounds, made by MelodyGAN: each has the labels,
{_PRESERVED[method]} `metadata.csv` names
the source of each; the sources are not in here. Mono, {release.pipeline.feature.sample_rate} Hz.

```python
datasets.load_dataset("audiofolder", data_dir="...")
```

| | |
|---|---|
| release | {release.pipeline.name} {release.version} |
| method | {method} |
| copies of each, strength, seed | {config.copies}, {config.strength:g}, {config.seed} |
| mean chroma correlation with the source | {means["chroma_correlation"]:.3f} |
| mean onset correlation with the source | {means["onset_correlation"]:.3f} |

## Licences

Of the sources, and so of their variations ({", ".join(escaped)}); `unknown` is not free:

| licence | variations |
|---|---|
{table}

The release was trained on {len(sources["tracks"])} tracks under: {
        ", ".join(escape_markdown(name) for name in sources["licences"])
    }.
"""
