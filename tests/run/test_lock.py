"""The lock of a run's folder: one job holds it, and nothing that outlives the job."""

import errno
import fcntl
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dist_gan.errors import ConfigError
from dist_gan.run.folder import RunFolder


def test_one_holds_it_and_the_second_is_refused_by_name(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.hold()
    with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
        second.hold()
    assert f"pid {os.getpid()}" in second.holder()
    first.release()
    second.hold()
    second.release()
    assert second.holder() == ""


def test_a_forked_process_that_lives_on_does_not_hold_it(tmp_path: Path) -> None:
    """As workers that read images do for seconds after the training was killed."""
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        kept = RunFolder(tmp_path / "kept")
        kept.hold()
        orphan = os.fork()
        if orphan:
            os.write(write, f"{orphan}\n".encode())
        signal.pause()
    orphan = int(os.read(read, 100))
    try:
        with pytest.raises(ConfigError):
            RunFolder(tmp_path / "kept").hold()
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.kill(orphan, 0)  # it lives
        again = RunFolder(tmp_path / "kept")
        again.hold()
        again.release()
    finally:
        os.kill(orphan, signal.SIGKILL)
        os.close(read)
        os.close(write)


def _nothing() -> None:
    pass


def test_a_process_that_is_forked_and_ends_takes_no_lock_with_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.hold()
    worker = multiprocessing.get_context("fork").Process(target=_nothing)
    worker.start()
    worker.join()
    with pytest.raises(ConfigError):
        RunFolder(tmp_path).hold()
    folder.release()


def test_no_program_that_is_started_inherits_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.hold()
    assert folder._lock is not None
    assert fcntl.fcntl(folder._lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    folder.release()


def test_a_file_system_without_locks_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match="file locks do not work"):
        RunFolder(tmp_path).hold()


def test_a_path_that_cannot_be_searched_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def searched(path: Path, **options: Any) -> bool:
        if path.name == "secret":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return exists(path, **options)

    monkeypatch.setattr(Path, "exists", searched)
    run = RunFolder(tmp_path / "secret")
    run.check()
    assert run.above == tmp_path
