import pytest
import torch
from torch import nn

from dist_gan.networks import DCGAN, MLP, AnyRecipe, Recipe
from dist_gan.networks.layers import GroupBatchNorm2d
from dist_gan.networks.measured import measure
from dist_gan.randomness import Purpose, draw, normal
from dist_gan.sampling.generate import generate, sample_latents
from dist_gan.shapes import DataShape, ImageShape
from tests.support.unions import example, members

RECIPES: list[Recipe] = [example(kind) for kind in members(AnyRecipe)]
SHAPES = [ImageShape(1, 28, 28), ImageShape(1, 32, 32), ImageShape(3, 64, 64)]


def noise(bits: int, n: int) -> torch.Tensor:
    return draw(0, {Purpose.D_TURN_REAL: bits}, range(n))[Purpose.D_TURN_REAL]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_contract(recipe: Recipe, shape: ImageShape) -> None:
    """Shapes, ranges, weights from the seed alone, gradients everywhere; a shape that cannot be made is said to be."""
    if recipe.mistakes(shape):
        assert "data.size" in recipe.mistakes(shape)[0]
        return
    torch.manual_seed(1)
    G, D = recipe.build(DataShape(shape), 3)
    torch.manual_seed(2)
    again, other = recipe.build(DataShape(shape), 3), recipe.build(DataShape(shape), 4)
    for mine, same, different in zip(
        [*G.parameters(), *D.parameters()],
        [*again.generator.parameters(), *again.discriminator.parameters()],
        [*other.generator.parameters(), *other.discriminator.parameters()],
        strict=True,
    ):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different) or len(mine.unique()) == 1
    with torch.no_grad():
        for parameter in [*G.parameters(), *D.parameters()]:
            if parameter.dim() == 4 and parameter.abs().max() == 0:
                parameter.add_(0.1)  # it would hide what is before it
    n = recipe.batch_multiple * 2
    z = sample_latents(0, range(n), G.latent)
    images = G(z, None, noise(G.noise_bits, n))
    assert images.shape == (n, *shape)
    assert images.abs().max() <= 1 or not G.bounded
    logits = D(images, None, noise(D.noise_bits, n))
    assert logits.shape == (n,)
    (logits.sum() + images.sum()).backward()
    for name, parameter in [*G.named_parameters(), *D.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or "layers.5.bias" in name or recipe.batch_multiple > 1, name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_logits_are_not_squashed(recipe: Recipe) -> None:
    """A sigmoid or tanh before a with-logits loss is a tutorial's bug: scale the last layer, and D follows."""
    D = recipe.build(DataShape(ImageShape(1, 32, 32)), 0).discriminator
    last = [layer for layer in D.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    images = torch.rand(32, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        before = D(images)
        last.register_forward_hook(lambda layer, inputs, output: output * 1000)  # whatever normalizes its weight
        after = D(images)
    torch.testing.assert_close(after, before * 1000, rtol=1e-4, atol=1e-2)
    assert after.abs().max() > 5


def layer_sizes(network: nn.Module) -> list[int]:
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


def test_the_mlp_is_the_seeds() -> None:
    G, D = MLP().build(DataShape(ImageShape(1, 28, 28)), 0)
    assert layer_sizes(G) == [100, 32, 64, 128, 784]
    assert layer_sizes(D) == [784, 128, 64, 32, 1]
    assert sum(p.numel() for p in G.parameters()) == 114_800
    assert sum(p.numel() for p in D.parameters()) == 110_849
    assert G.noise_bits == D.noise_bits == 32 + 64 + 128


def test_the_mlp_drops_three_in_ten_hidden_units_and_only_in_training() -> None:
    D = MLP().build(DataShape(ImageShape(1, 28, 28)), 0).discriminator
    seen: list[torch.Tensor] = []
    D.tower.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(200, 1, 28, 28)
    D(images, None, noise(D.noise_bits, 200))
    assert abs((seen[0] == 0).float().mean() - 0.3) < 0.01
    D(images)
    assert (seen[1] == 0).sum() == 0
    kept = seen[0] != 0
    torch.testing.assert_close(seen[0][kept], seen[1][kept] / 0.7, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("size", "count"), [(32, (1_066_880, 661_248)), (64, (3_576_704, 2_765_568))])
def test_the_dcgan_is_the_papers(size: int, count: tuple[int, int]) -> None:
    channels = 1 if size == 32 else 3
    G, D = DCGAN().build(DataShape(ImageShape(channels, size, size)), 0)
    up = [layer for layer in G.modules() if isinstance(layer, nn.ConvTranspose2d)]
    down = [layer for layer in D.modules() if isinstance(layer, nn.Conv2d)]
    assert [(x.kernel_size, x.stride, x.padding) for x in up[1:]] == [((4, 4), (2, 2), (1, 1))] * (len(up) - 1)
    assert [(x.kernel_size, x.stride, x.padding) for x in down[:-1]] == [((4, 4), (2, 2), (1, 1))] * (len(down) - 1)
    assert [x.in_channels for x in up[1:]] == [x.out_channels for x in down[:-1]][::-1]
    assert not isinstance(D.layers[1], GroupBatchNorm2d)
    convolutions = [p for p in D.parameters() if p.dim() == 4]
    assert all(abs(p.std().item() - 0.02) < 3e-3 for p in convolutions if p.numel() > 1000)
    norms = [p for name, p in D.named_parameters() if p.dim() == 1 and "weight" in name]
    assert all(abs(p.mean().item() - 1) < 0.02 for p in norms)
    assert tuple(sum(p.numel() for p in network.parameters()) for network in (G, D)) == count


def test_group_batch_norm_is_batch_norm_over_each_group() -> None:
    layer = GroupBatchNorm2d(3, group=4)
    x = torch.randn(12, 3, 5, 5)
    ordinary = nn.BatchNorm2d(3)
    torch.testing.assert_close(layer(x), torch.cat([ordinary(part) for part in x.split(4)]))
    torch.testing.assert_close(layer(x)[4:8], layer(x[4:8]))
    assert torch.equal(layer.running_mean, torch.zeros(3))
    with pytest.raises(AssertionError, match="full groups"):
        layer(x[:6])


def test_measured_statistics_make_eval_agree_with_training_on_average() -> None:
    G = DCGAN(latent=8, width=8, group=16).build(DataShape(ImageShape(1, 16, 16)), 0).generator
    with torch.no_grad():
        for parameter in G.parameters():
            parameter.mul_(1 if parameter.dim() == 1 else 20)
    z = sample_latents(0, range(512), 8)
    before = {name: buffer.clone() for name, buffer in G.named_buffers()}
    measured = measure(G, z)
    assert not G.training
    assert measured.keys() == before.keys()
    assert all(torch.equal(buffer, before[name]) for name, buffer in G.named_buffers()), "nothing of it is changed"
    name = next(name for name, layer in G.named_modules() if isinstance(layer, GroupBatchNorm2d))
    inputs = G.layers[0](z[:, :, None, None])
    mean, var = measured[f"{name}.running_mean"], measured[f"{name}.running_var"]
    torch.testing.assert_close(mean, inputs.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(var, inputs.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-5)
    again = measure(G, z)
    assert all(torch.equal(value, measured[key]) for key, value in again.items())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_same_seed_gives_the_same_image_alone_or_among_many(recipe: Recipe) -> None:
    G = recipe.build(DataShape(ImageShape(1, 32, 32)), 0).generator
    G.load_state_dict(measure(G, normal(noise(G.latent, 32))), strict=False)
    G.eval()
    many = generate(G, sample_latents(4, range(50), G.latent))
    few = generate(G, sample_latents(4, range(3), G.latent))
    middle = generate(G, sample_latents(4, range(37, 38), G.latent))
    assert torch.equal(many[:3], few)
    assert torch.equal(many[37:38], middle)
    assert many.dtype == torch.uint8


def test_a_dcgan_whose_discriminator_does_not_normalize_sees_each_image_alone() -> None:
    recipe = DCGAN(latent=6, width=4, group=4, discriminator_norm=False)
    assert not recipe.mixes_samples
    D = recipe.build(DataShape(ImageShape(3, 16, 16)), 0).discriminator
    images = torch.linspace(-1, 1, 8 * 768).view(8, 3, 16, 16)
    torch.testing.assert_close(D(images)[2:5], D(images[2:5]))
    biases = [parameter for name, parameter in D.named_parameters() if name.endswith("bias")]
    assert [len(bias) for bias in biases] == [8]
    assert all((bias == 0).all() for bias in biases)
