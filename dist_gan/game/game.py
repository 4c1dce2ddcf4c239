"""The game: two players and their alternating update, as a function of the images seen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from dist_gan.data.source import Batch
from dist_gan.distributed.exact_sum import FixedPointSum
from dist_gan.distributed.processes import Processes
from dist_gan.distributed.reduction import reduction_for
from dist_gan.distributed.shards import Owners
from dist_gan.distributed.traffic import purpose
from dist_gan.game.dials import AUGMENT, Rates, TurnNumbers
from dist_gan.game.gradients import Gradients
from dist_gan.game.meter import G_PENALTY, SCALARS, Meter, Scalar
from dist_gan.game.player import Player, own_move_in
from dist_gan.game.purity import PurityGuard
from dist_gan.game.speed import Eager, Part, Runner, undone
from dist_gan.game.states import NetworkState, OptimizerState, ScalerState
from dist_gan.game.turn import MOVERS, Mover, Turn, alone_of, turns_of
from dist_gan.networks.base import Networks
from dist_gan.objective.augment import Augment, NoAugment
from dist_gan.objective.followers import Followers
from dist_gan.objective.objective import Objective, Terms
from dist_gan.optim.ema import EMA, Average, by_name
from dist_gan.optim.optimizers import Optimizer
from dist_gan.part import Stateful


class Watch(Protocol):
    """Watches every turn, as debug mode does."""

    def __call__(self, turn: str, player: "Player[Any]", terms: Terms) -> None:
        """After `turn` ("D" or "G") of `player`, with the last microbatch's terms."""


class Game:
    """G, D, the average of G, and how they move. `members` is everything that a checkpoint must hold."""

    def __init__(
        self,
        processes: Processes,
        networks: Networks,
        objective: Objective,
        *,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        ema: EMA | Sequence[EMA],
        augment: Augment | None = None,
        seed: int,
        batch_size: int,
        microbatch: int = 0,
        batch_multiple: int = 1,
        discriminator_turns: int = 1,
        scalars: Sequence[Scalar] = (),
        watch: Watch | None = None,
        guard: Literal["first", "always", "never"] = "first",
        runner: Runner | None = None,
        wire: Literal["fp32", "bf16"] = "fp32",
        shard: bool = False,
    ) -> None:
        """All parts come as objects.

        Args:
            processes: this process among the others.
            networks: both, on the CPU.
            objective: the rules.
            generator_optimizer: how the weights of G move.
            discriminator_optimizer: how the weights of D move.
            ema: how the average of G forgets, or each of several.
            augment: what is done to every image that D sees.
            seed: everything random is a function of it.
            batch_size: images of one turn of D, over all processes.
            microbatch: samples of one forward and backward in a process; 0: all of its part of the batch.
            batch_multiple: the number of samples in a forward must be a multiple of this.
            discriminator_turns: turns of D, each on a batch of its own, for each turn of G.
            scalars: what is logged in addition to the usual.
            watch: called after every turn.
            guard: in which updates it is checked that the networks are pure (see `dist_gan.game.purity`).
            runner: how turns run (see `dist_gan.game.speed`); None: as they are written.
            wire: what gradients are rounded to when they are sent.
            shard: each process keeps and moves its part of the optimizers' states and of the averages.
        """
        for network in networks:
            network.to(processes.device, processes.dtype).train()
        self.processes = processes
        self.runner: Runner = runner or Eager()
        self.objective = objective
        self.augment: Augment = augment or NoAugment()
        owners = Owners(processes) if shard and processes.count > 1 else None
        self.sharded = owners is not None
        self.averages = {
            name: Average(each, networks.generator, seed, batch_multiple, owners) for name, each in by_name(ema).items()
        }
        self.average = next(iter(self.averages.values()))
        self.seed = seed
        self.batch_size = batch_size
        self.discriminator_turns = discriminator_turns
        self.images_per_update = discriminator_turns * batch_size
        self.images_seen = 0

        named = {f"penalty-{i}-{p.name}": p for i, p in enumerate(objective.penalties)}
        optimizers: dict[str, Optimizer] = {
            "D": discriminator_optimizer.rescale(own_move_in(objective.penalties, "D", batch_size)),
            "G": generator_optimizer.rescale(own_move_in(objective.penalties, "G", self.images_per_update)),
        }
        rates = Rates(optimizers, processes.device, processes.dtype)
        self.followers = Followers({AUGMENT: self.augment, **named}, processes)
        names = [*named, *self.averages]
        self.numbers = TurnNumbers(names, rates, self.augment, self.followers, processes.device, processes.dtype)
        largest = max(sum(p.numel() for p in network.parameters() if p.requires_grad) for network in networks)
        microbatches = batch_size // microbatch if microbatch else processes.count
        fixed = FixedPointSum(processes, microbatches, largest) if processes.exact else None

        def player(network: Any, name: Mover) -> Player[Any]:
            flat, bf16 = self.runner.flat, wire == "bf16"
            reduction = reduction_for(network, processes, batch_size, fixed, flat=flat, bf16=bf16)
            return Player(network, optimizers[name], processes, reduction, rates.of(name), owners=owners)

        self.generator = player(networks.generator, "G")
        self.discriminator = player(networks.discriminator, "D")
        self.players: dict[Mover, Player[Any]] = {"D": self.discriminator, "G": self.generator}
        every: dict[Mover, int] = {"D": batch_size, "G": self.images_per_update}
        self.turns = turns_of(objective, networks, self.augment, named, every)
        if any(turn.penalties for turn in self.turns.values() if turn.player == "G"):
            scalars = (G_PENALTY, *scalars)
        self.meter = Meter(processes, batch_size, (*SCALARS, *scalars), tuple(self.turns))
        self.gradients = Gradients(
            processes,
            objective,
            self.players,
            self.augment,
            self.followers,
            self.meter,
            seed=seed,
            microbatch=microbatch or batch_size // processes.count,
        )
        self.watch = watch
        self._skipped_by_G = torch.zeros_like(self.generator.skipped)
        self._moves_so_far = self._moves()
        self._guard = None if guard == "never" else PurityGuard(networks)
        self._guards_once = guard == "first"
        self.members: dict[str, Stateful] = {
            "generator": NetworkState(networks.generator),
            "discriminator": NetworkState(networks.discriminator),
            **self.averages,
            "generator_optimizer": OptimizerState(self.generator.optimizer, networks.generator, owners),
            "discriminator_optimizer": OptimizerState(self.discriminator.optimizer, networks.discriminator, owners),
            "scaler": ScalerState(processes.scaler),
            **self.followers.members,
        }

    def update(self, batches: Iterator[Batch]) -> None:
        """D's turns, each on the next of `batches`, then G's turn on the last of them, then the average.

        All batches are read before the first move: if one cannot be read, the game is as the last update left it.
        """
        taken = [next(batches) for _ in range(self.discriminator_turns)]
        for average in self.averages.values():
            average.release()
        if self._guard and not self.runner.watched:
            self._rehearse(taken)
        with self._guard.watching() if self._guard and self.runner.watched else nullcontext():
            self._play_all(taken)
        if self._guards_once:
            self._guard = None
        self.images_seen += self.images_per_update
        between = (self.images_seen, self.images_per_update)
        self.numbers.dials.fill({name: each.recipe.weight(*between) for name, each in self.averages.items()})
        self.runner.run("the average", self._follow, self._tensors)
        self._moves_so_far = self._moves()

    def play(self, turn: Turn, batch: Batch, images_seen: int) -> None:
        """One player's turn: its gradients over all microbatches of all processes, then its move."""
        mover = self.players[turn.player]
        due, state = self.numbers.fill(turn, images_seen)
        held = self.runner.hold(batch)
        observing = self.gradients.observers(turn, due)
        last: list[Terms] = []

        def gradients() -> None:
            last[:] = [self.gradients.compute(turn, held, due, state)]
            mover.reduction.collect()

        def communicate() -> None:
            mover.reduction.communicate()
            self.followers.communicate(observing)

        def begin() -> None:
            mover.moves += not mover.rehearsing

        def move() -> None:
            mover.reduction.deliver()
            if not mover.rehearsing:
                mover.move()

        def settle() -> None:
            if not mover.rehearsing:
                mover.settle()
            self.meter.moved(turn.name, mover.gradient_norm, mover.skipped)
            if turn.player == "G" and not turn.alone:
                self._skipped_by_G.copy_(mover.skipped)
            self.followers.settle(observing, 1 - mover.skipped, rehearsing=mover.rehearsing)

        parts = [Part(gradients), Part(communicate, "sends"), Part(begin, "host"), Part(move)]
        parts += [Part(mover.gather, "sends")] if mover.shards else []
        self.processes.pulse.enter(turn.title, images_seen)
        self.meter.count(turn.name)
        key = ", ".join([turn.title, *(f"with {each.name}" for each in due)])
        try:
            with purpose(f"{turn.player}_gradients"):
                self.runner.play(key, [*parts, Part(settle)], self._tensors)
        finally:
            mover.rest()
        if self.watch and not turn.alone:
            self.watch(turn.player, mover, last[0])

    def warm_up_reduction(self, batches: Iterator[Batch]) -> None:
        """Both turns twice, without a move, before the first update of a start, where the reduction needs it.

        DDP changes its buckets after its first backward, and where the chunks of an all-reduce begin decides in which
        order the gradients of three or more ranks are added. After this, a resumed run reduces exactly as one that
        never stopped.
        """
        if not self.generator.reduction.rehearses:
            return
        batch = next(batches)
        for player in self.players.values():
            player.rehearsing = True
        for _ in range(2):
            for name in MOVERS:
                self.play(self.turns[name], batch, self.images_seen)
        for player in self.players.values():
            player.rehearsing = False
        self.meter.reset()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that the game needs to continue, by member and name. Changes nothing."""
        return {name: member.state() for name, member in self.members.items()}

    def load(self, state: Mapping[str, Mapping[str, Tensor]], images_seen: int) -> None:
        """The inverse of `state`. Raises KeyError where a member or an entry of one is missing."""
        for name, member in self.members.items():
            member.load(state[name])
        self.runner.forget()  # an optimizer has other tensors now
        self.images_seen = images_seen

    @property
    def untouched(self) -> bool:
        """Whether no player has moved since the last complete update: then the state is that of `images_seen`."""
        return self._moves() == self._moves_so_far

    def learning_rates(self) -> dict[str, float]:
        """The learning rates of the next update, by player, for logs."""
        return {name: player.recipe.rate(self.images_seen) for name, player in self.players.items()}

    def _moves(self) -> int:
        return self.generator.moves + self.discriminator.moves

    def _play_all(self, taken: Sequence[Batch]) -> None:
        for number, batch in enumerate(taken):
            for turn, images_seen in self._turns_on(number):
                own = batch
                if turn.player == "G" and batch.fresh:  # its real images; its random numbers are those of the batch
                    own = batch.fresh._replace(ordinals=batch.ordinals)
                self.play(turn, own, images_seen)

    def _rehearse(self, taken: Sequence[Batch]) -> None:
        """Play the turns as they are written, watched by the guard, and undo them."""
        assert self._guard is not None
        moves = {name: player.moves for name, player in self.players.items()}
        runner, self.runner = self.runner, Eager()
        try:
            with undone(self._tensors), self._guard.watching():
                self._play_all(taken)
        finally:
            self.runner = runner
        for name, player in self.players.items():
            player.moves = moves[name]
        self.meter.reset()

    def _follow(self) -> None:
        for name, average in self.averages.items():
            average.follow(self.numbers.dials[name] * (1 - self._skipped_by_G))

    def _tensors(self) -> list[Tensor]:
        """All tensors that turns and averages change. They are the same ones until another state is loaded."""
        networks = [player.network for player in self.players.values()]
        found = [t for network in networks for t in (*network.parameters(), *network.buffers())]
        for player in self.players.values():
            found += player.tensors()
        found += [tensor for average in self.averages.values() for tensor in average.tensors()]
        return [*found, *self.followers.tensors, *self.meter.tensors, self._skipped_by_G]

    def _turns_on(self, number: int) -> list[tuple[Turn, int]]:
        """What is played on an update's batch of this number, and the images seen where each turn begins."""
        players = MOVERS[: 2 if number == self.discriminator_turns - 1 else 1]
        begins = {"D": self.images_seen + number * self.batch_size, "G": self.images_seen}
        turns = [(self.turns.get(name), begins[p]) for p in players for name in (p, alone_of(p))]
        return [(turn, begin) for turn, begin in turns if turn and turn.takes_place(begin)]
