"""``eqspike run``: train and test a network on a data set."""

from eqspike.flags import parse_run
from eqspike_seq.learning.parallel import join
from eqspike_seq.progress import Reporter


def main(arguments: list[str]) -> None:
    """``eqspike run DATASET [--flags]``, in one process or in each of several that torchrun has started."""
    from eqspike.build import run

    job = join()
    config = job.first(parse_run, arguments)
    reporter = Reporter(quiet=job.rank > 0)
    with job.stoppable():
        reporter.result(run(config, reporter, job))
    job.leave()
