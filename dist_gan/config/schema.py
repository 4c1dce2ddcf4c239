"""The root of a run's configuration, and which combinations cannot work."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from dist_gan.config.explain import explain_mistakes
from dist_gan.config.judging import best_metric, judged
from dist_gan.config.mistakes import mistakes
from dist_gan.config.unwise import unwise
from dist_gan.data import MNIST, AnySource
from dist_gan.errors import ConfigError
from dist_gan.metrics.any_metric import AnyMetric
from dist_gan.metrics.metric import Metric
from dist_gan.networks import MLP, AnyRecipe
from dist_gan.objective.any_augment import AnyAugment
from dist_gan.objective.augment import NoAugment
from dist_gan.objective.objective import Objective
from dist_gan.optim.ema import EMA, Averages
from dist_gan.optim.optimizers import Adam, AnyOptimizer
from dist_gan.part import Part, PathText, free

EXACT_MICROBATCH = 16
Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16"]
Speed = Literal["auto", "eager", "graph", "compile"]


class Track(Part):
    """What is logged, where, how often."""

    every: int = free(64_000, ge=1)
    """Images between two lines of metrics."""
    wandb: Literal["auto", "online", "offline", "disabled"] = free("auto")
    """Weights & Biases: `auto` is online where an API key is found and offline elsewhere; never a prompt."""
    project: str = free("dist_gan", min_length=1)
    """W&B's project."""
    group: str = free("")
    """W&B's group, for runs that belong together, such as the seeds of one experiment."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = free(())
    """W&B's tags of the run, up to 64 characters each."""
    notes: str = free("")
    """What W&B shows as the run's notes."""
    tensorboard: bool = free(False)
    """Write TensorBoard's files into the run's folder."""
    health: bool = free(True)
    """Say in words when something goes wrong with what is learnt, once each: a warning, and a line of notes.jsonl."""


class Save(Part):
    """Checkpoints."""

    every: int = free(640_000, ge=1)
    """Images between two checkpoints; there is always one at the end."""
    keep: int = free(2, ge=1)
    """How many of the newest are kept."""
    keep_every: int = free(0, ge=0)
    """Checkpoints at multiples of this many images are never deleted; 0: none."""
    best: str = free("")
    """The best checkpoint by this number is kept too: a name of `evaluate`, such as fid; fid@digits or fid@0 (by
    features, or by the place in the list) where there are several; fid@ema_2 of another average. Empty: none."""


class SampleGrid(Part):
    """Pictures of fixed latents, which show the progress."""

    every: int = free(320_000, ge=1)
    """Images between two grids; there is always one at the end."""
    count: int = free(64, ge=1, le=4096)
    """Images in a grid."""


class Config(Part):
    """A run. No key at all trains the fully-connected GAN on MNIST.

    Parts may be given as instances, of the user's own classes too. Raises ConfigError with all mistakes at once.
    """

    if not TYPE_CHECKING:  # type checkers know the fields

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError("\n".join(explain_mistakes(error, values, Config))) from None

        __init__.__pydantic_base_init__ = True  # only for calls: what else validates reports mistakes by itself

    run: PathText = free("runs/mnist_mlp", min_length=1)
    """The run's folder. The same command again goes on from where it stopped."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Everything random is a function of it."""
    images: int = free(3_000_000, ge=1)
    """How many real images D sees in total."""
    batch_size: int = Field(64, ge=1)
    """Images of one turn of D, over all processes."""
    microbatch: int = free(0, ge=0)
    """Images of one forward and backward in a process: smaller needs less memory. 0: all of the process's part."""
    exact: bool = False
    """The same model bit for bit on any number of processes; slower. Gradients of fixed microbatches
    (where `microbatch` is 0, the smallest from 16 images on by which the batch can be divided) are computed by
    deterministic kernels, on a CPU in one thread, and added as integers."""
    processes: int = free(0, ge=0)
    """The expected number of processes: with any other the run does not start. 0: any number."""
    discriminator_turns: int = Field(1, ge=1)
    """Turns of D, each on a batch of its own, for each turn of G."""
    precision: Precision = "fp32"
    """fp64; fp32; tf32 (fp32 with TensorFloat-32 products, on a GPU); bf16 or fp16 mixed precision."""
    speed: Speed = free("auto")
    """How an update runs; the model is the same up to rounding. eager: kernel after kernel, as the host starts them;
    graph: each turn as a CUDA graph, so that a GPU does not wait for the host; compile: networks compiled by torch's
    inductor, all but what is differentiated twice. auto: graph on a GPU where it can be, else eager."""
    wire: Literal["fp32", "bf16"] = "fp32"
    """What gradients are rounded to when processes send them to each other. bf16: half of the bytes, added in fp32;
    then the model depends on the number of processes as far as bf16 rounds. One process sends nothing."""
    shard: bool = free(False)
    """Each process keeps and moves its part of the optimizers' states and of the averages, then all send each other the
    weights: less memory (up to 12 of 20 bytes a parameter), more on the wire, the same bits. For large networks."""
    timeout: float = free(600, ge=5)
    """Seconds without progress after which a run is ended and the process at fault is named; also how long the
    processes may take to meet at the start."""
    resume: PathText = free("auto", min_length=1)
    """auto: go on from the run's newest valid checkpoint; never: refuse to touch a run that has begun; else the path of
    a checkpoint of the same config, from which the run goes on exactly where it has none of its own."""
    resume_with_changed_code: bool = free(False)
    """Go on although the code of a part of your own has changed since the checkpoint. It may make another model."""
    begin_from: PathText = ""
    """A run or checkpoint from whose weights (of G, D and the average) this *new* run begins, whatever its config.
    It counts from 0 images. Once it has checkpoints of its own, these are used. Empty: initial weights."""
    begin_from_optimizers: bool = False
    """Take the optimizers' state from there too."""
    begin_from_partial: bool = free(False)
    """Layers that do not fit (another number of classes, for example) start from initial weights; else the run is
    refused."""
    freeze_discriminator_layers: int = Field(0, ge=0)
    """The first layers of D that never move (Mo et al. 2020, "Freeze the discriminator"): modules with weights of their
    own, in the order in which the network makes them (or as it states in `layers_in_order`)."""
    debug: bool = free(False)
    """A few updates with everything checked and every kind of file written, in a folder of its own beside `run`."""
    console: Literal["auto", "bar", "plain"] = free("auto")
    """bar, plain (lines for a log file), or auto: a bar in a terminal."""
    data: AnySource = MNIST()
    """Where real images come from."""
    networks: AnyRecipe = MLP()
    """The two players."""
    objective: Objective = Objective()
    """What they minimize."""
    generator_optimizer: AnyOptimizer = Adam()
    """How the weights of G move."""
    discriminator_optimizer: AnyOptimizer = Adam()
    """How the weights of D move."""
    ema: Averages = EMA()
    """The average of G's weights, from which samples are made. Or a list of several, each of which is sampled and
    evaluated: their names are ema, ema_2, ema_3, ema_4, and whatever needs one takes the first."""
    augment: AnyAugment = NoAugment()
    """What is done to every image that D sees."""
    track: Track = Track()
    """Metrics."""
    save: Save = Save()
    """Checkpoints."""
    sample: SampleGrid = SampleGrid()
    """Pictures."""
    evaluate: tuple[AnyMetric, ...] = free(())
    """What the images are judged by while the run trains. None of it changes what is learnt."""

    @property
    def batch_multiple(self) -> int:
        """Every microbatch must be a multiple of this many samples: full groups, also in each penalty's share."""
        return self.networks.batch_multiple * math.lcm(*(each.used_share for each in self.objective.penalties))

    @property
    def used_microbatch(self) -> int:
        """The microbatch that is used; 0: all of a process's part of the batch."""
        if self.microbatch or not self.exact:
            return self.microbatch
        multiple = self.batch_multiple
        least = -(-EXACT_MICROBATCH // multiple)
        groups, left = divmod(self.batch_size, multiple)
        if left:  # nothing fits
            return multiple * least
        return multiple * next((count for count in range(least, groups) if groups % count == 0), groups)

    @field_validator("begin_from")
    @classmethod
    def _one_spelling(cls, path: str) -> str:
        return str(Path(path)) if path else ""

    def identity(self) -> dict[str, Any]:
        """What determines the model; in an exact run that includes the microbatch."""
        return super().identity() | ({"microbatch": self.used_microbatch} if self.exact else {})

    def mistakes(self, world: int) -> list[str]:
        """Combinations that cannot work on `world` processes; each says what to change."""
        return mistakes(self, world)

    def only_eager(self) -> str:
        """Why a turn can only run as it is written; empty where there is no reason."""
        if self.precision == "fp16":
            return "the loss scale of fp16 changes on the host"
        if not (self.generator_optimizer.skips and self.discriminator_optimizer.skips):
            return "an optimizer does not decide on the device whether to skip a move"
        return ""

    @property
    def judged(self) -> tuple[Metric, ...]:
        """The metrics of `evaluate`: what is asked of the average of G is asked of each of several."""
        return judged(self)

    def best_metric(self) -> tuple[Metric, str] | None:
        """The metric and the name of its number that `save.best` means; None where it means none, or not one."""
        return best_metric(self)

    def unwise(self) -> list[str]:
        """What works, but most likely is not what was meant."""
        return unwise(self)
