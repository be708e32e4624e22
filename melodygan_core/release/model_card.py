"""The model card of a release."""

from __future__ import annotations

import re

from melodygan_core.release.manifest import Manifest


def escape_markdown(text: str) -> str:
    """Text from strangers as inert Markdown on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", " ".join(text.split()))


def model_card(manifest: Manifest) -> str:
    """`MODEL_CARD.md`: what it makes, how to use it, figures, and what it was trained on."""
    sources = manifest.sources
    figures = "\n".join(f"| {k} | {v:.4g} |" for k, v in manifest.evaluation.items() if not isinstance(v, str))
    tracks = "\n".join(
        f"| {escape_markdown(t['title'])} | {escape_markdown(t['licence'] or 'unknown')} | {t['rights']} "
        f"| {escape_markdown(t['url'])} |"
        for t in sources["tracks"]
    )
    begun = "".join(
        f"\nIts {' and '.join(row['parts'])} began with the weights of {escape_markdown(row['pipeline'])} "
        f"{escape_markdown(row['version'])}, whose training tracks are listed here, too.\n"
        for row in manifest.started_from
    )
    components = "\n".join(f"| {name} | {part.kind} |" for name, part in manifest.components.items())
    return f"""# MelodyGAN {manifest.pipeline} {manifest.version}

Generates {", ".join(sources["stems"])} in the style of {len(sources["tracks"])} tracks. Their licences:
{", ".join(map(escape_markdown, sources["licences"]))}. Whoever uses the output is responsible for these rights.
{begun}
Use, in a clone of MelodyGAN after `make setup`, with the path of this folder:

```bash
.venv/bin/melodygan generate FOLDER --count 8 --seconds 10 --seed 0 --out samples
```

| component | kind |
|---|---|
{components}

## Figures

Embedding: {manifest.evaluation.get("embedding", "")}. KAD x1000 against test tracks, split from
the training data by {manifest.evaluation.get("split_by", "recording")}; lower is better.

| figure | value |
|---|---|
{figures}

## Training data (dataset {sources["dataset"]})

| title | licence | rights | url |
|---|---|---|---|
{tracks}
"""
