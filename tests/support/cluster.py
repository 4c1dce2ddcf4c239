"""A real SLURM on this machine, for as long as the tests need it: its daemons, and virtual nodes to crash.

Each node has its own processes, host name and /etc/hosts, by namespaces; the network and the disk are the machine's.
Nothing outside one folder in /tmp is written, and whatever was started dies with this process.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import ROOT

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
COMMANDS = ["slurmctld", "slurmd", "sbatch", "munged", "unshare", "setpriv"]
REQUEUE = 8
"""Seconds that a requeued job waits. A job's start must not take longer either."""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "OUT_OF_MEMORY")
NODE = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--uts", "--mount"]
# bash is process 1 of the node: when slurmd ends, so does the node, and every process on it.
BOOT = """
echo "$1" > /proc/sys/kernel/hostname
mount --bind "$2/etc/hosts" /etc/hosts
[ ! -d /etc/slurm ] || mount --bind "$2/etc" /etc/slurm
slurmd -D -N "$1" -f "$2/etc/slurm.conf" &
wait "$!"
"""
# JobRequeue=0: only jobs that ask for it can be requeued. KillWait: how long a cancelled or preempted job has to end.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
FirstJobId={first}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire={requeue}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld
SlurmdPidFile={folder}/run/%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
ReturnToService=2
KillWait=20
MinJobAge=3600
SlurmdTimeout=15
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=OFF State=UP
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 State=UP
PartitionName=cancel Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL GraceTime=20 State=UP
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=100 PreemptMode=OFF State=UP
"""


class Cluster:
    """node1, node2, ... of 4 CPUs, in the partitions main, low and cancel, which high preempts (by requeue and by
    cancelling), and high."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.conf = folder / "etc/slurm.conf"
        self.nodes = [f"node{k + 1}" for k in range(count)]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for name in ("etc", "munge", "state", "spool", "run", "log", "out"):
            (self.folder / name).mkdir()
        self._configure()
        socket_, key = self.folder / "munge/socket", self.folder / "munge/key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = [f"--{name}={self.folder}/munge/{name.removesuffix('-file')}" for name in ("pid-file", "seed-file")]
        self._daemon("munged", "munged", "--foreground", f"--key-file={key}", f"--socket={socket_}", *files)
        self._until(socket_.exists, 10, "munged makes no socket")
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", str(self.conf))
        for node in self.nodes:
            self.revive(node)
        self.up(*self.nodes)

    def stop(self) -> None:
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()

    # Jobs

    def submit(self, *arguments: str, **env: str) -> str:
        """sbatch, from the repository's root, of a job without GPUs; returns the job's number."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where there is no .venv
        output = f"--output={self.folder}/out/%j.txt"
        found = self.ask("sbatch", "--parsable", "--gpus-per-node=0", output, *arguments, env={"PATH": path, **env})
        return found.strip()

    def job(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says: JobState, Restarts, NodeList, ExitCode, StdOut, ..."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.ask("scontrol", "-o", "show", "job", job)))

    def state(self, job: str) -> str:
        return self.job(job)["JobState"]

    def output(self, job: str) -> str:
        path = Path(self.job(job)["StdOut"])
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, *states: str, restarts: int = 0, seconds: float = 180) -> dict[str, str]:
        """Until the job is in one of these states, after so many restarts; returns what SLURM says of it then."""
        found: dict[str, str] = {}

        def reached() -> bool:
            found.update(self.job(job))
            return found["JobState"] in states and int(found["Restarts"]) >= restarts

        self.until(job, reached, seconds)
        return found

    def until(self, job: str, condition: Callable[[], bool], seconds: float = 180) -> None:
        """Until `condition` holds, which this job is to bring about before it ends."""

        def reached() -> bool:
            ended = self.state(job) in ENDED
            if condition():
                return True
            assert not ended, f"job {job} has ended, without what was to come:\n{self._told(job)}"
            return False

        self._until(reached, seconds, f"job {job} does not do what was to come", job)

    def gone(self, job: str) -> None:
        """Until no process of the job lives."""
        self._until(lambda: not self.processes(job), 30, f"processes of job {job} live on", job)

    def processes(self, job: str = "") -> list[str]:
        """The command lines of all processes on this machine that a job (or any) started, and that still live."""
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                env = dict(item.partition("=")[::2] for item in (each / "environ").read_text().split("\0"))
                array, number = env.get("SLURM_ARRAY_JOB_ID"), env.get("SLURM_JOB_ID")
                names = ("", number, array, f"{array}_{env.get('SLURM_ARRAY_TASK_ID')}")
                if env.get("SLURM_CONF") == str(self.conf) and number and job in names:
                    found.append((each / "cmdline").read_text().replace("\0", " "))
            except (OSError, UnicodeDecodeError):
                continue  # it has just ended
        return found

    # Nodes

    def crash(self, node: str) -> None:
        """Every process on it is killed, and nobody is told."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()

    def revive(self, node: str) -> None:
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._daemon(node, *NODE, "bash", "-euc", BOOT, "bash", node, str(self.folder))

    def up(self, *nodes: str) -> None:
        """Until these nodes wait for jobs."""
        self._until(lambda: set(nodes) <= set(self.idle()), 60, f"{', '.join(nodes)} do not come up")

    def idle(self) -> list[str]:
        """The nodes that wait for jobs."""
        return sorted(self.ask("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N", check=False).split())

    def ask(self, *command: str, env: dict[str, str] | None = None, check: bool = True) -> str:
        """Run one of SLURM's commands; returns what it prints."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf), "OMP_NUM_THREADS": "1", **(env or {})}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def _daemon(self, name: str, *command: str) -> None:
        """Start it in a session of its own; it is killed when this process ends, however that comes."""
        with open(self.folder / f"log/{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={**os.environ, "SLURM_CONF": str(self.conf)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _configure(self) -> None:
        port = _free_ports(1 + len(self.nodes))
        net = random.randrange(1, 255)
        hosts = {node: f"127.77.{net}.{k + 1}" for k, node in enumerate(self.nodes)}
        nodes = "\n".join(
            f"NodeName={node} NodeAddr={address} Port={port + 1 + k} CPUs=4 RealMemory=8000 State=UNKNOWN"
            for k, (node, address) in enumerate(hosts.items())
        )
        host = socket.gethostname().split(".")[0]
        # The scripts choose a port by the job's number, and another cluster may run on this machine.
        first = random.randrange(1000, 19000)
        self.conf.write_text(
            CONFIG.format(host=host, port=port, folder=self.folder, requeue=REQUEUE, nodes=nodes, first=first)
        )
        # slurmd loads a cgroup plugin in any case. v2 wants systemd; v1 touches nothing until a controller is used.
        version = re.findall(r"\d+", self.ask("slurmctld", "-V"))
        plugin = "disabled" if [int(n) for n in version[:2]] >= [24, 5] else "cgroup/v1"
        (self.folder / "etc/cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        lines = [Path("/etc/hosts").read_text(), f"127.0.0.1 {host}", *(f"{a} {node}" for node, a in hosts.items())]
        (self.folder / "etc/hosts").write_text("\n".join(lines) + "\n")

    def _until(self, condition: Callable[[], bool], seconds: float, failure: str, job: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{failure}:\n{self._told(job)}"
            time.sleep(0.2)

    def _told(self, job: str) -> str:
        told = [str(self.job(job)), self.output(job), *self.processes(job)] if job else []
        for log in sorted((self.folder / "log").iterdir()):
            lines = [line for line in log.read_text(errors="replace").splitlines() if "mpi/pmix" not in line]
            told += [f"--- {log.name}", *lines[-30:]]
        return "\n".join(told)


@contextmanager
def started(nodes: int) -> Iterator[Cluster]:
    """A cluster for the block; the test is skipped where this machine cannot have one."""
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons need root")
    if missing := _missing():
        _install()
        if missing := _missing():
            pytest.skip(f"SLURM cannot be installed here: no {', '.join(missing)}")
    if subprocess.run([*NODE, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no namespaces, which virtual nodes need")
    # A path of its own: those of sockets are limited to 107 bytes, and munged wants a folder that all can enter.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    cluster = Cluster(folder, nodes)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _missing() -> list[str]:
    return [command for command in COMMANDS if not shutil.which(command)]


def _install() -> None:
    if shutil.which("apt-get"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["timeout", "180", "apt-get", "-qq", *command], capture_output=True)


def _free_ports(count: int) -> int:
    """The first of so many ports, below those that Linux gives to outgoing connections."""
    for _ in range(100):
        first = random.randrange(20000, 32000, count)
        try:
            for port in range(first, first + count):
                with socket.socket() as s:
                    s.bind(("", port))
        except OSError:
            continue
        return first
    raise AssertionError("found no free range of ports")
