"""Spectral normalization that moves with its player, against the singular value itself and torch's own layer."""

import copy

import pytest
import torch
from torch import nn

from dist_gan.distributed.processes import Processes
from dist_gan.networks.layers import SpectralNorm
from tests.support import own_parts, tiny

LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (7, 6)),
    "convolution": (lambda: nn.Conv2d(3, 5, 3), (2, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 5, 4, 2, 1), (2, 3, 6, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_largest_singular_value_becomes_one(kind: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = SpectralNorm(make()).double()
    for _ in range(300):
        layer.after_move()
    sigma = torch.linalg.matrix_norm(layer.matrix(), 2)
    x = torch.randn(shape, dtype=torch.float64)
    plain = copy.deepcopy(layer.layer)
    with torch.no_grad():
        plain.weight.div_(sigma)  # type: ignore[union-attr]
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-8, atol=1e-10)


def test_as_torchs_own_where_that_is_pure() -> None:
    """In eval mode torch's layer makes no power iteration: the same vectors give the same numbers and gradients."""
    torch.manual_seed(0)
    theirs = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 5, 3)).double().eval()
    ours = SpectralNorm(nn.Conv2d(3, 5, 3)).double()
    own = theirs.parametrizations.weight[0]  # type: ignore[union-attr, index]
    with torch.no_grad():
        ours.layer.weight.copy_(theirs.parametrizations.weight.original)  # type: ignore[union-attr, operator]
        ours.layer.bias.copy_(theirs.bias)  # type: ignore[union-attr, operator]
        ours.u.copy_(own._u)
        ours.v.copy_(own._v)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    expected = theirs.parametrizations.weight.original.grad  # type: ignore[union-attr]
    torch.testing.assert_close(ours.layer.weight.grad, expected, rtol=1e-10, atol=1e-12)


def test_the_vectors_come_from_the_seed() -> None:
    recipe = own_parts.Spectral()
    a, b, c = (recipe.build(tiny.shape_of(tiny.DATA), seed).discriminator for seed in (1, 1, 2))
    for (name, x), (_, y), (_, z) in zip(a.named_buffers(), b.named_buffers(), c.named_buffers(), strict=True):
        assert torch.equal(x, y), name
        if x.numel() > 1:
            assert not torch.equal(x, z), name
            assert abs(x.norm() - 1) < 1e-5


def test_it_moves_once_with_each_real_move(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    after_move = SpectralNorm.after_move

    def counted(self: SpectralNorm) -> None:
        moved.append("G" if isinstance(self.layer, nn.Linear) and self.layer.in_features == 6 else "D")
        after_move(self)

    game = tiny.game(processes, own_parts.Spectral(), microbatch=16, discriminator_turns=2)
    monkeypatch.setattr(SpectralNorm, "after_move", counted)
    for player in game.players.values():
        player.rehearsing = True
    batch = next(tiny.batches(processes))
    game.play(game.turns["D"], batch, 0)
    assert moved == [], "a rehearsal moves nothing"
    for player in game.players.values():
        player.rehearsing = False
    tiny.play(game, 3)
    assert moved.count("G") == 3
    assert moved.count("D") == 3 * 2 * 2, "two layers, two turns an update"
