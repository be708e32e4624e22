"""Writes networks as ONNX, and compares what onnxruntime makes of them with torch."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melodygan_core.errors import MelodyGANError
from melodygan_core.export.graph import Graph
from melodygan_core.export.manifest import Network, Port
from melodygan_core.export.runtime.sessions import Session
from melodygan_core.storage import sha256_of

OPSET = 20
# Largest difference between onnxruntime and torch, in shares of the largest value where that is above 1.
MAX_ERROR = 1e-4
# Lengths that are compared, in units of the graph above the shortest.
LENGTHS = (0, 5, 29)
# The length that the graph is traced with is none of those.
_TRACED = 11


def write_network(graph: Graph, folder: Path) -> Network:
    """Writes `<name>.onnx` and returns its entry of the manifest.

    Args:
        graph: On the CPU.
        folder: Exists.

    Raises:
        MelodyGANError: onnxruntime makes something else of it than torch.
    """
    path = folder / f"{graph.name}.onnx"
    _export(graph, path)
    network = Network(
        name=graph.name,
        file=path.name,
        sha256=sha256_of(path),
        inputs=tuple(Port(name=name, shape=shape) for name, shape in graph.inputs.items()),
        outputs=tuple(Port(name=name, shape=shape) for name, shape in graph.outputs.items()),
        max_error=0.0,
    )
    session = Session(folder, network, threads=1)
    error = max(_error(graph, session, graph.fewest + more) for more in LENGTHS)
    if not error <= MAX_ERROR:
        raise MelodyGANError(
            f"error of {path.name} must be at most {MAX_ERROR:g} beside torch, got {error:g}: this version of"
            " torch or onnxruntime computes something else"
        )
    return network.model_copy(update={"max_error": error})


def _export(graph: Graph, path: Path) -> None:
    units = torch.export.Dim("units", min=graph.fewest)
    # A unit of one is the length itself.
    length = units if graph.unit == 1 else graph.unit * units
    shapes = tuple(
        {axis: length for axis, size in enumerate(axes) if isinstance(size, str)}
        for axes in graph.inputs.values()
    )
    with warnings.catch_warnings(), torch.no_grad():
        # Of the exporter's own deprecations.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            graph.module.eval(),
            graph.example(graph.fewest + _TRACED),
            path,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@torch.no_grad()
def _error(graph: Graph, session: Session, units: int) -> float:
    """Largest difference at a length, in shares of the largest value where that is above 1."""
    given = graph.example(units, seed=units)
    expected = graph.module(*given)
    expected = (expected,) if isinstance(expected, Tensor) else expected
    found = session(*(value.numpy() for value in given))
    errors = []
    for one, other in zip(expected, found, strict=True):
        scale = max(1.0, float(one.abs().max()))
        errors.append(float(np.abs(one.numpy() - other).max()) / scale if one.shape == other.shape else np.inf)
    return max(errors)
