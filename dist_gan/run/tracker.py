"""Metrics and images out: `metrics.jsonl` always; W&B and TensorBoard beside the training, never in its way."""

import importlib.util
import netrc
import os
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from accelerate.tracking import TensorBoardTracker, WandBTracker

from dist_gan.config.schema import Track
from dist_gan.distributed.timing import SERVICE_SECONDS
from dist_gan.run.folder import RunFolder

WANDB, TENSORBOARD = "W&B", "TensorBoard"


class Tracker:
    """Rank 0's. What goes out to services is handed to a thread of its own: training neither waits for it nor fails
    with it."""

    def __init__(
        self,
        recipe: Track,
        folder: RunFolder,
        config: Mapping[str, Any],
        wandb_id: str | None,
        warn: Callable[[str], None],
    ) -> None:
        """`wandb_id`: of the W&B run that goes on; None begins one."""
        self.folder = folder
        self.wandb_id = wandb_id or secrets.token_hex(4)
        self._warn = warn
        self._mailboxes: list[_Mailbox] = []
        if recipe.wandb != "disabled" and self._installed("wandb", needed=recipe.wandb != "auto"):
            mode = wandb_mode(recipe)
            options = {
                "id": self.wandb_id,
                "name": folder.path.name,
                "dir": str(folder.path),
                "mode": mode,
                "resume": "allow" if mode == "online" else None,
                "config": dict(config),
                "settings": {"init_timeout": SERVICE_SECONDS, "console": "off", "silent": True},
            }
            self._mailboxes.append(_Mailbox(WANDB, lambda: _WandB(recipe.project, options), warn))
        if recipe.tensorboard and self._installed("tensorboard", needed=True):
            self._mailboxes.append(_Mailbox(TENSORBOARD, lambda: _TensorBoard(folder.path), warn))

    def metrics(self, images_seen: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics."""
        self.folder.append({"images": images_seen, **metrics})
        for mailbox in self._mailboxes:
            mailbox.put(("metrics", images_seen, dict(metrics)))

    def picture(self, images_seen: int, path: Path) -> None:
        """A sample grid that was written to `path`."""
        for mailbox in self._mailboxes:
            mailbox.put(("picture", images_seen, path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> bool:
        """Send what is left; wait `SERVICE_SECONDS` at most. Whether all is gone out."""
        return all([mailbox.close() for mailbox in self._mailboxes])

    def _installed(self, package: str, *, needed: bool) -> bool:
        there = importlib.util.find_spec(package) is not None
        if not there and needed:
            self._warn(f"{package} is not installed: nothing goes there; metrics.jsonl has it all")
        return there


class _Mailbox:
    """A service behind a queue and a thread. The first failure closes it, and is told once."""

    def __init__(self, name: str, start: Callable[[], "_Service"], warn: Callable[[str], None]) -> None:
        self.name = name
        self.warn = warn
        self.alive = True
        self.queue: queue.Queue[tuple[str, int, Any] | None] = queue.Queue(maxsize=1000)
        self.thread = threading.Thread(target=self._serve, args=(start,), name=name, daemon=True)
        self.thread.start()

    def put(self, item: tuple[str, int, Any]) -> None:
        if self.alive:
            try:
                self.queue.put_nowait(item)
            except queue.Full:
                self._fail("its queue is full")

    def close(self) -> bool:
        if self.alive:
            try:
                self.queue.put(None, timeout=SERVICE_SECONDS)
            except queue.Full:
                self._fail("its queue is full")
        self.thread.join(SERVICE_SECONDS)
        if self.thread.is_alive():
            self._fail(f"it did not finish in {SERVICE_SECONDS:.0f} s")
        return not self.thread.is_alive()

    def _serve(self, start: Callable[[], "_Service"]) -> None:
        try:
            service = start()
            while (item := self.queue.get()) is not None:
                kind, images_seen, content = item
                if kind == "metrics":
                    service.metrics(images_seen, content)
                else:
                    service.picture(images_seen, content)
            service.finish()
        except Exception as error:  # whatever a service raises, training goes on
            self._fail(str(error) or type(error).__name__)

    def _fail(self, reason: str) -> None:
        if self.alive:
            self.alive = False
            first_line = reason.strip().splitlines()[0]
            self.warn(f"{self.name} is left alone from now on ({first_line}); metrics.jsonl goes on")


class _Service:
    tracker: Any

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None: ...

    def picture(self, images_seen: int, path: Path) -> None: ...

    def finish(self) -> None:
        self.tracker.finish()


class _WandB(_Service):
    def __init__(self, project: str, options: Mapping[str, Any]) -> None:
        self.tracker = _started(WandBTracker(project, **options))
        # A step of our own: W&B's counts calls, and after a resume it would refuse to go back.
        self.tracker.tracker.define_metric("*", step_metric="images")

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        self.tracker.log({"images": images_seen, **metrics})

    def picture(self, images_seen: int, path: Path) -> None:
        import wandb

        self.tracker.log({"images": images_seen, "samples": wandb.Image(str(path))})


class _TensorBoard(_Service):
    def __init__(self, folder: Path) -> None:
        self.tracker = _started(TensorBoardTracker("tensorboard", logging_dir=str(folder)))

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        self.tracker.log(metrics, step=images_seen)

    def picture(self, images_seen: int, path: Path) -> None:
        import numpy
        from PIL import Image

        with Image.open(path) as image:
            pixels = numpy.asarray(image.convert("RGB"))
        self.tracker.log_images({"samples": pixels[None]}, step=images_seen, dataformats="NHWC")


def _started(tracker: Any) -> Any:
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def still_busy() -> bool:
    """Whether a service hangs. Its own exit handlers would then hang too: leave by os._exit."""
    return any(thread.name in (WANDB, TENSORBOARD) for thread in threading.enumerate())


def wandb_mode(recipe: Track) -> str:
    """What W&B would do, where it is installed: online, offline or disabled; WANDB_MODE wins."""
    return os.environ.get("WANDB_MODE") or (_wandb_mode() if recipe.wandb == "auto" else recipe.wandb)


def wandb_url() -> str:
    """W&B's server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _wandb_mode() -> str:
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = wandb_url().split("//")[-1].strip("/")
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"
