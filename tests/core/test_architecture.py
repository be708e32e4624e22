"""Rules about the source that no linter checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import melodygan_core
from melodygan_core.config import registry
from melodygan_core.vocoder import FlowVocoder, GriffinLim, NeuralVocoder

ROOT = Path(melodygan_core.__file__).parents[1]
PACKAGES = ("melodygan_core", "melodygan_dagster", "melodygan_web")


def concrete_names() -> dict[str, str]:
    """Name of each concrete codec, prior, vocoder and config to the folder that may ask for it."""
    names = {}
    for codec in registry.codec_names():
        component = registry.codec_component(codec)
        folder = f"melodygan_core/codec/{codec}/"
        names |= {component.config.__name__: folder, component.load().model.__name__: folder}
    for codec, prior in registry.prior_names():
        component = registry.prior_component(codec, prior)
        folder = f"melodygan_core/prior/{prior}/"
        names |= {component.config.__name__: folder, component.load().model.__name__: folder}
    vocoders = [vocoder.__name__ for vocoder in (GriffinLim, NeuralVocoder, FlowVocoder)]
    configs = ("GriffinLimConfig", "VocoderConfig", "FlowVocoderConfig")
    return names | dict.fromkeys((*vocoders, *configs), "melodygan_core/vocoder/")


def type_checks(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Line and names of every `isinstance`, `issubclass`, `type(x) is C` and `case C()`."""
    for node in ast.walk(tree):
        classes: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("isinstance", "issubclass"):
                classes = node.args[1:]
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node):
            classes = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            classes = [node.cls]
        inside = [part for c in classes for part in ast.walk(c)]
        names = {part.id for part in inside if isinstance(part, ast.Name)}
        names |= {part.attr for part in inside if isinstance(part, ast.Attribute)}
        if names:
            yield getattr(node, "lineno", 0), names


def violations(source: str, path: str, concrete: dict[str, str]) -> list[str]:
    """Type checks of a file for a concrete class of another package."""
    return [
        f"{path}:{line}: {name}"
        for line, names in type_checks(ast.parse(source))
        for name in sorted(names & set(concrete))
        if not path.startswith(concrete[name])
    ]


def sources() -> Iterator[tuple[str, str]]:
    """Path and text of every module of the packages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def test_the_concrete_classes_are_known() -> None:
    assert {
        "DenseCodec",
        "TemporalCodec",
        "DenseGan",
        "TemporalGan",
        "TemporalFlow",
        "NeuralVocoder",
        "FlowVocoder",
        "GriffinLim",
        "DenseCodecConfig",
        "TemporalCodecConfig",
        "DenseGanConfig",
        "TemporalGanConfig",
        "TemporalFlowConfig",
    } <= set(concrete_names())


def test_nothing_asks_which_codec_prior_or_vocoder_it_was_given() -> None:
    concrete = concrete_names()
    assert len(list(sources())) > 100
    found = [v for path, source in sources() for v in violations(source, path, concrete)]
    assert found == []


def reads_environment(source: str) -> bool:
    """Whether a file uses `os.environ` or `os.getenv` other than to set a variable."""
    tree = ast.parse(source)
    setting = {
        id(target.value if isinstance(target, ast.Subscript) else target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    }
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")]
    return any(id(node) not in setting for node in used)


def test_one_module_reads_the_environment() -> None:
    reading = {path for path, source in sources() if reads_environment(source)}
    # The sandbox hands PATH, the locale and certificates on to its children; it reads no setting.
    assert {p for p in reading if not p.startswith("melodygan_core/sandbox/")} == {"melodygan_core/settings.py"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("os.environ.get('A')", True),
        ("os.environ['A']", True),
        ("os.getenv('A')", True),
        ("a = os.environ['A']", True),
        ("os.environ['A'] = 'b'", False),
        ("os.environ |= {'A': 'b'}", False),
    ],
)
def test_reading_the_environment_is_found(source: str, expected: bool) -> None:
    assert reads_environment(source) is expected


def test_only_the_command_lines_name_options() -> None:
    found = []
    for path, source in sources():
        for node in ast.walk(ast.parse(source)):
            text = node.value if isinstance(node, ast.Constant) else None
            # An error names a field; the command line turns it into the option that sets it.
            named = re.search(r"^--[a-z][a-z-]+( must |$)", text) if isinstance(text, str) else None
            # The UI starts Dagster's own commands.
            if named and (named[1] or ("/cli/" not in path and path != "melodygan_dagster/ui.py")):
                found.append(f"{path}: {text}")
    assert found == []


@pytest.mark.parametrize(
    ("source", "path", "expected"),
    [
        ("isinstance(x, DenseCodec)", "melodygan_core/pipeline.py", 1),
        ("isinstance(x, (int, codec.DenseCodec))", "melodygan_core/pipeline.py", 1),
        ("isinstance(x, DenseCodec | TemporalGan)", "melodygan_core/pipeline.py", 2),
        ("issubclass(x, TemporalGanConfig)", "melodygan_core/prior/train.py", 1),
        ("type(x) is NeuralVocoder", "melodygan_core/release/load.py", 1),
        ("match x:\n  case GriffinLim():\n    pass", "melodygan_dagster/ui.py", 1),
        ("isinstance(x, DenseCodec)", "melodygan_core/codec/dense/task.py", 0),
        ("isinstance(x, DenseCodec)", "melodygan_core/codec/temporal/task.py", 1),
        ("isinstance(x, Codec); DenseCodec(x)", "melodygan_core/pipeline.py", 0),
    ],
)
def test_a_type_check_of_a_concrete_class_is_found(source: str, path: str, expected: int) -> None:
    assert len(violations(source, path, concrete_names())) == expected
