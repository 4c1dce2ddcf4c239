"""Where metrics and pictures go: `metrics.jsonl` always; W&B and TensorBoard, which never delay or end training."""

import importlib.util
import netrc
import os
import queue
import secrets
import shlex
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
    """Rank 0's tracker. Each service has a thread of its own: training neither waits for it nor fails with it."""

    def __init__(
        self,
        recipe: Track,
        folder: RunFolder,
        config: Mapping[str, Any],
        wandb_id: str | None,
        warn: Callable[[str], None],
        say: Callable[[str], None] = lambda _: None,
        images_seen: int = 0,
    ) -> None:
        """What is given to W&B and TensorBoard from now on.

        Args:
            recipe: what the user chose.
            folder: of the run.
            config: what W&B shows as the run's configuration; JSON data.
            wandb_id: of the W&B run that goes on; None begins one.
            warn: shows a warning.
            say: shows a line; called from a thread, once W&B's address of the run is known.
            images_seen: where training goes on: what TensorBoard has from later on is shown no more.
        """
        self.folder = folder
        self.wandb_id = wandb_id or secrets.token_hex(4)
        self.services = ["metrics.jsonl"]
        """Where metrics go, as text."""
        self.upload = ""
        """The command that uploads all parts of this run to W&B, where it is offline."""
        self._warn = warn
        self._mailboxes: list[_Mailbox] = []
        mode = "disabled" if recipe.wandb == "disabled" else wandb_mode(recipe)
        if mode != "disabled" and self._installed("wandb", needed=recipe.wandb != "auto"):
            options = {
                "id": self.wandb_id,
                "name": folder.path.name,
                "dir": str(folder.path),
                "mode": mode,
                # Offline too: it is written into each part, and `wandb sync` then appends instead of writing over.
                "resume": "allow",
                "config": dict(config),
                "group": recipe.group or None,
                "tags": list(recipe.tags) or None,
                "notes": recipe.notes or None,
                "settings": {"init_timeout": SERVICE_SECONDS, "console": "off", "silent": True},
            }
            self.services.append(f"W&B {mode}, project {recipe.project}, run {self.wandb_id}")
            if mode == "offline":
                self.upload = upload_command(folder.path, self.wandb_id)
            self._mailboxes.append(_Mailbox(WANDB, lambda: _WandB(recipe.project, options, say), warn))
        if recipe.tensorboard and self._installed("tensorboard", needed=True):
            self.services.append("TensorBoard")
            self._mailboxes.append(_Mailbox(TENSORBOARD, lambda: _TensorBoard(folder.path, images_seen), warn))

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
        """Send what is left, and wait `SERVICE_SECONDS` at most. Returns whether everything was sent."""
        return all([mailbox.close() for mailbox in self._mailboxes])

    def _installed(self, package: str, *, needed: bool) -> bool:
        spec = importlib.util.find_spec(package)
        there = spec is not None and spec.loader is not None  # a folder that W&B made here has no loader
        if not there and needed:
            self._warn(f"{package} is not installed: nothing goes there; metrics.jsonl has everything")
        return there


class _Mailbox:
    """A service with a queue and a thread. The first failure closes it, and is reported once."""

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
            self.warn(f"{self.name} is not used any more ({first_line}); metrics.jsonl still gets everything")


class _Service:
    tracker: Any

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None: ...

    def picture(self, images_seen: int, path: Path) -> None: ...

    def finish(self) -> None:
        self.tracker.finish()


class _WandB(_Service):
    def __init__(self, project: str, options: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.tracker = _started(WandBTracker(project, **options))
        if options["mode"] == "online":
            say(f"W&B: {self.tracker.tracker.url}")
        # A step of our own: W&B's counts calls, and after a resume it would refuse to go back.
        self.tracker.tracker.define_metric("*", step_metric="images")

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        self.tracker.log({"images": images_seen, **metrics})

    def picture(self, images_seen: int, path: Path) -> None:
        import wandb

        self.tracker.log({"images": images_seen, _title(path): wandb.Image(str(path))})


class _TensorBoard(_Service):
    def __init__(self, folder: Path, images_seen: int) -> None:
        # What comes after the checkpoint that a run goes on from will be logged again: steps never go back.
        purge = images_seen + 1 if images_seen else 0
        self.tracker = _started(TensorBoardTracker("tensorboard", logging_dir=str(folder), purge_step=purge))

    def metrics(self, images_seen: int, metrics: dict[str, float]) -> None:
        self.tracker.log(metrics, step=images_seen)

    def picture(self, images_seen: int, path: Path) -> None:
        import numpy
        from PIL import Image

        with Image.open(path) as image:
            pixels = numpy.asarray(image.convert("RGB"))
        self.tracker.log_images({_title(path): pixels[None]}, step=images_seen, dataformats="NHWC")


def _title(picture: Path) -> str:
    """`samples`, or `samples_ema_2` of another average."""
    return "_".join(["samples", *picture.stem.split("-")[1:]])


def _started(tracker: Any) -> Any:
    if hasattr(tracker, "start"):
        tracker.start()
    return tracker


def wandb_mode(recipe: Track) -> str:
    """The mode of W&B, where it is installed: online, offline or disabled. WANDB_MODE overrides the config."""
    mode = os.environ.get("WANDB_MODE") or (_wandb_mode() if recipe.wandb == "auto" else recipe.wandb)
    return "offline" if mode == "dryrun" else mode  # its old name


def noted_wandb_id(folder: RunFolder) -> str | None:
    """The W&B run that belongs to a run's folder, as status.json says.

    A folder that was renamed or moved has its inode number still, one that was brought back from a copy its path: both
    go on in their W&B run. A copy of another run's folder has neither, and gets a W&B run of its own.
    """
    noted = folder.read_status().get("wandb")
    if not isinstance(noted, dict) or not folder.path.is_dir():
        return None
    is_same = any(noted.get(key) == value for key, value in _place(folder).items())
    return str(noted["id"]) if is_same else None


def wandb_note(folder: RunFolder, wandb_id: str) -> dict[str, Any]:
    """What status.json says of a run's W&B run: its id, and the folder that it belongs to."""
    return {"id": wandb_id, **_place(folder)}


def _place(folder: RunFolder) -> dict[str, Any]:
    return {"path": str(folder.path.resolve()), "inode": folder.path.stat().st_ino}


def upload_command(run: Path, wandb_id: str) -> str:
    """The shell command that uploads all offline parts of a run to W&B, in order.

    Every start of a run writes a part of its own, named after its time and the run's id, so the shell lists them in the
    order of time. (The second of two parts that start in one second has a number behind the id.) `wandb sync` skips
    parts that were uploaded before.
    """
    return f"wandb sync {shlex.quote(str(run / 'wandb'))}/offline-run-*-{wandb_id.rstrip('*')}*"


def wandb_url() -> str:
    """W&B's server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _wandb_mode() -> str:
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = wandb_url().split("//")[-1].strip("/")
    try:
        file = os.environ.get("NETRC")
        known = netrc.netrc(os.path.expanduser(file) if file else None).authenticators(host)  # noqa: PTH111  # as W&B
    except (OSError, ValueError, netrc.NetrcParseError):  # what is no netrc holds no key
        known = None
    return "online" if known and known[2] else "offline"
