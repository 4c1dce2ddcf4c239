"""What goes wrong in a run, in words, from the numbers that it logs anyway. Pure: nothing is read, written or learnt.

That nothing wrong is said matters more than that it is said soon: each check waits until a run has warmed up, and
speaks only of what holds on several lines of metrics in a row. `docs/health.md` has all of them in one table.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

LINES = 5
"""Lines of metrics in a row on which something must hold. A line is a mean over all images since the one before."""
PATIENCE_IMAGES = 20_000
"""Images over which it must hold, and before which nothing is said. Measured: a D that does not
learn, and a data source that is too slow, show themselves within these."""
PATIENCE_UPDATES = 300
"""The same in updates, whichever is more: a large batch makes few updates of many images."""
LONG = 5
"""This many times longer must D be perfect before that is said, and pictures are looked at: many healthy runs begin
with a D that is nearly perfect, until G has found shapes."""
PERFECT = 0.99
"""D's accuracy. r_t = 2 * accuracy - 1 on real images near 1 is complete overfitting (Karras et al. 2020, "Training
generative adversarial networks with limited data", section 3, whose target is 0.6: an accuracy of 0.8). Not enough
alone: measured on MNIST, D of a healthy DCGAN is right of 99.8% for a while, as is one whose G hardly moves."""
FAR = 12.0
"""How far logits are apart then, as where real and fake images are +6 and -6: D is sure to 99.8%. Measured: 5.4 in the
healthy DCGAN, 14 to 46 where G hardly moves."""
CHANCE = 0.55
"""D's accuracy up to which it cannot tell: measured 0.53 of a D that does not learn. 0.5 is also what a perfect G
brings about, so this is judged only where it was never more, from the first images on, when fakes are noise."""
WORSE_THAN_CHANCE = 0.4
"""D's accuracy below which D is wrong more often than a coin: measured 0.32 where D does not learn and G does."""
VANISHED = 0.01
"""G's gradient norm, as a part of its mean at the beginning. Measured: 0.45 after a healthy run of 3,000,000 images;
0.005 where D is perfect and the loss saturates (Arjovsky and Bottou 2017, theorem 2.4)."""
STILL_APART = 0.5
"""How far apart the logits must still be, as a part of the beginning, for a small gradient to be an illness: where a G
is as good as its data, both are small."""
SKIPPED = 0.05
"""Moves skipped as a part of all. fp16 skips one in about 2,000 by design (PyTorch's GradScaler), and up to 16 once."""
EXPLODED = 1000.0
"""A loss, as a multiple of its mean size at the beginning (of 1 at least). Measured: up to 30 with a perfect D."""
EXPLODED_ALWAYS = 1e5
"""A loss that is never healthy, whatever it was at the beginning."""
WAITING = 0.5
"""The part of the time that is spent waiting for images."""
MOST_REMEMBERED = 1000
"""Lines of the beginning from which means are taken, at most."""
AGAIN = 2
"""Grids, or evaluations, in a row that must show the same; at the end of a run the last one is enough."""
STALLED = 0.5
"""The part of all images that have been seen since the best value."""
FEWEST_VALUES = 5
"""Values of a metric from which it can be said whether it stands still."""


class Finding(NamedTuple):
    """Something that is wrong with a run."""

    kind: str
    """One word, such as `waiting_for_data`; each kind is said once for each run."""
    text: str
    """What was seen, with its numbers: a sentence without its full stop."""
    advice: str
    """What to try, likewise."""


class Judge(NamedTuple):
    """What of a run Health must know to judge its numbers."""

    images_per_update: int
    batch_size: int
    verdict: Literal["sign", "order", "none"]
    """How D says what is real. sign: by positive logits, so that D's accuracy has a meaning; order: by logits that are
    higher than those of fakes; none: in another way, so neither is judged."""
    solved: float | None = None
    """D's loss up to which it tells all apart with a margin; None where its value does not say so."""
    from_noise: bool = True
    """Whether the metrics begin with a G that has learnt nothing."""

    @property
    def patience(self) -> int:
        """Images before which, and over which, nothing is said."""
        return max(PATIENCE_IMAGES, PATIENCE_UPDATES * self.images_per_update)


class _Streak:
    """How long something has held without a break."""

    def __init__(self) -> None:
        self.since = 0
        self.count = 0

    def add(self, holds: bool, before: int, images: int) -> tuple[int, int]:
        """One more observation, of the images from `before` on; returns (observations in a row, images that they
        cover)."""
        if not holds:
            self.count = 0
            return 0, 0
        if not self.count:
            self.since = before
        self.count += 1
        return self.count, images - self.since


class Health:
    """Judges a run by its lines of metrics, in the order of their images. Keeps sums, streaks and a bounded list."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.before = 0
        """The images of the line before."""
        self._streaks: dict[str, _Streak] = {}
        self._early: dict[str, list[float]] = {}
        self._always_at_chance = judge.from_noise

    def observe(self, images_seen: int, metrics: Mapping[str, float]) -> list[Finding]:
        """One line -> what is wrong now. The same kind comes again with each line on which it still holds.

        What a line does not have is not judged; lines of other metrics may come in between.
        """
        if "images_per_second" not in metrics:
            return []
        found = [
            self._too_strong(images_seen, metrics),
            self._too_weak(images_seen, metrics),
            self._vanishing(images_seen, metrics),
            self._skipping(images_seen, metrics),
            self._exploding(images_seen, metrics),
            self._waiting(images_seen, metrics),
        ]
        self.before = images_seen
        return [finding for finding in found if finding]

    def _long(self, kind: str, holds: bool, images: int, times: int = 1) -> bool:
        """Whether something holds now, and has for long enough."""
        lines, covered = self._streaks.setdefault(kind, _Streak()).add(holds, self.before, images)
        patience = self.judge.patience
        return lines >= LINES and covered >= times * patience and images >= patience

    def _beginning(self, name: str, value: float, images: int) -> float:
        """The mean size of `name` at the beginning: while the run warms up, and of the first lines at least."""
        values = self._early.setdefault(name, [])
        young = len(values) < LINES or (images <= self.judge.patience and len(values) < MOST_REMEMBERED)
        if young and math.isfinite(value):
            values.append(abs(value))
        return sum(values) / len(values) if values else math.inf

    def _too_strong(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        limit, loss = self.judge.solved, metrics.get("D/loss")
        accuracy, apart = metrics.get("D/accuracy"), _apart(metrics)
        if limit is not None and loss is not None:
            holds, seen = 0 <= loss <= limit, f"its loss is {loss:.2g}"
        elif self.judge.verdict == "sign" and accuracy is not None and apart is not None:
            holds, seen = accuracy >= PERFECT and apart >= FAR, f"it is right of {accuracy:.1%} of the images"
        else:
            return None
        if not self._long("strong", holds, images, LONG):
            return None
        return Finding(
            "discriminator_too_strong",
            f"D is too strong: {seen} and has been so for long, so G learns little from it",
            "Lower discriminator_optimizer.learning_rate (or raise G's), add objective.penalties=[{name: r1}] or "
            "augment.name=diffaugment; with few training images the augmentation helps most",
        )

    def _too_weak(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        apart, accuracy = _apart(metrics), metrics.get("D/accuracy")
        if self.judge.verdict == "none" or apart is None or accuracy is None:
            return None
        by_sign = self.judge.verdict == "sign"
        # Without a meaning of the sign, only the order of the logits says whether D has learnt anything.
        self._always_at_chance &= accuracy <= CHANCE if by_sign else apart <= 0
        never = self._long("never", self._always_at_chance, images)
        wrong = self._long("wrong", by_sign and accuracy < WORSE_THAN_CHANCE, images)
        if not never and not wrong:
            return None
        seen = f"it is right of {accuracy:.0%} of the images" if by_sign else f"real logits are higher by {apart:.2g}"
        since = "has never told real images from fakes, not even when these were noise" if never else "is mostly wrong"
        return Finding(
            "discriminator_too_weak",
            f"D is too weak: it {since} ({seen}), so what G learns from it leads nowhere",
            "Raise discriminator_optimizer.learning_rate (or lower G's), set discriminator_turns=2, or give D more "
            "width; also look at samples/real.png: are these the images that you meant?",
        )

    def _vanishing(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        norm, apart = metrics.get("G/gradient_norm"), _apart(metrics)
        if norm is None or apart is None:
            return None
        apart = abs(apart) if self.judge.verdict == "none" else apart
        usual = self._beginning("G/gradient_norm", norm, images)
        usually_apart = self._beginning("apart", apart, images)
        moves = metrics.get("G/skipped", 0) == 0  # the norm of a move that is skipped counts as 0
        holds = moves and norm < VANISHED * usual and apart >= STILL_APART * usually_apart
        if not self._long("vanishing", holds, images):
            return None
        return Finding(
            "generator_gradient_vanishes",
            f"G's gradient has vanished: its norm is {norm:.2g}, and was {usual:.2g} at the beginning, while D still "
            "tells real images from fakes",
            "Use objective.loss.name=non_saturating instead of minimax, lower discriminator_optimizer.learning_rate, "
            "or add objective.penalties=[{name: r1}]",
        )

    def _skipping(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        new = images - self.before
        each = {"D": self.judge.batch_size, "G": self.judge.images_per_update}
        rates = {player: metrics.get(f"{player}/skipped", 0) * size / max(1, new) for player, size in each.items()}
        player = max(rates, key=lambda player: rates[player])
        if not self._long("skipping", rates[player] >= SKIPPED, images):
            return None
        return Finding(
            "moves_skipped",
            f"{min(1.0, rates[player]):.0%} of the moves of {player} are skipped, since their gradients are not finite "
            "(NaN or Inf)",
            "Lower the learning rates or set clip=1 in both optimizers; with fp16 use bf16 or fp32; look for broken "
            "numbers in a loss, network or augmentation of your own",
        )

    def _exploding(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        worst = ("", 0.0, 0.0)
        for name in ("D/loss", "G/loss"):
            value = metrics.get(name, 0.0)
            usual = max(1.0, self._beginning(name, value, images)) if name in metrics else 1.0
            if abs(value) >= min(EXPLODED * usual, EXPLODED_ALWAYS) and abs(value) > abs(worst[1]):
                worst = (name, value, usual)
        if not self._long("exploding", bool(worst[0]), images):
            return None
        name, value, usual = worst
        return Finding(
            "loss_explodes",
            f"{name} explodes: it is {value:.3g}, and its size was {usual:.3g} at the beginning",
            "Lower the learning rates, add a gradient penalty (objective.penalties=[{name: r1}]; a wasserstein loss "
            "needs wgan_gp), or set clip=1 in both optimizers",
        )

    def _waiting(self, images: int, metrics: Mapping[str, float]) -> Finding | None:
        speed, waited = metrics["images_per_second"], metrics.get("seconds_waiting_for_data")
        if waited is None or speed <= 0 or images <= self.before:
            return None
        part = min(1.0, waited * speed / (images - self.before))
        if not self._long("waiting", part > WAITING, images):
            return None
        return Finding(
            "waiting_for_data",
            f"Training waits for images in {part:.0%} of its time",
            "Raise data.workers (and the job's CPU cores) or data.resident_megabytes, give images that are small "
            "already, or put them on a local disk",
        )


def _apart(metrics: Mapping[str, float]) -> float | None:
    """How much higher the logits of real images are; None where these are not logged."""
    real, fake = (metrics.get(name) for name in ("D/real_logit", "D/fake_logit"))
    return None if real is None or fake is None else real - fake


class Again:
    """Lets a finding pass that is there `AGAIN` times in a row, or at the end of the run; for what is looked at
    seldom, such as pictures and evaluations."""

    def __init__(self, judge: Judge, images: int) -> None:
        """`images`: those of the whole run."""
        self.patience = LONG * judge.patience
        """Images before which nothing passes."""
        self.images = images
        self._counts: dict[str, int] = {}

    def pass_on(self, images_seen: int, findings: Iterable[Finding | None]) -> list[Finding]:
        """All findings of one look at the run -> those to say. None stands for a check that found nothing."""
        if images_seen < self.patience:
            return []
        found = [finding for finding in findings if finding]
        self._counts = {f.kind: self._counts.get(f.kind, 0) + 1 for f in found}
        enough = 1 if images_seen >= self.images else AGAIN
        return [finding for finding in found if self._counts[finding.kind] >= enough]


def stalled(history: Sequence[tuple[int, float]], higher: bool, name: str = "the metric") -> Finding | None:
    """Whether a metric's best value, or one as good, is more than half of the run ago.

    Args:
        history: (images seen, value) of one metric, in order, the newest last; values that are not finite are left out.
        higher: whether a higher value is better.
        name: of the metric, for people.
    """
    values = [(images, value) for images, value in history if math.isfinite(value)]
    if len(values) < FEWEST_VALUES:
        return None
    now = values[-1][0]
    best_at, best = max(values, key=lambda pair: (pair[1] if higher else -pair[1], pair[0]))
    if now - best_at <= STALLED * now:
        return None
    return Finding(
        "stalled",
        f"{name} has not become better since {best_at:,} images: it was {best:.4g} then, and is {values[-1][1]:.4g} at "
        f"{now:,}",
        "Use the best checkpoint instead of the last. To get further, lower both learning rates (a schedule), or "
        "change the networks or the objective: more images of the same will hardly help",
    )
