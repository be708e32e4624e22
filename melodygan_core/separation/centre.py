"""`centre`, the built-in baseline: a Wiener filter for the signal that both channels share, without weights.

It needs no download. The voice of most recordings is in the centre; so are most of the bass and drums, which
the filter keeps as well. It is a baseline for offline use and tests, not a substitute for a trained network.

Derivation. One STFT bin is L = V + A, R = V + B: a voice V, the same in both channels, and
instruments A and B that are not correlated with it or with each other. With P_L, P_R and C = Re(L R*) averaged
over neighbouring frames, the powers are v = C, a = P_L - C, b = P_R - C. L and R are then two observations of V
with noise a and b, and the linear estimate of least mean square error is

    V = v (b L + a R) / (a b + v (a + b)).

Where an instrument plays on the left only, b is about 0 and V becomes R, while a mask on (L + R) / 2 would
leave half of the instrument. Everything except the average is elementwise, so the graph runs on any provider.

Measured through audio-separator on demo songs 1, 5 and 6, 8 s each (tests/core/test_separation.py prints it):
gain of the vocals' SI-SDR over the mix, mean (lowest). Instruments hard-panned 13.0 dB (12.6), panned 70/30
5.5 dB (5.5), hard-panned with the bass in the centre 6.5 dB (5.8). A mask on the similarity of the channels,
2 C / (P_L + P_R), gave 2.4, 2.6 and 0.7 dB less.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL_FILE = "centre.onnx"
N_FFT = 4096
HOP_LENGTH = 1024
# All bins but Nyquist's; 256 frames a segment.
DIM_F = N_FFT // 2
DIM_T_POWER = 8
# Below these, the centre holds bass and kick and no voice. The weight rises from 0 to 1 between the two.
LOW_HZ = (60.0, 120.0)
FRAMES = 5
# Added to a and b, relative to P_L + P_R. Without it a mono mix gives 0 / 0; a larger value attenuates what the
# channels share only in part. A mono mix is scaled by 1 / (1 + FLOOR), which the weights undo.
FLOOR = 0.1
SILENCE = 1e-9

# Outputs, operator, inputs.
_NODES = (
    ("l_re l_im r_re r_im", "Split", "input"),
    ("l_re2", "Mul", "l_re l_re"),
    ("l_im2", "Mul", "l_im l_im"),
    ("p_l", "Add", "l_re2 l_im2"),
    ("r_re2", "Mul", "r_re r_re"),
    ("r_im2", "Mul", "r_im r_im"),
    ("p_r", "Add", "r_re2 r_im2"),
    ("lr_re", "Mul", "l_re r_re"),
    ("lr_im", "Mul", "l_im r_im"),
    ("c", "Add", "lr_re lr_im"),
    ("powers", "Concat", "p_l p_r c"),
    ("averaged", "AveragePool", "powers"),
    ("mean_p_l mean_p_r mean_c", "Split", "averaged"),
    # Relative to the total power, so that the products below fit float32 at any level.
    ("total", "Add", "mean_p_l mean_p_r"),
    ("divisor", "Add", "total silence"),
    ("in_l", "Div", "mean_p_l divisor"),
    ("in_r", "Div", "mean_p_r divisor"),
    ("correlated", "Div", "mean_c divisor"),
    ("in_both", "Min", "correlated in_l in_r"),
    ("v", "Relu", "in_both"),
    ("above_v_l", "Sub", "in_l v"),
    ("a", "Add", "above_v_l floor"),
    ("above_v_r", "Sub", "in_r v"),
    ("b", "Add", "above_v_r floor"),
    # v / (a b + v (a + b)), and the voice's band.
    ("ab", "Mul", "a b"),
    ("a_plus_b", "Add", "a b"),
    ("v_a_plus_b", "Mul", "v a_plus_b"),
    ("denominator", "Add", "ab v_a_plus_b"),
    ("ratio", "Div", "v denominator"),
    ("gain", "Mul", "ratio weights"),
    # (b L + a R) gain
    ("bl_re", "Mul", "b l_re"),
    ("ar_re", "Mul", "a r_re"),
    ("sum_re", "Add", "bl_re ar_re"),
    ("voice_re", "Mul", "sum_re gain"),
    ("bl_im", "Mul", "b l_im"),
    ("ar_im", "Mul", "a r_im"),
    ("sum_im", "Add", "bl_im ar_im"),
    ("voice_im", "Mul", "sum_im gain"),
    ("output", "Concat", "voice_re voice_im voice_re voice_im"),
)
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Split": {"axis": 1},
    "Concat": {"axis": 1},
    "AveragePool": {"kernel_shape": [1, FRAMES], "pads": [0, FRAMES // 2] * 2, "count_include_pad": 0},
}


def separator_parameters() -> dict[str, Any]:
    """Returns audio-separator's `mdx_params` for this graph.

    audio-separator runs a graph in onnxruntime only if the segment size equals that of the model. An overlap of
    a tenth is enough for a filter of five frames, and a fifth faster than the default of a quarter.
    """
    return {"hop_length": HOP_LENGTH, "segment_size": 2**DIM_T_POWER, "overlap": 0.1}


def _weights() -> NDArray[np.float32]:
    # The weight of each bin (1, 1, DIM_F, 1) at 44.1 kHz.
    low_hz, high_hz = LOW_HZ
    bins_hz = np.arange(DIM_F) * 44_100 / N_FFT
    weights = (1 + FLOOR) * np.clip((bins_hz - low_hz) / (high_hz - low_hz), 0, 1)
    return weights.astype(np.float32).reshape(1, 1, -1, 1)


def graph() -> bytes:
    """Returns the ONNX file; input and output are float32 (batch, 4, DIM_F, frames): L.re, L.im, R.re, R.im."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "weights": _weights(),
        "floor": np.array([FLOOR], np.float32),
        "silence": np.array([SILENCE], np.float32),
    }
    shape = ["batch", 4, DIM_F, "frames"]
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node(operator, inputs.split(), outputs.split(), **_ATTRIBUTES.get(operator, {}))
                for outputs, operator, inputs in _NODES
            ],
            "centre",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        # Both onnxruntime and onnx2torch (audio-separator's other backend) read this version.
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
        producer_name="melodygan",
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def files() -> dict[str, bytes]:
    """Returns the files of the model folder for audio-separator by name; the same bytes every time."""
    model = graph()
    # audio-separator looks up the parameters of a model by the MD5 of its file.
    parameters = {
        "compensate": 1.0,
        "mdx_dim_f_set": DIM_F,
        "mdx_dim_t_set": DIM_T_POWER,
        "mdx_n_fft_scale_set": N_FFT,
        "primary_stem": "Vocals",
    }
    lists: dict[str, Any] = {f"{name}_download_list": {} for name in ("demucs", "vr", "mdx23c", "roformer")}
    lists |= {"mdx_download_list": {"centre": MODEL_FILE}, "mdx_download_vip_list": {}}
    lists |= {"mdx23c_download_vip_list": {}}
    tables = {
        "download_checks.json": lists,
        "mdx_model_data.json": {hashlib.md5(model, usedforsecurity=False).hexdigest(): parameters},
        "vr_model_data.json": {},
    }
    texts = {name: json.dumps(table, indent=2, sort_keys=True).encode() for name, table in tables.items()}
    return {MODEL_FILE: model} | texts


def write_model(parent: Path) -> Path:
    """Returns a folder below `parent` with the model and its tables; writes it unless it exists.

    Its name contains the hash of its content, so that each version has a folder of its own.
    """
    content = files()
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(name.encode() + content[name])
    folder = parent / f"centre-{digest.hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    temporary = parent / f".{uuid.uuid4().hex[:8]}-{folder.name}"
    temporary.mkdir(parents=True)
    try:
        for name, data in content.items():
            (temporary / name).write_bytes(data)
        temporary.replace(folder)
    except OSError:
        # Another process has written the same folder.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
