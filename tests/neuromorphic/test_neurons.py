import math

import pytest
import torch

from neuromorphic.neurons import (
    Bernoulli,
    IntegrateAndFire,
    LeakyIntegrateAndFire,
    Membrane,
    Neuron,
    Noise,
    send_dithered,
    send_on_change,
)


def run(neuron: Neuron, u: torch.Tensor, steps: int, state: Membrane | None = None) -> tuple[torch.Tensor, Membrane]:
    """Spikes (steps, …) and the last state under a constant u."""
    state, fired = state or neuron.rest(u), []
    noise = Noise(0, neuron.stochastic)
    for _ in range(steps):
        uniform = noise.draw(u.unsqueeze(0).unsqueeze(0))
        state, z = neuron.step(state, u, None if uniform is None else uniform[0, 0])
        fired.append(z)
    return torch.stack(fired), state


def test_integrate_and_fire_rate_is_sigma() -> None:
    u = torch.linspace(-3, 5, 161, dtype=torch.float64)
    steps = 1000
    rate = run(IntegrateAndFire(), u, steps)[0].mean(0)
    # deterministic: a count is within one spike of u/2 · steps inside [0, 2], clipped outside
    assert ((rate - (u / 2).clamp(0, 1)).abs() <= 1.0 / steps + 1e-12).all()
    assert torch.equal(IntegrateAndFire().rate(u), (u / 2).clamp(0, 1))


def test_bernoulli_rate_is_sigma() -> None:
    u = torch.linspace(-1, 3, 41, dtype=torch.float64)
    steps = 20_000
    spikes, state = run(Bernoulli(), u, steps)
    p = Bernoulli().rate(u)
    assert torch.equal(p, (u / 2).clamp(0, 1))
    assert ((spikes.mean(0) - p).abs() <= 4.5 * (p * (1 - p) / steps).sqrt() + 1e-12).all()
    torch.testing.assert_close(state.v, p * steps - spikes.sum(0))  # the spikes owed


@pytest.mark.parametrize("refractory", [0, 3])
@pytest.mark.parametrize("tau", [5.0, 50.0])
def test_leaky_rate_with_hard_reset_is_its_closed_form(tau: float, refractory: int) -> None:
    current = torch.linspace(0.01, 1.2, 60, dtype=torch.float64)
    leak, neuron = math.exp(-1 / tau), LeakyIntegrateAndFire(tau, refractory, "hard")
    rates, late = (lambda z: (z.mean(0), z[200:].any(0)))(run(neuron, 2 * current, 4000)[0])
    for i, rate, stated, fires in zip(current, rates, neuron.rate(2 * current), late, strict=True):
        if i <= 1 - leak:
            assert not fires and stated == 0
            continue
        k = next(k for k in range(1, 10_000) if i * (1 - leak**k) / (1 - leak) > 1)
        assert float(stated) == pytest.approx(1 / (k + refractory), rel=1e-12)
        assert abs(float(rate) - stated) < 2 / 4000, (float(i), k)


def test_leaky_rate_with_soft_reset_balances_input_and_leak() -> None:
    tau, steps = 20.0, 4000
    leak = math.exp(-1 / tau)
    neuron, current = LeakyIntegrateAndFire(tau), torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    state, total, count = neuron.rest(current), torch.zeros(9, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    for _ in range(steps):
        total += state.v
        state, z = neuron.step(state, 2 * current)
        count += z
    closed_form = current - (1 - leak) * total / steps
    torch.testing.assert_close(count / steps, closed_form, atol=1 / steps, rtol=0)
    assert not run(neuron, torch.tensor([2 * (1 - leak) - 1e-6], dtype=torch.float64), 4000)[0][200:].any()


@pytest.mark.parametrize("refractory", [0, 3])
@pytest.mark.parametrize("tau", [1.0, 5.0, 50.0])
def test_leaky_rate_with_soft_reset_is_its_closed_form(tau: float, refractory: int) -> None:
    """Also on the stairs: with τ = 1 the rate rests at ½ and at ⅓ while the current grows."""
    neuron, steps = LeakyIntegrateAndFire(tau, refractory), 4000
    u = 2 * torch.linspace(-0.11, 1.21, 66, dtype=torch.float64)  # not 1 itself, the edge of a stair
    spikes, stated = run(neuron, u, steps + 400)[0], neuron.rate(u)
    assert ((spikes[400:].mean(0) - stated).abs() <= 2 / steps).all()
    assert (stated.diff() >= 0).all() and stated[0] == 0 and stated[-1] == pytest.approx(1 / (1 + refractory))
    if tau == 1 and not refractory:
        assert ((stated - 0.5).abs() < 1e-9).sum() > 3 and ((stated - 1 / 3).abs() < 1e-9).any()


def test_leaky_neuron_becomes_sigma_without_leak() -> None:
    u = torch.linspace(0, 2, 21, dtype=torch.float64)
    rate = run(LeakyIntegrateAndFire(1e9), u, 1000)[0].mean(0)
    assert ((rate - u / 2).abs() <= 1.5e-3).all()
    assert ((LeakyIntegrateAndFire(1e9).rate(u) - u / 2).abs() <= 4e-5).all()


# multiples of 1/64: sums are exact in float32, so that the order of additions cannot matter; inside the clamps
CURRENTS = torch.randint(0, 129, (40, 50), generator=torch.Generator().manual_seed(0)) / 64


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_spike_for_spike_as_snntorch(leak: float, reset: str) -> None:
    """Strict threshold, reset in the same step after the spike, no refractory period."""
    import snntorch

    if leak == 1.0 and reset == "soft":
        neuron: Neuron = IntegrateAndFire(low=-1e9, high=1e9, start=0.0)
    else:
        tau = 1e30 if leak == 1.0 else -1 / math.log(leak)
        neuron = LeakyIntegrateAndFire(tau, 0, reset, low=-1e9, start=0.0)
    leaky = snntorch.Leaky(
        beta=leak, threshold=1.0, reset_mechanism={"soft": "subtract", "hard": "zero"}[reset], reset_delay=False
    )
    theirs, ours = torch.zeros(50), neuron.rest(torch.zeros(50))
    fired = 0
    for step in range(40):
        expected, theirs = leaky(CURRENTS[step] / 2, theirs)
        ours, found = neuron.step(ours, CURRENTS[step])
        assert torch.equal(found, expected), step
        fired += int(found.sum())
    assert 200 < fired < 1800


def test_refractory_neuron_ignores_its_input() -> None:
    spikes, _ = run(LeakyIntegrateAndFire(50.0, refractory=3), torch.tensor(4.0), 40)
    times = spikes.nonzero().flatten()
    assert (times.diff() == 4).all()


@pytest.mark.parametrize(
    ("u", "then", "closed_form"),
    [
        (-4.0, 1.0, 4 + 1),  # from v = −1: v_n = −1 + n/2 > 1 first at n = 5
        (4.0, 0.0, 1),  # from v = 2: one spike brings v to 1, which is not above the threshold
    ],
)
def test_recovers_from_the_clamps_as_fast_as_stated(u: float, then: float, closed_form: int) -> None:
    neuron = IntegrateAndFire()
    _, state = run(neuron, torch.tensor(u, dtype=torch.float64), 50)
    assert state.v == (neuron.low if u < 0 else neuron.high)
    after, _ = run(neuron, torch.tensor(then, dtype=torch.float64), 50, state)
    if u < 0:
        assert int(after.nonzero()[0]) + 1 == closed_form
    else:
        assert int(after.sum()) == closed_form and after[0] == 1


def test_membrane_accounts_for_every_bit_of_input() -> None:
    """count + ΔV − what the clamps added = Σ u/2: what the rule ``membrane`` rests on."""
    neuron = IntegrateAndFire()
    u = 3 * torch.randn(500, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state, count = neuron.rest(u[0]), torch.zeros(30, dtype=torch.float64)
    for current in u:
        state, z = neuron.step(state, current)
        count += z
    assert (state.added != 0).any()
    torch.testing.assert_close(count + (state.v - neuron.start) - state.added, (u / 2).sum(0))


@pytest.mark.parametrize("deadband", [0.5, 0.8])
def test_send_on_change_stays_within_its_deadband_and_then_rests(deadband: float) -> None:
    a = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = send_on_change(torch.zeros_like(a), a, 0.3, deadband)
    assert torch.equal(first, first.round()) and ((a - 0.3 * first).abs() <= 0.3 * deadband + 1e-12).all()
    assert not send_on_change(first, a, 0.3, deadband).any()
    silent = a.abs() < 0.3 * deadband
    assert silent.any() and not first[silent].any()


def test_dithered_change_is_unbiased_however_small() -> None:
    xi = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for change in (0.0, 1e-3, -1e-3, 0.004, 0.033):
        sent = 0.01 * send_dithered(torch.zeros_like(xi), torch.full_like(xi, change), 0.01, xi)
        assert abs(float(sent.mean()) - change) < 4.5 * 0.005 / math.sqrt(len(xi))
    assert not send_dithered(torch.zeros_like(xi), torch.zeros_like(xi), 0.01, xi).any()
