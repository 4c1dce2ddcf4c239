"""BigGAN against the numbers that StudioGAN's own code gave (`tests/published/biggan.safetensors`): the same weights,
latents, labels and images. There its spectral norms made no power iteration in forward; ours never do."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from dist_gan.networks import BigGAN
from dist_gan.networks.base import Networks
from dist_gan.networks.biggan import BigGANDiscriminator, BigGANGenerator
from dist_gan.networks.layers import SpectralNorm
from dist_gan.networks.weights import orthogonal
from dist_gan.objective.augment import NoAugment
from dist_gan.objective.losses import Hinge
from dist_gan.objective.objective import Microbatch, Objective, Terms
from dist_gan.objective.penalties import R1
from dist_gan.objective.penalty import Sight
from dist_gan.randomness import Purpose
from dist_gan.shapes import DataShape, ImageShape
from tests.support import biggan
from tests.support.published import Published, fingerprint, numbers

HINGE = Objective(loss=Hinge())
NOTHING = torch.zeros(biggan.GROUP, 0, dtype=torch.int16)
NO_BITS = dict.fromkeys((Purpose.D_TURN_REAL, Purpose.D_TURN_FAKE, Purpose.G_TURN_FAKE), NOTHING)


@pytest.fixture(scope="module")
def published() -> Published:
    return Published("biggan")


def mean_gradients(network: nn.Module) -> dict[str, Tensor]:
    """Of the mean over a group; what was differentiated is a sum."""
    return {name: p.grad / biggan.GROUP for name, p in network.named_parameters() if p.grad is not None}


def turn(player: str, networks: Networks, dtype: torch.dtype = torch.float64) -> Terms:
    """One microbatch of one player's turn, with its backward."""
    G, D = networks
    latents, labels, images = biggan.inputs()
    latents, images = latents.to(dtype), images.to(dtype)
    given = Microbatch(images, labels, NO_BITS)
    if player == "D":
        terms = HINGE.discriminator(D, G(latents, labels).detach(), given, NoAugment())
    else:
        terms = HINGE.generator(G, D.requires_grad_(False), latents, NOTHING, given, NoAugment())
    terms.total.backward()
    return terms


@torch.no_grad()
def test_images_and_logits_are_theirs(published: Published) -> None:
    """A batch of theirs is a group of ours."""
    G, D = biggan.networks()
    latents, labels, images = biggan.inputs()
    made = G(latents, labels)
    published.check("images", fingerprint(made))
    published.check("some pixels", made[0, :, ::4, ::4])
    published.check("logits", torch.cat([D(images, labels), D(made, labels)]))


@torch.no_grad()
def test_two_groups_are_two_batches_of_theirs(published: Published) -> None:
    G = biggan.networks().generator
    latents, labels, _ = biggan.inputs()
    made = G(torch.cat([numbers(*latents.shape, seed=3), latents]), torch.cat([labels, labels]))
    published.check("images", fingerprint(made[biggan.GROUP :]))


@pytest.mark.parametrize("player", ["D", "G"])
def test_losses_and_all_gradients_are_theirs(player: str, published: Published) -> None:
    pair = biggan.networks()
    terms = turn(player, pair)
    published.check(f"{player} loss", terms.loss[None] / biggan.GROUP)
    biggan.check_all(published, f"{player} gradient", mean_gradients(pair[player == "D"]))


def test_in_float32_too(published: Published) -> None:
    for number, player in enumerate("GD"):
        pair = biggan.networks()
        for network in pair:
            network.float()
        terms = turn(player, pair, torch.float32)
        published.check(f"{player} loss", terms.loss[None] / biggan.GROUP, 1e-4)
        biggan.check_all(published, f"{player} gradient", mean_gradients(pair[number]), 1e-4)


@pytest.mark.parametrize("method", ["double_backward", "forward_over_reverse"])
def test_r1_and_its_gradients_are_theirs(
    method: Literal["double_backward", "forward_over_reverse"], published: Published
) -> None:
    """D is differentiated twice, through attention, spectral norm and pooling."""
    D = biggan.networks().discriminator
    _, labels, images = biggan.inputs()
    images.requires_grad_()
    penalty, logits = R1(method=method), D(images, labels)
    values = penalty.measure(
        Sight({"real": logits}, {"real": images}, {"real": lambda seen: D(seen, labels)}, {}), "r1"
    )
    value = values.mean()
    published.check("r1", value[None])
    names, parameters = zip(*D.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, materialize_grads=True)
    biggan.check_all(published, "r1 gradient", dict(zip(names, found, strict=True)))


def test_initial_weights_are_orthogonal_as_theirs(published: Published) -> None:
    """The largest and the smallest singular value of every matrix; the least and the largest number of every vector."""
    for player, network in zip("GD", biggan.RECIPE.build(biggan.SHAPE, 1), strict=True):
        found = {}
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                values = torch.linalg.svdvals(parameter.detach().double().flatten(1))
                found[name] = torch.stack([values[0], values[-1]])
            else:
                found[name] = torch.stack([parameter.min(), parameter.max()])
            published.check(f"initial {player}/{name}", found[name], 1e-6)
        assert len([key for key in published.numbers if key.startswith(f"initial {player}/")]) == len(found)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 3, 3, 3), (20, 2, 3, 3)])
def test_orthogonal_is_torchs_own_of_the_same_numbers(shape: tuple[int, ...]) -> None:
    rows, columns = shape[0], torch.Size(shape[1:]).numel()
    values = torch.empty(rows, columns, dtype=torch.float64).normal_(generator=torch.Generator().manual_seed(7))
    theirs = nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(orthogonal(values.view(shape)), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "width", "classes", "latent", "counts", "norms"),
    [
        (32, 96, 10, 80, (9_416_196, 2_415_170), (27, 16)),
        (64, 80, 100, 100, (17_322_404, 30_668_722), (34, 21)),
        (128, 96, 1000, 120, (70_433_988, 87_982_370), (41, 23)),
    ],
)
def test_the_sizes_are_those_of_their_configs(
    side: int,
    width: int,
    classes: int,
    latent: int,
    counts: tuple[int, int],
    norms: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CIFAR10/BigGAN, Baby_ImageNet/BigGAN and ImageNet/BigGAN-256: parameters and spectral norms."""
    monkeypatch.setattr(SpectralNorm, "set_state", lambda self, values: None)
    shape = DataShape(ImageShape(3, side, side), classes)
    recipe = BigGAN(width=width, conditional=True)
    with torch.device("meta"):
        pair = BigGANGenerator(shape, recipe), BigGANDiscriminator(shape, recipe)
    assert pair[0].latent == latent
    assert tuple(sum(p.numel() for p in network.parameters()) for network in pair) == counts
    assert tuple(sum(isinstance(m, SpectralNorm) for m in network.modules()) for network in pair) == norms
    assert isinstance(pair[0].embedding, nn.Embedding), "G's embedding is not normalized"


def test_every_part_of_the_latent_and_the_class_is_used() -> None:
    for classes in (0, biggan.CLASSES):
        recipe = biggan.RECIPE.model_copy(update={"conditional": bool(classes)})
        G = recipe.build(DataShape(biggan.SHAPE.image, classes), 1).generator
        latents, labels, _ = biggan.inputs()
        latents = latents.float().requires_grad_()
        G(latents, labels if classes else None).square().sum().backward()
        assert latents.grad is not None
        assert (latents.grad.abs().sum(0) > 0).all()


def test_attention_is_closed_at_the_start() -> None:
    """gamma is 0, so the other weights of attention have no gradient yet; gamma has."""
    for number, player in enumerate("GD"):
        pair = Networks(*(network.double() for network in biggan.RECIPE.build(biggan.SHAPE, biggan.SEED)))
        turn(player, pair)
        own = {
            n: p.grad for n, p in pair[number].named_parameters() if n.startswith("attention.") and p.grad is not None
        }
        assert len(own) == 5
        for name, gradient in own.items():
            assert (gradient.abs().max() > 0) == (name == "attention.gamma"), name


def test_a_shape_that_it_cannot_make_is_a_mistake_of_the_config() -> None:
    for shape, nearest in (
        (ImageShape(3, 48, 48), "32x32 or 64x64"),
        (ImageShape(3, 32, 64), "32x32 or 64x64"),
        (ImageShape(1, 28, 28), "32x32 or 16x16"),
    ):
        assert f"biggan makes square images of {nearest} (the nearest sizes)" in BigGAN().mistakes(shape)[0]
    assert BigGAN().mistakes(ImageShape(1, 64, 64)) == []


def test_under_autocast() -> None:
    G, D = (network.float() for network in biggan.networks())
    latents, labels, images = (x.float() if x.is_floating_point() else x for x in biggan.inputs())
    expected = D(images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        made, logits = G(latents, labels), D(images, labels)
    (made.float().square().sum() + logits.float().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n in (G, D) for p in n.parameters())
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.3)
