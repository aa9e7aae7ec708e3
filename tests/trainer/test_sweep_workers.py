"""Workers of a sweep: one that dies takes only its own trial with it, and none outlives the sweep."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from zhiling.trainer.sweep import Job, open_study
from zhiling.trainer.sweep_space import read_sweep
from zhiling.trainer.sweep_workers import Workers

from .test_sweep_space import RATE, TRAIN, recipe


def workers() -> set[int]:
    """Python processes that this one spawned."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            started = (status.parent / "cmdline").read_text(encoding="utf-8", errors="replace")
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and "spawn_main" in started:
            found.add(int(status.parent.name))
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the worker's process in /proc")
def test_a_worker_that_is_killed_is_a_failed_trial_and_the_next_trial_runs(
    release: Path, pretrained: Path, tmp_path: Path
) -> None:
    document = recipe(tmp_path)
    settings = read_sweep(document)
    study, _ = open_study(tmp_path, settings)
    for _ in range(2):
        study.ask()
    params = {RATE: 1e-3, "instruct.adapter.method": "lora"}
    jobs = [Job(n, params, TRAIN, settings, release, pretrained, tmp_path) for n in range(2)]
    before = workers()

    def kill_the_first() -> None:
        while not (jobs[0].home / ".model.work").exists():
            time.sleep(0.01)
        for process in workers() - before:
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    with Workers(1) as crew:
        first, second = crew.run(jobs)
        killer.join()
    assert first == {"state": "failed", "reason": "its process ended with exit code -9; perhaps out of memory"}
    assert second["state"] == "complete" and second["value"] > 0
    assert workers() <= before
