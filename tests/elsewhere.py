"""A device that there is none of: tensors that say they are on cuda, hold their numbers on the processor, and refuse to
be mixed with tensors that are on the processor, as those of a real device do.

    with Elsewhere():
        x = torch.zeros(3).to("cuda")        # or torch.zeros(3, device="cuda")
        x + torch.ones(3)                    # raises TypeError
        x.numpy()                            # raises TypeError
        x.cpu().numpy()                      # array([0., 0., 0.])

So whatever runs on a device runs here without one, with real numbers, and a tensor that is made in the wrong place is
found. Kernels, streams and memory of a device are not tested.
"""

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
WHOLE = (F.one_hot,)  # makes a tensor in C++ where it believes the other one to be


class Remote(torch.Tensor):
    """Says it is on ``CUDA``; ``held`` is on the processor."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Remote":
        strides: dict[str, Any] = {}
        if held.layout == torch.strided:
            strides = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made: Remote = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), dtype=held.dtype, layout=held.layout, **strides
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it says it is; torch's own code in C++, which would look for a driver, is not told."""
        return CUDA

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in WHOLE:
            return carried_out(func, args, kwargs)
        if func is torch.Tensor.numpy:
            raise TypeError(f"numpy: got a tensor on {CUDA}")
        if func is torch.Tensor.tolist:
            return args[0].held.tolist()
        if func is torch.Tensor.cpu:
            return args[0].held.clone()
        if func is torch.Tensor.to:
            return moved(*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Also tensors that are made on cuda, or moved there. Torch is kept from looking for a driver."""

    def __enter__(self) -> "Elsewhere":
        tensor = torch.tensor  # takes numbers of Python to a device in C++

        def made(data: Any, *, device: Any = None, **named: Any) -> torch.Tensor:
            found = tensor(data, **named)
            return found if device is None else moved(found, device)

        self.patched = ExitStack()
        self.patched.enter_context(patch.object(torch.cuda, "_lazy_init", lambda: None))
        self.patched.enter_context(patch.object(torch, "tensor", made))
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.patched.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(func, args, kwargs or {})


def moved(tensor: torch.Tensor, target: Any, *others: Any, **named: Any) -> torch.Tensor:
    """``tensor.to(target, …)``, where one of both says it is on ``CUDA``."""
    held = tensor.held if isinstance(tensor, Remote) else tensor
    there = isinstance(tensor, Remote)
    if isinstance(target, torch.Tensor):
        there = isinstance(target, Remote)
        target = target.dtype
    elif isinstance(target, torch.device | str):
        there = torch.device(target).type == CUDA.type
        target = torch.device("cpu")
    found = held.to(target, *others, **named)
    if there == isinstance(tensor, Remote):
        return tensor if found is held else Remote(found) if there else found
    return Remote(found.clone()) if there else found.clone()


def carried_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """``func`` on what the tensors hold. Raises TypeError where they are on two devices."""
    given = tree_leaves((args, kwargs))
    remote = [each for each in given if isinstance(each, Remote)]
    local = [each for each in given if isinstance(each, torch.Tensor) and not isinstance(each, Remote) and each.dim()]
    kind = getattr(func, "overloadpacket", func)
    moving = kind in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
    indexing = kind in (torch.ops.aten.index, torch.ops.aten.index_put_)  # by places on the processor too
    if remote and local and not moving and not (indexing and isinstance(args[0], Remote)):
        raise TypeError(f"{func}: got tensors on {CUDA} and on cpu, {[tuple(each.shape) for each in local]}")
    device = kwargs.get("device")
    asked = device is not None and torch.device(device).type == CUDA.type
    if asked and isinstance(kwargs.get("generator"), torch.Generator):
        raise TypeError(f"{func}: got a generator of cpu for a tensor on {CUDA}")
    there = asked or bool(remote)  # code in C++ names the processor for what it makes beside a tensor
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        raise TypeError(f"{func}: pinned memory")
    mine, named = tree_map(lambda each: each.held if isinstance(each, Remote) else each, (args, kwargs))
    found = func(*mine, **named)
    if asked and found is mine[0]:
        found = found.clone()
    known = {id(each.held): each for each in remote}  # in-place: the same tensor comes back

    def wrapped(each: Any) -> Any:
        if not isinstance(each, torch.Tensor) or not there:
            return each
        same = known.get(id(each))
        return Remote(each) if same is None else same

    return tree_map(wrapped, found)
