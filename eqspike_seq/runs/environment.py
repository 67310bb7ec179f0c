"""Where a run happens: versions, machine, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "eqspike",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "snntorch",
    "brian2",
    "gensim",
    "matplotlib",
    "safetensors",
    "pyarrow",
)


def environment() -> dict[str, Any]:
    """Versions and machine, as ``environment.json`` and ``eqspike env`` show them."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "commit": git_commit(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.processor())),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def git_commit() -> str | None:
    """The commit of a source checkout, with -dirty where files differ from it; None for an installed package."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
