"""The 1,000-mode benchmark against closed forms."""

import math

import pytest
import torch

from dist_gan.metrics.modes import divergence, entropy, histogram, modes, reverse_kl, uniform

EACH = torch.arange(1000)


def test_equal_frequencies() -> None:
    numbers = EACH.repeat(26)
    assert modes(numbers) == 1000
    assert reverse_kl(numbers, uniform(1000)) == pytest.approx(0, abs=1e-12)
    assert reverse_kl(numbers, histogram(EACH.repeat(7), 1000)) == pytest.approx(0, abs=1e-12)
    assert entropy(histogram(numbers, 1000)) == pytest.approx(math.log(1000))


@pytest.mark.parametrize("count", [1, 10, 99, 500])
def test_some_of_the_modes_in_equal_parts(count: int) -> None:
    """KL is log(1000 / count)."""
    numbers = (EACH[:count] * 2 % 1000).repeat(13)
    assert modes(numbers) == count
    assert reverse_kl(numbers, uniform(1000)) == pytest.approx(math.log(1000 / count))
    assert entropy(histogram(numbers, 1000)) == pytest.approx(math.log(count), abs=1e-12)


def test_the_direction_is_from_the_generated_ones() -> None:
    """Generated 3/4 and 1/4, reference 1/2 and 1/2: the other direction would be 0.1438."""
    numbers = torch.tensor([0, 0, 0, 1])
    assert reverse_kl(numbers, torch.tensor([5, 5])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert reverse_kl(numbers, torch.tensor([5, 5])) == pytest.approx(0.130812, abs=1e-6)


def test_both_references_differ() -> None:
    """Images with the data's own frequencies are at 0 from them, and not from equal frequencies."""
    numbers = torch.tensor([0] * 6 + [1] * 2)
    assert reverse_kl(numbers, torch.tensor([600, 200])) == 0
    assert reverse_kl(numbers, uniform(2)) == pytest.approx(math.log(2) - entropy(torch.tensor([3, 1])))


def test_a_class_that_the_reference_lacks() -> None:
    assert reverse_kl(torch.tensor([0, 1]), torch.tensor([1, 0])) == math.inf
    assert reverse_kl(torch.tensor([0, 0]), torch.tensor([1, 1])) == pytest.approx(math.log(2))


def test_numbers_are_of_the_classes() -> None:
    with pytest.raises(AssertionError, match="above 9"):
        histogram(torch.tensor([10]), 10)
    with pytest.raises(AssertionError, match="no images"):
        divergence(torch.zeros(3), uniform(3))


def test_26_000_random_numbers_do_not_reach_zero() -> None:
    """The floor that the module's text names: (K - 1) / 2N."""
    numbers = torch.randint(1000, (26_000,), generator=torch.Generator().manual_seed(0))
    assert reverse_kl(numbers, uniform(1000)) == pytest.approx(999 / 52_000, rel=0.1)
