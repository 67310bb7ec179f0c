"""The comparison of cost tables with what others measured: its arithmetic by hand, and the spikes it hands over."""

from pathlib import Path

import pytest

from benchmarks import prices
from eqspike_seq.phases import Phase
from neuromorphic.pricing import price, read_table, total
from tests.conftest import command

LOIHI = read_table("loihi")


def test_keyword_spotter_by_hand() -> None:
    """390-256-256-29 for ten steps of 338 µs, each unit firing once: 172,800 synapses, 931 spikes, 5,410 updates."""
    ledger = prices.spiking_spotter(0.1)
    assert [ledger.total(kind) for kind in prices.KINDS] == [931, 390 * 256 + 256 * 256 + 256 * 29, 5410, 0]
    events = (172_800 * 23.6 + 931 * 8.7 + 5410 * 81) * 1e-12
    assert total(price(ledger, prices.without_static(LOIHI))).value == pytest.approx(events)
    found = total(price(ledger, prices.at_step(LOIHI, 338e-6)))
    assert found.value == pytest.approx(0.104 * 10 * 338e-6 + events)
    assert found.low > 0.104 * 10 * 338e-6  # power is not shared, as the low column of the table supposes
    assert total(price(prices.dense_spotter(), read_table("a100-peak"))).value == pytest.approx(
        (172_800 * 2.5642 + 541 * 5.1284) * 1e-12
    )


def test_branches_reach_what_the_larger_network_has_more() -> None:
    """Ten branches of ten layers: 1 + 9 + 1 matrices each, less the one that they replace."""
    assert prices.ADDED_FAN_OUT == (10 * 11 - 1) * 256**2
    assert prices.added_layers(1.0).total("synaptic_events") == 10 * prices.ADDED_FAN_OUT


def test_truenorth_by_hand() -> None:
    assert prices.truenorth().value == pytest.approx(2.3e-12 + 0.0644 / (2**20 * 20 * 128))


def test_figures_of_others_are_those_of_their_table() -> None:
    """Joules an inference as Blouw et al. print them."""
    printed = {"Quadro K4000": 0.0298, "Xeon E5-2630": 0.0063, "Jetson TX1": 0.0056, "Movidius NCS": 0.0015}
    for chip, joules in {**printed, "Loihi": 0.00027}.items():
        idle, running, speed = prices.TABLE1[chip]
        assert (running - idle) / speed == pytest.approx(joules, rel=0.03)
    assert [prices.verdict(ratio) for ratio in (0.81, 1.24, 0.51, 1.9, 0.4, 2.1)] == [
        "agrees",
        "agrees",
        "within 2 ×",
        "within 2 ×",
        "off",
        "off",
    ]


def test_joules_of_a_cpu_are_read_or_said_to_be_missing(tmp_path: Path) -> None:
    assert prices.joules_of_cpu(tmp_path / "none")[0] is None and prices.joules_of_cpu(tmp_path)[0] is None
    for package, microjoules in (("intel-rapl:0", 3_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 9)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "energy_uj").write_text(f"{microjoules}\n")
    assert prices.joules_of_cpu(tmp_path) == (3.5, "")  # packages, not their parts
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    joules, why = prices.joules_of_cpu(tmp_path)
    assert joules is None and "cannot be read" in why
    assert prices.on_this_cpu(0.0, tmp_path)["why"] == why


@pytest.mark.parametrize("neuron", ["if", "sigma-delta"])
def test_spikes_handed_over_are_those_of_the_ledger(neuron: str, finished: Path, tmp_path: Path) -> None:
    """Summed over units, steps and the neighbours that hear them; a rate code's s¹ only hears."""
    run = finished
    if neuron == "if":
        run = tmp_path / "run"
        command("run", "mini", "--backend", "spiking", "--limit", 40, "--epochs", 1, "--out", run)
    texts, ledger = prices.recorded(run, 2)
    spikes = reached = 0
    for text in texts:
        layers = text["layers"]
        assert (layers[0]["events"] is None) == (neuron == "if") == text["always"]
        for place, layer in enumerate(layers):
            sent = sum(times for step in layer["events"] or () for _, times in step)
            near = sum(layers[other]["units"] for other in (place - 1, place + 1) if 0 <= other < len(layers))
            spikes, reached = spikes + sent, reached + sent * near
    assert spikes == ledger.total("spikes") > 0 and reached == ledger.total("synaptic_events")
    assert ledger.samples == {Phase.FREE: 2}
    if neuron == "if":
        units = sum(layer["units"] for layer in texts[0]["layers"][1:])
        assert ledger.total("neuron_updates") == 2 * units * texts[0]["steps"]
