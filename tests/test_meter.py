"""The energy counters of a made-up machine."""

from pathlib import Path

from eqspike_seq.meter import Meter


def machine(place: Path, *microjoules: int) -> None:
    for number, value in enumerate(microjoules):
        package = place / f"intel-rapl:{number}"
        (package / f"intel-rapl:{number}:0").mkdir(parents=True, exist_ok=True)
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("10000000\n")
        part = place / f"intel-rapl:{number}:0"  # a core domain: within the package
        part.mkdir(exist_ok=True)
        (part / "energy_uj").write_text("123\n")


def test_packages_are_added_and_a_counter_may_begin_again(tmp_path: Path) -> None:
    machine(tmp_path, 1_000_000, 9_000_000)
    meter = Meter.begin("cpu", tmp_path)
    assert meter.source == "RAPL packages" and meter.joules(tmp_path) == 0
    machine(tmp_path, 3_500_000, 1_000_000)
    assert meter.joules(tmp_path) == 2.5 + 2.0


def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert Meter.begin("cpu", tmp_path).joules(tmp_path) is None
    machine(tmp_path, 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("no number")
    assert Meter.begin("cpu", tmp_path).joules(tmp_path) is None
    assert Meter.begin("cuda").joules() is None or Meter.begin("cuda").source == "NVML total energy"
