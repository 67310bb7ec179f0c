"""Commands of an installed eqspike, where nothing can be reached: ``PYTHONPATH=SITE python -P tests/offline.py``.

SITE is the folder that it was installed into. What is written comes into the working directory. The last line printed
is JSON: ``asked``, what Python's sockets were to reach, and ``files``, where the modules of eqspike came from.
"""

import json
import os
import shlex
import socket
import sys
from typing import Any

COMMANDS = (
    "run mini --backend spiking --limit 100 --epochs 1 --out run",
    'predict run "a dull film"',
    "energy run",
    "report run --out report.html",
    "table 1 run",
    "export run --format nir --out run.nir",
    "export run --format safetensors --out run.safetensors",
    "data",
    "env",
)
PACKAGES = ("eqspike", "eqspike_seq", "neuromorphic", "analysis")
SENDS = ("socket.connect", "socket.sendto", "socket.sendmsg")
LOOKS_UP = ("socket.getaddrinfo", "socket.gethostbyname")
asked: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that notes and forbids what would leave the machine; addresses that are paths stay inside it."""
    if event in LOOKS_UP or (event in SENDS and isinstance(arguments[1], tuple)):
        asked.append(f"{event} {arguments}")
        raise OSError("nothing can be reached here")


def main() -> None:
    """See above."""
    sys.addaudithook(watch)
    try:
        socket.create_connection(("localhost", 9))
    except OSError:
        assert asked, "the hook does not see what it should"
    asked.clear()

    import analysis  # noqa: F401
    import neuromorphic  # noqa: F401
    from eqspike import EqSpikeClassifier
    from eqspike.cli import main as eqspike

    assert EqSpikeClassifier
    for command in COMMANDS:
        sys.argv = ["eqspike", *shlex.split(command)]
        eqspike()
    files = [module.__file__ for name, module in list(sys.modules.items()) if name.split(".")[0] in PACKAGES]
    print(json.dumps({"asked": asked, "files": [os.path.realpath(file) for file in files if file]}))


if __name__ == "__main__":
    main()
