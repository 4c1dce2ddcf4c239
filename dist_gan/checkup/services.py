"""Lines about services that a run uses: W&B and SLURM."""

import importlib.util
import os
import socket
import subprocess
import urllib.request
from urllib.parse import urlsplit

from dist_gan.checkup.lines import Line, Mark
from dist_gan.config.schema import Track
from dist_gan.run.folder import RunFolder
from dist_gan.run.tracker import noted_wandb_id, upload_command, wandb_mode, wandb_url

PATIENCE = 3.0
"""Seconds that a connection may take."""


def wandb(track: Track, run: RunFolder) -> Line:
    """Where a run's metrics would go. Never a problem: training goes on without W&B."""
    if importlib.util.find_spec("wandb") is None:
        asked = track.wandb in ("online", "offline")
        found = "not installed: metrics stay in metrics.jsonl"
        return Line(found, Mark.ADVICE if asked else Mark.OK, "`pip install wandb`, or track.wandb=disabled")
    mode = "disabled" if track.wandb == "disabled" else wandb_mode(track)
    upload = upload_command(run.path, noted_wandb_id(run) or "*")
    if mode != "online":
        later = f", project {track.project}: `{upload}` sends it later" if mode == "offline" else ""
        return Line(mode + later)
    if wandb_mode(Track(wandb="auto")) != "online" and not os.environ.get("WANDB_MODE"):
        return Line(
            "online, without an API key", Mark.ADVICE, "`wandb login`, or WANDB_API_KEY, or track.wandb=offline"
        )
    host, port = _server(wandb_url())
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        return Line(
            f"online, and {host}:{port} cannot be reached ({error.strerror or error})",
            Mark.ADVICE,
            f"track.wandb=offline, and `{upload}` later; training does not wait for it either way",
        )
    return Line(f"online, project {track.project}, at {wandb_url()}, which answers")


def slurm(job: str) -> Line:
    """What SLURM will do with this job at its time limit."""
    try:
        asked = ["scontrol", "show", "job", job]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Line(f"job {job}; scontrol gives no answer ({error})")
    fields = dict(part.split("=", 1) for part in done.stdout.split() if "=" in part)
    if done.returncode != 0 or "TimeLimit" not in fields:
        return Line(f"job {job}; scontrol: {done.stderr.strip() or 'no time limit in its answer'}")
    found = f"job {job}, time limit {fields['TimeLimit']}" + (f", signal {s}" if (s := fields.get("Signal")) else "")
    if fields.get("Requeue") == "0":
        return Line(
            f"{found}, may not be requeued",
            Mark.ADVICE,
            "sbatch --requeue, as slurm/train.sbatch has it: else the run stops at the time limit for good",
        )
    return Line(f"{found}, may be requeued")


def _server(url: str) -> tuple[str, int]:
    """(host, port) that must answer: the proxy where one is set, else the server."""
    parts = urlsplit(url if "//" in url else f"https://{url}")
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
        host = parts.hostname or ""
    return host, parts.port or (443 if parts.scheme == "https" else 80)
