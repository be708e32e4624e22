"""A second device for tests without a GPU: it computes on the CPU and refuses what a GPU refuses.

Its tensors report the device `cpu:1`. Like a GPU it refuses operations on tensors of two devices; optionally,
like Apple's GPUs, float64 as well. Autograd, optimizers and whole trainings run on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cpu", 1)
# Copies and lookups work across devices. A scalar of the CPU goes with any tensor, but not into a stack.
_ACROSS = {"aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put_"}
_NO_SCALARS = {"aten::stack", "aten::cat"}


class _OnDevice(Tensor):
    """A tensor on the second device; `plain` is its copy on the CPU."""

    plain: Tensor
    float64: ClassVar[bool] = True
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyrefly: ignore[bad-override]

    @staticmethod
    def __new__(cls, values: Tensor) -> _OnDevice:
        if values.dtype in (torch.float64, torch.complex128) and not _OnDevice.float64:
            raise TypeError(f"{DEVICE} has no {values.dtype}, like MPS")
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )

    def __init__(self, values: Tensor) -> None:
        self.plain = values

    @classmethod
    def __torch_dispatch__(  # pyrefly: ignore[bad-override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Operations that name the device, such as `torch.zeros(2, device=DEVICE)` and `tensor.to(DEVICE)`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name = func._schema.name
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    here = [t for t in tensors if isinstance(t, _OnDevice)]
    elsewhere = [t for t in tensors if not isinstance(t, _OnDevice) and (t.ndim > 0 or name in _NO_SCALARS)]
    if here and elsewhere and name not in _ACROSS and str(func) not in _ACROSS:
        raise RuntimeError(f"{func}: expected all tensors on one device, got {DEVICE} and cpu")
    target = kwargs.get("device")
    on_cpu = dict(kwargs, device=torch.device("cpu")) if target is not None else kwargs
    plain_args, plain_kwargs = tree_map(lambda x: x.plain if isinstance(x, _OnDevice) else x, (args, on_cpu))
    out = func(*plain_args, **plain_kwargs)
    if torch.Tag.inplace_view in func.tags and isinstance(args[0], _OnDevice):
        # Changes shape or strides of the outer tensor, too.
        with no_dispatch():
            func(*args, **kwargs)
    if here and func._schema.is_mutable and isinstance(args[0], Tensor):
        return args[0]
    on_device = bool(here) if target is None else torch.device(target) == DEVICE
    wrap = on_device and name != "aten::_local_scalar_dense"
    return tree_map(lambda x: _OnDevice(x) if wrap and isinstance(x, Tensor) else x, out)


@contextmanager
def second_device(*, float64: bool = True) -> Iterator[torch.device]:
    """Provides the second device.

    Args:
        float64: Whether it has float64.
    """
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    # A module's parameters become tensors of another class.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    _OnDevice.float64 = float64
    try:
        with _Factories():
            yield DEVICE
    finally:
        _OnDevice.float64 = True
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
