"""A file with a class of each kind, as users write them, and the command line that uses all of them."""

MINE = '''
from pathlib import Path
from pydantic import Field
from torch.nn.functional import softplus
from dist_gan.data import Generated
from dist_gan.networks.mlp import MLP
from dist_gan.objective.augment import Augment
from dist_gan.objective.losses import Loss
from dist_gan.objective.penalties import R1
from dist_gan.optim.optimizers import SGD
from dist_gan.optim.schedules import Schedule

Path(__file__).with_name("imported").touch()

class Steep(Loss):
    """Cross entropy of steeper logits."""

    slope: float = Field(1.0, gt=0)
    """How steep."""

    def discriminator(self, real, fake):
        return softplus(-self.slope * real) + softplus(self.slope * fake)

    def generator(self, real, fake):
        return softplus(-self.slope * fake)

class Step(Schedule):
    name: str = "step"
    at: int = 1000

    def factor(self, images_seen):
        return 1.0 if images_seen < self.at else 0.1

class Double(R1):
    def penalty(self, images, logits):
        return 2 * super().penalty(images, logits)

class Mirror(Augment):
    def __call__(self, images, bits, state=None):
        return images.flip(3)

class Wide(MLP):
    """An MLP of another name."""

class Discs(Generated):
    pass

class Slow(SGD):
    pass

class Half(Loss):
    def discriminator(self, real, fake):
        return fake - real
'''
ALL = [
    "objective.loss={name: mine.py:Steep, slope: 2}",
    "objective.penalties=[{name: mine.py:Double, weight: 0.5}]",
    "augment={name: mine.py:Mirror}",
    "networks={name: mine.py:Wide, width: 4}",
    "data={name: mine.py:Discs, size: 8}",
    "generator_optimizer={name: mine.py:Slow, schedule: {name: mine.py:Step, at: 64}}",
]
