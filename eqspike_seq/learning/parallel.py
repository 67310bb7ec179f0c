"""Several processes, one run: each relaxes its share of every batch, and gradients are averaged over all of them.

torchrun starts the processes and tells them of each other. The first of them (rank 0) reads, writes and prints.
"""

import atexit
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from eqspike_seq.errors import ConfigError, EqspikeError, RunError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(days=2)  # how long to wait for a living process, as while the first one reads the test split


Made = TypeVar("Made")
Added = TypeVar("Added")  # what adds up: windows, ledgers


@dataclass(frozen=True)
class Job:
    """This process's place, ``rank``, among the ``size`` processes of a run.

    All of them call the same methods in the same order. Where one has ended, the others raise RunError.
    """

    rank: int = 0
    size: int = 1

    def share(self, rows: int) -> slice:
        """This process's part of a batch of ``rows`` texts: even shares, in order; maybe none, but for the first."""
        start, stop = (math.ceil(rows * rank / self.size) for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def seed(self, seed: int) -> int:
        """A seed of this process's own, made from that of the whole batch."""
        import numpy as np

        return seed if self.size == 1 else int(np.random.default_rng([seed, self.rank]).integers(2**62))

    def mean(self, gradients: "dict[str, Tensor]", weight: float) -> "dict[str, Tensor]":
        """The mean of all processes' ``gradients``, with their ``weight`` (which add up to 1); the same bits in all.

        Of sparse ones the rows that any process has are exchanged, over gloo: nccl has no sum of them.
        """
        if self.size == 1:
            return gradients
        import torch.distributed as dist

        found = {name: weight * gradient for name, gradient in gradients.items()}
        found = {name: each.coalesce().cpu() if each.is_sparse else each.contiguous() for name, each in found.items()}
        self.agree(False)  # over gloo: nccl would wait for a process that has ended, gloo notices
        with _together():
            for work in [dist.all_reduce(gradient, async_op=True) for gradient in found.values()]:
                work.wait()
        summed = {name: each.coalesce() if each.is_sparse else each for name, each in found.items()}
        return {name: each.to(gradients[name].device) for name, each in summed.items()}

    def total(self, mine: Added) -> Added:
        """The sum of every process's ``mine`` in the first process; the others get theirs back."""
        if self.size == 1:
            return mine
        import torch.distributed as dist

        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _together():
            dist.gather_object(mine, gathered)
        if gathered is None:
            return mine
        whole, *others = gathered
        for other in others:
            whole += other
        return whole

    def agree(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        if self.size == 1:
            return flag
        import torch
        import torch.distributed as dist

        flags = torch.tensor([int(flag)])
        with _together():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def first(self, make: Callable[..., Made], *arguments: Any) -> Made:
        """What ``make`` gives in the first process, in every process.

        Where it ends in an error there, the others, which need not repeat it, exit with 2 (or as it says).
        """
        if self.size == 1:
            return make(*arguments)
        import torch.distributed as dist

        box: list[Any] = [None, None]
        error: BaseException | None = None
        if self.rank == 0:
            try:
                box = [make(*arguments), None]
            except (EqspikeError, SystemExit) as caught:
                error = caught
                box = [None, int(caught.code or 0) if isinstance(caught, SystemExit) else 2]
                _end_with(box[1])
        with _together():
            dist.broadcast_object_list(box)
        made, code = box
        if error is not None:
            raise error
        if code is not None:
            _end_with(code)
            raise SystemExit(code)
        return made  # type: ignore[no-any-return]

    def take_device(self, name: str) -> None:
        """With cuda, the device of this process's number on its machine becomes the current one."""
        if name != "cuda" or self.size == 1:
            return
        import torch

        number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= there:
            raise ConfigError(
                f"--device cuda: process {number + 1} of this machine finds {there} devices, expected one for each "
                "process. Give torchrun a smaller --nproc-per-node."
            )
        torch.cuda.set_device(number)

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Ctrl-C, which all have agreed on, ends every process with 130; the first one alone has more to say."""
        try:
            yield
        except KeyboardInterrupt:
            self.leave(130)
            if self.rank == 0:
                raise
            sys.exit(130)

    def leave(self, code: int = 0) -> None:
        """The end of a run, agreed by all; the process is about to exit with ``code``."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()
            dist.destroy_process_group()
            _end_with(code)


ALONE = Job()


def join() -> Job:
    """The job that torchrun started this process for; ALONE where nobody did. Raises RunError."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if "TORCHELASTIC_RUN_ID" not in os.environ or size == 1:
        return ALONE
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except RuntimeError as error:
        raise RunError(f"the processes of this job cannot reach each other: {error}") from error
    return Job(int(os.environ["RANK"]), size)


@contextmanager
def _together() -> Iterator[None]:
    """Raises RunError where another process has ended meanwhile."""
    try:
        yield
    except RuntimeError as error:
        _end_with(2)
        raise RunError(
            f"process {os.environ.get('RANK')} of the job: another one has ended (killed, out of memory, or with the "
            "error above), so the run ends here. The last checkpoint is kept: continue with the same command and "
            "--resume auto."
        ) from error


def _end_with(code: int) -> None:
    """This process is about to end: nothing shall keep it from its message and its exit code.

    torchrun terminates all processes as soon as one has failed; threads of gloo and nccl may abort or hang at the end.
    """

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    atexit.register(end)
