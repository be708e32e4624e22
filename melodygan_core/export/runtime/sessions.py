"""ONNX networks as functions of arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melodygan_core.config import require
from melodygan_core.errors import InputError
from melodygan_core.export.manifest import Network, Port


class Session:
    """One network on the CPU, called with its inputs in the order of the manifest.

    Args:
        folder: Of the export.
        network: Its entry in the manifest, whose hash was checked.
        threads: Of onnxruntime; 0 for one per core.

    Raises:
        InputError: onnxruntime cannot read the file, or its inputs and outputs are not those of the manifest.
    """

    def __init__(self, folder: Path, network: Network, threads: int = 0) -> None:
        import onnxruntime

        path, options = folder / network.file, onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Errors are raised; warnings about the graph are of no use to the user of a release.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        # Its own exceptions have no base class but Exception.
        except Exception as error:
            raise InputError(f"{path} must be an ONNX network: {_reason(error)}") from error
        self._path, self._inputs, self._outputs = path, _names(network.inputs), _names(network.outputs)
        for what, expected, found in (
            ("inputs", self._inputs, self._session.get_inputs()),
            ("outputs", self._outputs, self._session.get_outputs()),
        ):
            names = [value.name for value in found]
            require(sorted(names) == sorted(expected), f"{what} of {path}", names, ", ".join(expected))

    def __call__(self, *values: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs, float32, in the order of the manifest.

        Raises:
            InputError: the network does not take values of these shapes.
        """
        given = dict(zip(self._inputs, values, strict=True))
        try:
            return [np.asarray(value) for value in self._session.run(self._outputs, given)]
        except Exception as error:
            raise InputError(f"{self._path} must fit its manifest: {_reason(error)}") from error


def _names(ports: tuple[Port, ...]) -> list[str]:
    return [port.name for port in ports]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
