"""Written code is run only when allowed, sees neither network nor files to write, and is judged by its tests."""

import gzip
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.eval_tasks.code_runner import check_fence, pass_at_k, passes, score


@pytest.fixture(scope="module")
def fence() -> None:
    try:
        check_fence()
    except UserError as error:
        pytest.skip(str(error))


fenced = pytest.mark.usefixtures("fence")


@fenced
@pytest.mark.parametrize(
    ("program", "passed"),
    [
        ("assert 1 + 1 == 2", True),
        ("assert 1 + 1 == 3", False),
        ("def", False),
        ("import sys; sys.exit(0)", False),
        ("import os; os._exit(0)", False),
        ("open('note', 'w').write('x' * 1000); assert len(open('note').read()) == 1000", True),
        ("open('big', 'w').write('x' * 2**21)", False),
        ("bytearray(2**30)", False),
        ("import os; assert set(os.environ) <= {'PATH', 'PWD', 'LC_CTYPE', 'OLDPWD'}", True),
        ("import os; assert os.listdir('.') == []", True),
        ("files = [open('/dev/null') for _ in range(50)]", False),
    ],
)
def test_a_program_passes_when_it_comes_to_its_last_line_inside_its_limits(program: str, passed: bool) -> None:
    assert passes(program) == passed


@fenced
def test_there_is_no_network() -> None:
    assert not passes("import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)")
    assert passes("import socket; assert [name for _, name in socket.if_nameindex()] in (['lo'], ['lo', 'sit0'], [])"
                  "\ntry:\n    socket.create_connection(('10.0.0.1', 80), timeout=1)\nexcept OSError as error:\n"
                  "    assert error.errno == 101, error")


@fenced
def test_no_file_outside_the_scratch_folder_can_be_written_or_removed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    assert not passes(f"open({str(kept)!r}, 'a').write('theirs')")
    assert not passes(f"import os; os.remove({str(kept)!r})")
    assert not passes("open('/tmp/left-behind', 'w')")
    loosen = "import subprocess; subprocess.run(['mount', '-o', 'remount,bind,rw', '/'], check=True)"
    assert not passes(loosen) and passes(loosen.replace("check=True", "check=False"))
    assert not passes(f"{loosen.replace('check=True', 'check=False')}\nopen({str(kept)!r}, 'a')")
    assert kept.read_text() == "mine"


def sleeping(mark: str) -> list[bytes]:
    """Command lines of processes that sleep under this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end while it is looked at
            command = path.read_bytes()
            if mark.encode() in command and b"sleep 300" in command:
                found.append(command)
    return found


@fenced
def test_time_runs_out_and_what_was_started_ends() -> None:
    mark = f"sleep-{os.getpid()}"
    start = f"import subprocess, time\nsubprocess.Popen(['sh', '-c', 'sleep 300; : {mark}'])\n"
    program = f"{start}while True: time.sleep(1)"
    assert not passes(program, seconds=3)
    for _ in range(100):  # the kernel ends a namespace's processes by and by
        if not (alive := sleeping(mark)):
            break
        time.sleep(0.1)
    assert alive == []


def test_pass_at_k_is_the_share_of_draws_with_a_right_one() -> None:
    assert pass_at_k([1, 0], [2, 2], 1) == pytest.approx(0.25)
    assert pass_at_k([1, 0], [2, 2], 2) == pytest.approx(0.5)
    assert pass_at_k([3], [10], 5) == pytest.approx(1 - 21 / 252)


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def human_eval(shared_data: Path) -> list[dict[str, str]]:
    with gzip.open(shared_data / "humaneval/HumanEval.jsonl.gz", "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


@fenced
def test_published_solutions_pass_and_empty_ones_fail(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = human_eval(shared_data)[:12]
    rows = [
        {"task_id": p["task_id"], "completion": c} for p in problems for c in (p["canonical_solution"], "    pass\n")
    ]
    files = [str(write(tmp_path / "problems.jsonl", problems)), str(write(tmp_path / "samples.jsonl", rows))]
    assert run_args(["-q", "tasks", "pass-at-k", *files, "--k", "1,2", "--allow-code"]) == 0
    assert json.loads(capsys.readouterr().out) == {"pass@1": 0.5, "pass@2": 1.0}
    assert run_args(["tasks", "pass-at-k", *files]) == 2
    assert "say --allow-code if you want that" in capsys.readouterr().err


@fenced
@pytest.mark.long
def test_every_published_solution_passes(shared_data: Path, tmp_path: Path) -> None:
    problems = human_eval(shared_data)
    rows = [{"task_id": p["task_id"], "completion": p["canonical_solution"]} for p in problems]
    samples = write(tmp_path / "samples.jsonl", rows)
    assert score(shared_data / "humaneval/HumanEval.jsonl.gz", samples, [1], True) == {"pass@1": 1.0}


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    problem = {"task_id": "a", "prompt": "", "test": "", "entry_point": "f"}
    problems = write(tmp_path / "problems.jsonl", [problem])
    for rows, message in (
        ([{"task_id": "b", "completion": ""}], "no problem 'b'"),
        ([{"task_id": "a", "completion": ""}], "a problem has 1 samples, pass@2 needs 2"),
        ([{"task_id": "a"}], "samples.jsonl:1: not a row of task_id, completion"),
    ):
        with pytest.raises(UserError, match=message):
            score(problems, write(tmp_path / "samples.jsonl", rows), [2], True)
    (tmp_path / "samples.jsonl").write_text("{")
    with pytest.raises(UserError, match="no JSONL"):
        score(problems, tmp_path / "samples.jsonl", [1], True)
