import pytest
import torch

from neuromorphic.neurons import IntegrateAndFire


def spikes(u: torch.Tensor, steps: int, v: float = 0.5) -> torch.Tensor:
    neuron, state, fired = IntegrateAndFire(), torch.full_like(u, v), []
    for _ in range(steps):
        state, z = neuron.step(state, u)
        fired.append(z)
    return torch.stack(fired)


def test_rate_curve_is_sigma() -> None:
    u = torch.linspace(-3, 5, 161, dtype=torch.float64)
    steps = 1000
    rate = spikes(u, steps).mean(0)
    # deterministic: a count is within one spike of u/2 · steps inside [0, 2], clipped outside
    assert ((rate - (u / 2).clamp(0, 1)).abs() <= 1.0 / steps + 1e-12).all()


def test_spike_for_spike_as_snntorch() -> None:
    import snntorch

    # multiples of 1/64: sums are exact in float32, so the order of additions cannot matter; inside the clamps
    u = torch.randint(0, 129, (40, 50), generator=torch.Generator().manual_seed(0)) / 64
    leaky = snntorch.Leaky(beta=1.0, threshold=1.0, reset_mechanism="subtract", reset_delay=False)
    neuron = IntegrateAndFire(low=-1e9, high=1e9, start=0.0)
    theirs, ours = torch.zeros(50), torch.zeros(50)
    for step in range(40):
        expected, theirs = leaky(u[step] / 2, theirs)
        ours, found = neuron.step(ours, u[step])
        assert torch.equal(found, expected), step


@pytest.mark.parametrize(
    ("u", "then", "closed_form"),
    [
        (-4.0, 1.0, 4 + 1),  # from v = −1: v_n = −1 + n/2 > 1 first at n = 5
        (4.0, 0.0, 1),  # from v = 2: one spike brings v to 1, which is not above the threshold
    ],
)
def test_recovers_from_the_clamps_as_fast_as_stated(u: float, then: float, closed_form: int) -> None:
    neuron, v = IntegrateAndFire(), torch.tensor(0.5, dtype=torch.float64)
    for _ in range(50):
        v, _z = neuron.step(v, torch.tensor(u, dtype=torch.float64))
    assert v == (neuron.low if u < 0 else neuron.high)
    after = spikes(torch.tensor(then, dtype=torch.float64), 50, float(v))
    if u < 0:
        assert int(after.nonzero()[0]) + 1 == closed_form
    else:
        assert int(after.sum()) == closed_form and after[0] == 1
