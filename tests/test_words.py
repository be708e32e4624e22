"""The code speaks the field's language: words that newcomers would have to learn are not used."""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("melodygan_core", "melodygan_dagster", "melodygan_web", "tests", "benchmarks", "scripts")
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")

# Old name to the field's word. No identifier is the old name, with or without underscores before it.
REPLACED = {
    "kept": "eval_model",
    "trained": "optimized_modules",
    "carried": "stateful_modules",
    "draw": "get_batch",
    "updates": "training_step",
    "ahead": "prefetch",
    "Fitted": "TrainResult",
    "Resumable": "TrainState",
    "Observer": "MetricsCallback",
    "once": "get_or_build",
    "leads": "is_main_process",
    "told": "broadcast",
    "mine": "local_shard",
    "whole": "all_gather_with_grad or global_style",
    "leader_first": "main_process_first",
    "Duel": "GanTask",
    "shown": "augment, or what it holds",
    "spread": "minibatch_stddev, or evenly spaced",
    "wander": "local_style",
    "Critic": "PatchDiscriminator",
    "critic": "discriminator",
    "critics": "discriminators",
    "Critics": "MultiResolutionDiscriminator",
    "Judgement": "DiscriminatorOutput",
    "judged": "fake_output",
    "said": "adv_loss",
    "adversarial_from": "disc_start",
    "guess": "initial_spectrum",
    "returned": "consistency_ratio",
    "mended": "refine",
    "mend": "repair",
    "louder": "d_log_mag",
    "turned": "d_phase",
    "Stretches": "SpanDataset",
    "Stretch": "Span",
    "stretches": "spans",
    "stretch": "span",
    "Places": "CropSampler",
    "places": "positions",
    "Sounds": "WaveformDataset",
    "compose": "sample",
    "sounding": "vocode",
    "examine": "check_collapse",
    "alive": "active_dims",
    "floor": "real_baseline, or what it limits",
    "verdict": "release_gate",
    "likeness": "content_similarity",
    "blaming": "config_errors",
    "blaming_storage": "storage_errors",
    "torn": "incomplete",
    "forgetting": "erasure",
    "below": "list_files",
    "todo": "track_scheduling",
    "Tried": "RecentAttempts",
    "_of": "build_asset",
    "family": "codec, prior or pipeline",
    "families": "codecs, priors or pipelines",
    "room": "package, module, or what is left",
    "rooms": "packages or modules",
    "sig": "wav",
    "sr": "sample_rate",
    "fs": "sample_rate",
    "chunk": "segment",
    "clip": "segment",
    "nfft": "n_fft",
    "hop_size": "hop_length",
    "spec": "log_mel",
    "S": "log_mel",
    "fps": "frame_rate",
    "pred": "log_mel_hat",
    "codes": "latents, or what they number",
    "G": "generator",
    "D": "discriminator",
    "iter": "step or epoch",
    "background": "reference",
    "volume": "loudness_lufs",
}
# Of the table's words these mean something else as well, for which they stay: `targets` of a loss or of a job,
# `out` for a folder or a tensor of any kind, `y` for an axis and for a hidden layer, `source` for an entry of
# sources.yaml, `features` for log-mel and MFCC, `decoder` for the codec's half.

# No part of an identifier either: `_stretch_of`, `BelowRoot`. Other words have a right use there: `log_floor`.
PARTS = frozenset(
    (
        "below",
        "blaming",
        "carried",
        "critic",
        "critics",
        "duel",
        "examine",
        "families",
        "family",
        "fitted",
        "forgetting",
        "guess",
        "judged",
        "judgement",
        "kept",
        "leads",
        "likeness",
        "louder",
        "mend",
        "mended",
        "mine",
        "observer",
        "places",
        "room",
        "rooms",
        "said",
        "sounding",
        "stretch",
        "stretches",
        "todo",
        "told",
        "torn",
        "turned",
        "verdict",
        "wander",
        "whole",
    )
)


# Names of libraries, and where they come from: as an attribute, as a keyword argument, as a builtin.
ATTRIBUTES = {
    "chunk": "torch.Tensor, pyarrow.ChunkedArray",
    "clip": "numpy",
    "compose": "yaml",
    "draw": "hypothesis",
    "family": "socket",
    "floor": "numpy, math",
    "fs": "fsspec",
}
KEYWORDS = {"fs": "scipy.signal", "sr": "librosa", "S": "librosa", "clip": "mido", "background": "starlette"}
BUILTINS = {"iter", "__iter__"}
# Files that read or write what version 0.1 wrote, in whose words it is: a codec and its GAN were a family.
VERSION_0_1 = (
    "melodygan_core/maintenance/check/older.py",
    "melodygan_core/release/legacy.py",
    "melodygan_core/release/load.py",
    "tests/core/test_check.py",
    "tests/core/test_legacy_release.py",
    "tests/core/test_old_store.py",
)
FAMILY = {"family", "families"}
# Other exceptions of one file, by name.
EXCEPTIONS = {
    # `draw` is hypothesis's name for the first argument of a composite strategy.
    "tests/core/test_fuzz.py": {"draw"},
    "tests/core/test_kinds.py": {"draw"},
    # A class of audiomentations.
    "benchmarks/augmentation.py": {"stretch"},
    # The arguments of socket.getaddrinfo.
    "tests/core/guarded_jobs.py": {"family"},
    # The folder of the models of version 0.1.
    "melodygan_core/storage/kinds.py": {"families"},
    # An option that is gone.
    "tests/cli/test_documents.py": {"family"},
    # An AssetSpec of Dagster.
    "tests/dagster/test_definitions.py": {"spec"},
    # Asserts that the command line's help does not use these words.
    "tests/cli/test_cli_group.py": {"mend", "mended", "family"},
} | dict.fromkeys(VERSION_0_1, FAMILY)
# In the tests, a pipeline that was trained; in the table, the modules under an optimizer.
TESTS = {"trained"}

# In prose and in messages, too.
PHRASES = (
    r"\bmend(s|ed|ing)?\b",
    r"\bblam(e|es|ed|ing)\b",
    r"\bstretch(es)?\b",
    r"\bcritics?\b",
    r"\bthe leader\b",
    r"\bjudge(s|d)?\b",
    r"\bwander(s|ing)?\b",
    r"\bfamil(y|ies)\b",
    r"\btold apart\b",
    r"\bled (away|towards)\b",
)


def identifiers(source: str) -> Iterator[tuple[int, str, str]]:
    """Yields line, name and role of every identifier, those in f-strings included."""
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                yield line, name, "name"
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield line, name, "name"
            case ast.alias(name=name, asname=alias):
                yield line, alias or name.rsplit(".", 1)[-1], "name"
            case ast.Attribute(attr=name):
                yield line, name, "attribute"
            case ast.keyword(arg=str(name), value=value):
                yield value.lineno, name, "keyword"


def words(name: str) -> set[str]:
    """An identifier, the same without underscores around it, and its parts of PARTS, in lower case."""
    if name.startswith("test_"):
        return {name}  # A sentence, in which these words have their plain meaning.
    parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return {name, name.strip("_")} | (parts & PARTS)


def replaced(source: str, allowed: set[str] | frozenset[str] = frozenset()) -> list[tuple[int, str]]:
    """Line and name of every identifier that the field's word has replaced."""
    libraries = {"name": BUILTINS, "attribute": set(ATTRIBUTES), "keyword": set(KEYWORDS)}
    return [
        (line, name)
        for line, name, role in identifiers(source)
        if name not in libraries[role]
        and any(word in REPLACED or word in PARTS for word in words(name) if word.strip("_") not in allowed)
    ]


def texts(source: str) -> list[tuple[int, str]]:
    """Line and text of every comment and every string, docstrings and the text of f-strings included."""
    found = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    found += [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return found


@functools.cache
def prose() -> list[tuple[str, int, str]]:
    """Path, line and text of every comment and string of the Python files, and of every line of the pages."""
    python = [
        (p, line, text) for folder in FOLDERS for p, source in files(folder) for line, text in texts(source)
    ]
    pages = [
        (page.relative_to(ROOT).as_posix(), line, text)
        for page in PAGES
        for line, text in enumerate(page.read_text("utf-8").splitlines(), 1)
    ]
    return python + pages


def files(folder: str) -> Iterator[tuple[str, str]]:
    """Yields relative path and source of the Python files of a folder, without this one."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path != Path(__file__):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


@pytest.mark.parametrize("folder", FOLDERS)
def test_replaced_identifiers_are_gone(folder: str) -> None:
    left = [
        f"{path}:{line} {name} (say {', '.join(REPLACED[w] for w in sorted(words(name)) if w in REPLACED)})"
        for path, source in files(folder)
        for line, name in replaced(
            source, EXCEPTIONS.get(path, set()) | (TESTS if folder == "tests" else set())
        )
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize("pattern", PHRASES)
def test_replaced_words_are_gone_from_prose(pattern: str) -> None:
    left = [
        f"{path}:{line} {match[0]}"
        for path, line, text in prose()
        for match in re.finditer(pattern, text, re.IGNORECASE)
        if match[0].lower() not in EXCEPTIONS.get(path, set())
    ]
    assert not left, "\n".join(left)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def _stretch(): pass", ["_stretch"]),
        ("spread = 1", ["spread"]),
        ("f'{shown(x)}'", ["shown"]),
        ("def f(floor): return np.floor(floor)", ["floor", "floor"]),
        ("from a.below import whole as b, kept", ["kept"]),
        ("self._places.sample(draw=1)", ["_places", "draw"]),
        ("librosa.load(path, sr=rate)", []),
        ("def load(sr): return sr", ["sr", "sr"]),
        ("snapshot.of(kind); iter(x)", []),
        ("asset = _of(pipeline)", ["_of"]),
        (
            "class OldCritics: in_room = read_below(MAX_TOLD)",
            ["OldCritics", "in_room", "read_below", "MAX_TOLD"],
        ),
        ("log_floor = ahead_of_time", []),
        ("# spread\nx = 'spread'", []),
    ],
)
def test_a_replaced_identifier_is_found(source: str, expected: list[str]) -> None:
    assert sorted(name for _, name in replaced(source)) == sorted(expected)


def test_strings_and_comments_are_read() -> None:
    source = '"""One."""\nx = f"two {y} three"  # four\nraise ValueError("five")\n'
    assert {text.strip("# ") for _, text in texts(source)} == {"One.", "two", "three", "four", "five"}


def test_every_exception_is_needed() -> None:
    for path, allowed in EXCEPTIONS.items():
        source = (ROOT / path).read_text("utf-8")
        found = {word for _, name in replaced(source) for word in words(name)}
        written = " ".join(text.lower() for _, text in texts(source))
        assert any(word in found or word in written for word in allowed), path
