"""Processes that run a sweep's trials side by side; one that dies takes only its own trial with it.

In: trials. Out: their outcomes, in order. A worker ends with the process that started it, so that a sweep that was
killed and started again never trains beside its own ghost.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Any

from zhiling.store import write_json

if TYPE_CHECKING:
    from zhiling.trainer.sweep import Job


class Workers:
    """So many processes, started when needed and kept; use as a context, which ends them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free: SimpleQueue[_Worker] = SimpleQueue()
        self._all = [_Worker() for _ in range(count)]
        for worker in self._all:
            self._free.put(worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.end()

    def run(self, jobs: "Sequence[Job]") -> list[dict[str, Any]]:
        """The outcomes of `jobs`."""
        with ThreadPoolExecutor(self.count) as threads:
            coming = [threads.submit(self._one, job) for job in jobs]
            try:
                return [future.result() for future in coming]
            except BaseException:  # interrupted: what is not done is not started, and what runs goes on next time
                for future in coming:
                    future.cancel()
                for worker in self._all:
                    worker.end()
                raise

    def _one(self, job: "Job") -> dict[str, Any]:
        worker = self._free.get()
        try:
            return worker.run(job)
        finally:
            self._free.put(worker)


class _Worker:
    def __init__(self) -> None:
        self._process: Any = None
        self._ended = False
        self._pipe: Connection | None = None

    def run(self, job: "Job") -> dict[str, Any]:
        if self._process is None:
            spawn = multiprocessing.get_context("spawn")
            self._pipe, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        try:
            self._pipe.send(job)
            found: dict[str, Any] = self._pipe.recv()
            return found
        except (EOFError, OSError):
            if self._ended:
                raise KeyboardInterrupt from None
            self._process.join()
            code, self._process = self._process.exitcode, None
            found = {"state": "failed", "reason": f"its process ended with exit code {code}; perhaps out of memory"}
            job.home.mkdir(parents=True, exist_ok=True)
            write_json(job.home / "result.json", found)
            return found

    def end(self) -> None:
        self._ended = True
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, parent: int) -> None:
    """A worker's life: trials, until the one who sends them is gone."""
    from zhiling.console import set_verbosity
    from zhiling.trainer.sweep import run_trial

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the sweep, which ends its workers itself
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    set_verbosity(0)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(run_trial(job))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(0.5)
    os._exit(1)
