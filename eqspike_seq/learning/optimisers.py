"""Optimisers by name."""

import inspect

import torch

KEPT = {"adam": ("step", "exp_avg", "exp_avg_sq"), "sgd": ()}  # by the optimiser, of each parameter
OPTIMIZERS = {  # their add_param_group would first import torch's compiler, which takes a second and is not used
    name: type(kind.__name__, (kind,), {"add_param_group": inspect.unwrap(kind.add_param_group)})
    for name, kind in (("adam", torch.optim.Adam), ("sgd", torch.optim.SGD))
}
