"""Code that a model wrote, run to see whether its tests pass: only where a person allowed it, and fenced in.

In: HumanEval's problems (`task_id`, `prompt`, `test`, `entry_point`) and a model's samples (`task_id`, `completion`),
JSONL or JSONL.gz. Out: pass@k. A program runs in namespaces of its own: no network, no view of other processes,
every file system read-only but a scratch folder in memory, with limits on time, memory, open files and processes.
Refused: a machine that cannot give all of this. It can read files; where that matters, run it in a container.
"""

import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import comb
from pathlib import Path
from typing import Any

from zhiling.console import progress
from zhiling.errors import UserError, one_line

SECONDS = 10
MEMORY = 512 * 2**20
RIGHT = 113  # how a program that ran to its last line ends; one that leaves early, even with 0, did not pass its tests
ISOLATE = ["unshare", "--user", "--map-root-user", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"]
FENCE = """
for place in $(awk '{ print $5 }' /proc/self/mountinfo | sort -r); do mount -o remount,bind,ro "$place" || exit 1; done
mount -t tmpfs -o size=8m scratch "$1" && cd "$1" && shift &&
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
LIMITED = f"""
import os, resource, sys
limits = {{"CPU": {SECONDS}, "AS": {MEMORY}, "FSIZE": {2**20}, "NOFILE": 32, "NPROC": 16, "CORE": 0}}
for what, most in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + what), (most, most))
exec(compile(sys.stdin.read(), "answer", "exec"), {{"__name__": "__main__"}})
os._exit({RIGHT})
"""


def passes(program: str, seconds: float = SECONDS) -> bool:
    """Whether the program, run inside the fence, comes to its last line in time."""
    command = [sys.executable, "-I", "-c", LIMITED]
    return _fenced(command, program.encode("utf-8", "replace"), seconds) == RIGHT


def check_fence() -> None:
    """Raises UserError where this machine cannot fence a program in."""
    if not all(map(shutil.which, ("unshare", "mount", "awk", "setpriv"))) or _fenced(["true"], b"", SECONDS) != 0:
        do = "run it on Linux where `unshare --user --mount --net` works"
        raise UserError("code", "this machine cannot take the network and the files from a program", do)


def _fenced(command: list[str], given: bytes, seconds: float) -> int | None:
    """The exit status of a command inside the fence; None where its time ran out. All that it started ends with it."""
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [*ISOLATE, "sh", "-c", FENCE, "sh", scratch, *command], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        try:
            process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # --kill-child: its namespace's first process goes too, and with it all others
            process.wait()
            return None
        return process.returncode


def pass_at_k(passed: Sequence[int], tried: Sequence[int], k: int) -> float:
    """The unbiased pass@k over problems: of `tried` programs each, `passed` were right."""
    shares = [1 - comb(n - c, k) / comb(n, k) for c, n in zip(passed, tried, strict=True)]
    return sum(shares) / len(shares)


def score(problems: Path, samples: Path, ks: Sequence[int], allowed: bool) -> dict[str, float]:
    """pass@k of a model's samples. Raises UserError where code may not or cannot be run, or a file is damaged."""
    if not allowed:
        raise UserError("code", "scoring it means running what a model wrote", "say --allow-code if you want that")
    known = {p["task_id"]: p for p in _rows(problems, ("task_id", "prompt", "test", "entry_point"))}
    passed, tried = dict.fromkeys(known, 0), dict.fromkeys(known, 0)
    rows = _rows(samples, ("task_id", "completion"))
    for row in rows:
        if row["task_id"] not in known:
            raise UserError(str(samples), f"no problem '{one_line(row['task_id'])}'", "give samples of these problems")
        tried[row["task_id"]] += 1
    least = min(tried.values(), default=0)
    if least < max(ks):
        saw = f"a problem has {least} samples, pass@{max(ks)} needs {max(ks)}"
        raise UserError(str(samples), saw, "draw more samples for each problem, or ask for a smaller k")
    check_fence()
    with progress("running code", len(rows)) as bar:
        for row in rows:
            problem = known[row["task_id"]]
            program = f"{problem['prompt']}{row['completion']}\n{problem['test']}\ncheck({problem['entry_point']})\n"
            passed[row["task_id"]] += passes(program)
            bar(1, row["task_id"])
    return {f"pass@{k}": pass_at_k(list(passed.values()), list(tried.values()), k) for k in ks}


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UserError(str(path), "no such file", "give JSONL or JSONL.gz")
    rows = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                row = json.loads(line)
                if not isinstance(row, dict) or not all(isinstance(row.get(c), str) for c in columns):
                    raise UserError(f"{path}:{number}", f"not a row of {', '.join(columns)}", "mend the line")
                rows.append(row)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(str(path), f"no JSONL ({one_line(str(error))})", "make the file anew") from None
    return rows
