import pytest
import torch

from dist_gan import randomness
from dist_gan.randomness import Purpose, draw, keep, normal, permutation, philox, uniform, words

KNOWN_ANSWERS = [  # Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, result
    ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        0x299F31D0A4093822,
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
A, B = Purpose.D_TURN_REAL, Purpose.D_TURN_FAKE


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: list[int], key: int, result: list[int]) -> None:
    assert philox(torch.tensor(counter)[:, None], key)[:, 0].tolist() == result


def test_philox_does_not_depend_on_how_many_counters_are_handled_at_once() -> None:
    counters = torch.stack([torch.arange(40_000), *torch.full((3, 40_000), 7)])
    whole = philox(counters, 11)
    assert torch.equal(whole[:, 17_000:17_003], philox(counters[:, 17_000:17_003].contiguous(), 11))


def test_a_draw_is_a_function_of_seed_purpose_and_ordinal_alone() -> None:
    together = draw(3, {A: 13, B: 20}, range(100, 164))
    alone = draw(3, {B: 20}, range(130, 131))
    fewer = draw(3, {A: 5}, range(120, 140))
    assert together[A].dtype == torch.int16
    assert together[A].shape == (64, 13)
    assert torch.equal(together[B][30:31], alone[B])
    assert torch.equal(together[A][20:40, :5], fewer[A])


def test_seed_purpose_and_ordinal_each_matter() -> None:
    base = draw(3, {A: 8}, range(5, 6))[A]
    others = [
        draw(4, {A: 8}, range(5, 6))[A],
        draw(3 + 2**32, {A: 8}, range(5, 6))[A],
        draw(3, {B: 8}, range(5, 6))[B],
        draw(3, {A: 8}, range(6, 7))[A],
        draw(3, {A: 8}, range(5 + 2**32, 6 + 2**32))[A],
    ]
    assert all(not torch.equal(base, other) for other in others)


def test_the_numbers_follow_their_distributions() -> None:
    bits = draw(0, {A: 1000}, range(1000))[A]  # a million
    u, z, kept = uniform(bits), normal(bits), keep(bits, 0.3, torch.float64)
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert abs(u.mean() - 0.5) < 1.5e-3
    assert abs(u.var() - 1 / 12) < 1e-3
    assert abs(z.mean()) < 5e-3
    assert abs(z.var() - 1) < 8e-3
    assert abs((z.abs() < 1).float().mean() - 0.6827) < 2e-3
    assert abs((z.abs() > 2.5758).float().mean() - 0.01) < 5e-4
    assert set(kept.unique().tolist()) == {0.0, 65536 / (65536 - round(0.3 * 65536))}
    assert abs((kept == 0).double().mean() - 0.3) < 2e-3
    neighbours = torch.corrcoef(torch.stack([z[:, :-1].flatten(), z[:, 1:].flatten()]))[0, 1]
    ordinals = torch.corrcoef(torch.stack([z[:-1].flatten(), z[1:].flatten()]))[0, 1]
    assert max(neighbours.abs(), ordinals.abs()) < 5e-3


def test_normal_and_keep_are_exact_over_all_cells() -> None:
    cells = torch.arange(-32768, 32768).to(torch.int16)
    assert normal(cells).double().square().mean().item() == pytest.approx(1, abs=1e-6)
    assert normal(cells).double().mean().item() == pytest.approx(0, abs=1e-6)
    assert keep(cells, 0.3, torch.float64).mean().item() == pytest.approx(1, abs=1e-12)


def test_torchs_own_philox_and_ours_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one is in use, where torch has it."""
    ordinals = range(2**32 - 3, 2**32 + 40)
    built_in = randomness._is_built_in(randomness.CPU)
    assert built_in == hasattr(torch.ops.aten, "_philox_key_split")
    drawn = []
    for chosen in (built_in, False):
        monkeypatch.setattr(randomness, "_is_built_in", lambda device, chosen=chosen: chosen)
        drawn += [(draw(7, {A: 13, B: 70}, ordinals), words(7, A, ordinals, 5), permutation(7, 3, 1000))]
    (bits, chosen_words, order), (own_bits, own_words, own_order) = drawn
    assert torch.equal(bits[A], own_bits[A])
    assert torch.equal(bits[B], own_bits[B])
    assert torch.equal(chosen_words, own_words)
    assert torch.equal(order, own_order)


def test_a_draw_is_philox_at_the_counter_that_is_documented() -> None:
    (first,) = draw(7 + 2**40, {A: 16}, range(2**33 + 5, 2**33 + 6))[A]
    counter = torch.tensor([5, (int(A) << 26) | (1 << 8) | 2, 0, 0])[:, None]  # the second block
    expected = philox(counter, 7 + 2**40)[:, 0].to(torch.int32).view(torch.int16)
    assert torch.equal(first[8:], expected)


def test_each_pass_has_a_permutation_of_its_own() -> None:
    first, second = permutation(0, 0, 1000), permutation(0, 1, 1000)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(second.sort().values, torch.arange(1000))
    assert (first == second).float().mean() < 0.01
    assert torch.equal(first, permutation(0, 0, 1000))


def test_words_have_32_bits() -> None:
    drawn = words(1, Purpose.STACK, range(10_000), 3)
    assert drawn.shape == (10_000, 3)
    assert drawn.min() >= 0
    assert 2**32 - 2**20 < drawn.max() < 2**32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU (make gpu)")
def test_the_same_bits_on_a_gpu() -> None:
    ordinals = range(2**33, 2**33 + 500)
    cpu, gpu = (draw(9, {A: 33, B: 7}, ordinals, torch.device(device))[A] for device in ("cpu", "cuda"))
    assert torch.equal(cpu, gpu.cpu())
    assert torch.equal(normal(cpu), normal(gpu).cpu())
