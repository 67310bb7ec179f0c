"""The energy counters of a made-up machine."""

from pathlib import Path

from eqspike_seq.meter import Meter


def machine(place: Path, **microjoules: int) -> None:
    for number, (name, value) in enumerate(microjoules.items()):
        package = place / f"intel-rapl:{number}"
        package.mkdir(exist_ok=True)
        (package / "name").write_text(f"{name}\n")
        (package / "energy_uj").write_text(f"{value}\n")
        (package / "max_energy_range_uj").write_text("10000000\n")


def test_packages_are_added_and_a_counter_may_begin_again(tmp_path: Path) -> None:
    machine(tmp_path, package0=1_000_000, package1=9_000_000, core=5, psys=7)
    meter = Meter.begin("cpu", tmp_path)
    assert meter.source == "RAPL packages" and meter.read() == 0
    machine(tmp_path, package0=3_500_000, package1=1_000_000, core=500_000, psys=9_000_000)
    assert meter.read() == 2.5 + 2.0
    assert meter.read() == 0  # since the last reading


def test_where_nothing_can_be_read_nothing_is_said(tmp_path: Path) -> None:
    assert Meter.begin("cpu", tmp_path).read() is None
    machine(tmp_path, package0=1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("no number")
    assert Meter.begin("cpu", tmp_path).read() is None
    assert Meter.begin("cuda").source in (None, "NVML")
