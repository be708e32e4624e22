"""ONNX files of half the size: weights in half precision, widened when the network is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Smaller tensors, such as norms and scales, stay as they are.
_FEWEST_VALUES = 4096
# Largest value of half precision.
_MAX_HALF = 65504.0


def halve(path: Path) -> None:
    """Rewrites a network with its large weights in half precision and a `Cast` behind each.

    onnxruntime folds the casts when it loads the network, so that all products stay in single precision.

    Args:
        path: Of the ONNX file, which is replaced.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _FEWEST_VALUES or np.abs(values).max() > _MAX_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, path)
