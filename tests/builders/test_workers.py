"""The imports of workers begin first: what starts them, and the entry of a build, import nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_build_can_have_workers_started_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; import zhiling.builders.pipeline, zhiling.builders.workers\n"
        "print(sorted({'numpy', 'pyarrow', 'pydantic', 'jinja2', 'duckdb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc to see what a process holds back")
def test_what_starts_workers_holds_ctrl_c_back_from_its_first_moment() -> None:
    code = (
        "import signal; from multiprocessing import forkserver; from zhiling.builders.workers import expect_workers\n"
        "expect_workers(2)\n"
        "status = open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read()\n"
        "print(int(status.partition('SigBlk:')[2].split()[0], 16) >> (signal.SIGINT - 1) & 1,\n"
        "      signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
