"""The code speaks the field's language: identifiers that newcomers would have to learn are not used."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("melodygan_core", "melodygan_dagster")

# Old name to the field's word. As an identifier, the old name is not used any more.
REPLACED = {
    "family": "codec, prior or pipeline",
    "Fitted": "TrainResult",
    "Resumable": "TrainState",
    "Observer": "MetricsCallback",
    "leads": "is_main_process",
    "told": "broadcast",
    "mine": "local_shard",
    "leader_first": "main_process_first",
    "_Duel": "GanTask",
    "wander": "local_style",
    "Critic": "PatchDiscriminator",
    "critic": "discriminator",
    "critics": "discriminators",
    "Critics": "MultiResolutionDiscriminator",
    "Judgement": "DiscriminatorOutput",
    "judged": "fake_output",
    "adversarial_from": "disc_start",
    "_returned": "consistency_ratio",
    "_mended": "refine",
    "mend": "repair",
    "louder": "d_log_mag",
    "turned": "d_phase",
    "Stretches": "SpanDataset",
    "Stretch": "Span",
    "Places": "CropSampler",
    "Sounds": "WaveformDataset",
    "sounding": "vocode",
    "examine": "check_collapse",
    "alive": "active_dims",
    "_verdict": "release_gate",
    "likeness": "content_similarity",
    "blaming": "config_errors",
    "blaming_storage": "storage_errors",
    "torn": "incomplete",
    "forgetting": "erasure",
    "todo": "track_scheduling",
    "Tried": "RecentAttempts",
    "_of": "build_asset",
    "carried": "stateful_modules",
    "sr": "sample_rate",
    "nfft": "n_fft",
    "hop_size": "hop_length",
    "fps": "frame_rate",
}
# They read what version 0.1 wrote, in whose words it is.
VERSION_0_1 = ("melodygan_core/maintenance/check/older.py", "melodygan_core/release/legacy.py")
# In prose, too.
PHRASES = (
    r"\bmend(s|ed|ing)?\b",
    r"\bblam(e|ing)\b",
    r"\bstretch(es)?\b",
    r"\bcritics?\b",
    r"\bthe leader\b",
    r"\bjudge(s|d)?\b",
    r"\bwander(s|ing)?\b",
)


def sources() -> list[Path]:
    """All Python files of both packages."""
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


@cache
def prose(path: Path) -> list[tuple[int, str]]:
    """Line and text of every comment and docstring."""
    text = path.read_text("utf-8")
    found = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            documentation = ast.get_docstring(node, clean=False)
            if documentation:
                found.append((getattr(node, "lineno", 1), documentation))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_replaced_identifiers_are_gone(package: str) -> None:
    left = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.relative_to(ROOT).as_posix() in VERSION_0_1:
            continue
        tokens = list(tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline))
        for before, token, after in zip([tokens[0], *tokens], tokens, [*tokens[1:], tokens[-1]], strict=False):
            # Attributes and parameters of libraries are not ours: socket.family, librosa's sr=.
            keyword = before.type == tokenize.NL and after.string == "="
            library = before.string == "." or (keyword and token.string == "sr")
            if token.type == tokenize.NAME and token.string in REPLACED and not library:
                instead = REPLACED[token.string]
                left.append(f"{path.relative_to(ROOT)}:{token.start[0]} {token.string} (say {instead})")
    assert not left, "\n".join(left)


@pytest.mark.parametrize("pattern", PHRASES)
def test_replaced_words_are_gone_from_prose(pattern: str) -> None:
    left = [
        f"{path.relative_to(ROOT)}:{line} {match[0]}"
        for path in sources()
        for line, text in prose(path)
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not left, "\n".join(left)
