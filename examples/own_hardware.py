"""Price a run on your own hardware. The cost table here is one that comes with eqspike, with a single price changed.

python examples/own_hardware.py [RUN]

Without RUN, the script uses the recorded IMDB run with sigma-delta neurons. The price of a spike is invented.
"""

import sys
from pathlib import Path

from analysis.folders import open_run
from neuromorphic.pricing import Constant, CostTable, price, read_table, total

RUN = Path(__file__).parent.parent / "results" / "imdb-sigma-delta-seed0"


def my_chip() -> CostTable:
    """45 nm digital hardware with int8 words, whose spikes cross a slow link."""
    base = read_table("horowitz-45nm-int8")
    spike = Constant(value=80, low=20, high=200, unit="pJ", label="modelled", source="invented")
    return base.model_copy(update={"title": "My chip", "prices": {**base.prices, "spikes": spike}})


def main(folder: Path = RUN) -> None:
    ledgers = open_run(folder).ledgers
    for table in (read_table("horowitz-45nm-int8"), my_chip()):
        print(table.title)
        for name, ledger in (("an inference", ledgers.inference), ("a training sample", ledgers.training)):
            joules = total(price(ledger, table)) / ledger.samples["free"]
            print(f"  {name}: {1e6 * joules.value:.1f} µJ ({1e6 * joules.low:.1f} to {1e6 * joules.high:.1f})")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
