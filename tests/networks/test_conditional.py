"""Networks that are given the class of each sample."""

import pytest
import torch

from dist_gan.networks import DCGAN, MLP, R3GAN, Recipe
from dist_gan.sampling.generate import sample_classes, sample_latents
from dist_gan.shapes import DataShape, ImageShape

SHAPE = DataShape(ImageShape(3, 32, 32), 5)
RECIPES = [MLP(conditional=True, width=8), DCGAN(conditional=True, width=8), R3GAN(conditional=True, width=16)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_class_changes_image_and_logit(recipe: Recipe) -> None:
    G, D = recipe.build(SHAPE, 0)
    z = sample_latents(0, range(16), G.latent)
    zeros, ones = torch.zeros(16, dtype=torch.int64), torch.ones(16, dtype=torch.int64)
    assert G.classes == 5
    assert not torch.equal(G(z, zeros), G(z, ones))
    images = G(z, zeros).detach()
    assert not torch.equal(D(images, zeros), D(images, ones))
    (G(z, zeros).sum() + D(images, ones).sum()).backward()
    for network in (G, D):
        embedding = network.embedding
        assert embedding is not None
        gradient = embedding.weight.grad  # type: ignore[union-attr]
        assert gradient is not None
        assert gradient.abs().sum() > 0  # type: ignore[operator, union-attr]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_without_the_option_labels_change_nothing(recipe: Recipe) -> None:
    plain = recipe.model_copy(update={"conditional": False})
    G, D = plain.build(SHAPE, 0)
    z, labels = sample_latents(0, range(16), G.latent), torch.arange(16) % 5
    assert G.classes == 0
    assert torch.equal(G(z, labels), G(z, None))
    images = G(z).detach()
    assert torch.equal(D(images, labels), D(images, None))
    unlabelled = plain.build(DataShape(SHAPE.image), 0)
    assert all(torch.equal(a, b) for a, b in zip(G.parameters(), unlabelled.generator.parameters(), strict=True))


def test_the_projection_is_an_inner_product() -> None:
    """logit(x, y) - logit(x, y') = <e_y - e_y', features summed over the map> (Miyato and Koyama 2018, equation 3)."""
    D = DCGAN(conditional=True, width=4).build(SHAPE, 0).discriminator.double()
    images = torch.rand(16, 3, 32, 32, dtype=torch.float64) * 2 - 1
    a, b = torch.full((16,), 3), torch.full((16,), 1)
    features = D.layers(images).sum((2, 3))  # type: ignore[operator]
    weight = D.embedding.weight  # type: ignore[union-attr]
    expected = features @ (weight[3] - weight[1])  # type: ignore[index]
    torch.testing.assert_close(D(images, a) - D(images, b), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("classes", "count"), [(2, 64), (10, 100), (10, 64), (10, 7), (1000, 64)])
def test_a_column_is_a_class(classes: int, count: int) -> None:
    shown, columns = sample_classes(classes, count)
    assert len(shown) == count
    assert 0 <= shown.min() <= shown.max() < classes
    for column in range(columns):
        assert len(shown[column::columns].unique()) == 1
    assert len(shown.unique()) == columns
