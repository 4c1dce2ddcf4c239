"""Kill -9 at random times, again and again."""

import os
import random
import re
import signal
import time
from pathlib import Path

from dist_gan.run import checkpoint
from tests.campaigns.faults.runs import BATCH, Tally, exit_code, finish, lines, output, same_end, start


def kills(folder: Path, ranks: int, count: int, generator: random.Random) -> Tally:
    """Kill a run at random times of its life; each start goes on from the newest checkpoint. `count` kills in all."""
    tally = Tally(f"kill -9, {ranks} rank{'s' if ranks > 1 else ''}")
    images = BATCH * min(50, 10 + count)
    whole = folder / "whole"
    tally.check(not any(finish(whole, images, f"save.every={BATCH}", ranks=ranks)), "exit codes", "whole")
    tally.check(max([0, *lines(whole)]) == images, "stopped by itself", "whole")
    while tally.counts["kills"] < count and len(tally.failures) < 20:
        tally.counts["runs"] += 1
        begun = time.monotonic()
        finish(folder / f"timed-{tally.counts['runs']}", 10 * BATCH, f"save.every={BATCH}", ranks=ranks)
        life = 1.5 * (time.monotonic() - begun)  # of a start and some saves, as fast as this machine is just now
        _until_the_end(tally, folder / str(tally.counts["runs"]), whole, images, ranks, count, life, generator)
    return tally


def _until_the_end(
    tally: Tally, run: Path, whole: Path, images: int, ranks: int, count: int, life: float, generator: random.Random
) -> None:
    """One run, killed until it ends or all kills are spent; then it is left alone."""
    newest, read = 0, 0
    unwritten: set[int] = set()
    every = BATCH * generator.randint(1, 3)
    cadence = f"save.every={every}", f"save.keep={generator.randint(1, 3)}"
    while True:
        alone = tally.counts["kills"] >= count
        pids = start(run, images, *cadence, ranks=ranks)
        codes = [exit_code(os.waitpid(pid, 0)[1]) for pid in pids] if alone else _kill(pids, generator, life)
        said = output(run).read_text()[read:]
        read += len(said)
        for began in re.findall(r"^images +[\d,]*\d(?:, going on from ([\d,]+))?", said, re.MULTILINE):
            tally.counts["starts that came to train"] += 1
            at = int((began or "0").replace(",", ""))
            tally.check(at == newest, "silent fresh starts", f"{run}: from {at}, and {newest} was there")
        if not any(codes):
            return same_end(tally, run, whole, unwritten)
        if not tally.check(not alone and -signal.SIGKILL in codes, "failed by itself", f"{codes}: {said[-2000:]}"):
            return None
        tally.counts["kills"] += 1
        now = _found(tally, run, newest)
        if now > max([0, *lines(run)]):  # a rank that lost its peer in the metrics' reduction has saved, and no line
            tally.counts["saved by a survivor before its metrics"] += 1
            unwritten.add(now)
        trained = max([0, *lines(run)])
        tally.counts["most updates done again"] = max(tally.counts["most updates done again"], (trained - now) // BATCH)
        # a save may be under way while the next interval is trained
        tally.check(trained - now <= 2 * every, "more lost than two intervals", f"{run}: {trained}, {now}, {every}")
        newest = now


def _kill(pids: list[int], generator: random.Random, life: float) -> list[int]:
    """Kill the ranks at a random time of the life, in random order, together or one after the other."""
    order = generator.sample(pids, len(pids))
    moment = time.monotonic() + generator.uniform(0, life)
    gap = generator.choice([0, generator.uniform(0, 0.2)])
    codes: dict[int, int] = {}
    while time.monotonic() < moment and len(codes) < len(pids):
        for pid in set(pids) - codes.keys():
            if (found := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = exit_code(found[1])
        time.sleep(0.001)
    for pid in order:
        if pid not in codes:
            os.kill(pid, signal.SIGKILL)
            if len(codes) + 1 < len(pids):
                time.sleep(gap)
            codes[pid] = exit_code(os.waitpid(pid, 0)[1])
    return [codes[pid] for pid in pids]


def _found(tally: Tally, run: Path, before: int) -> int:
    """What a start will find; all that is published must be valid. Returns its images seen; 0: nothing yet."""
    parent = run / "checkpoints"
    tally.counts["hit within a save"] += any(parent.glob(".tmp-*"))
    tally.counts["hit within retention"] += any(parent.glob(".trash-*"))
    published = checkpoint.existing(parent)
    bad = [f"{path}: {problem}" for path in published if (problem := checkpoint.verify(path))]
    tally.check(not bad, "unusable checkpoints", str(bad))
    now = int(published[-1].name.removeprefix("images-")) if published else 0
    tally.check(now >= before, "checkpoints gone", f"{run}: {before} was there, now {now}")
    return now
