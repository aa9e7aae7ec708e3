"""What a run imports before its model is loaded, and models that cannot be."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.loading import load_model
from zhiling.eval_tasks.models import find_subject

PROGRAM = """
import sys
from zhiling.cli import main
from zhiling.eval_tasks import run

def load_model(*given):
    heavy = {"torch", "transformers", "lm_eval", "datasets", "sklearn", "scipy"}
    sys.exit("loading, with " + str(sorted(heavy & sys.modules.keys())))

run.load_model = load_model
main()
"""


def test_nothing_heavy_is_imported_before_the_model_is_loaded(model: Path, tmp_path: Path) -> None:
    command = ["eval", str(model), "--tasks", "zh/sentiment", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("loading, with []\n")


def test_broken_weights_are_said_in_one_line(model: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"broken: cannot be loaded .* see that it loads in transformers"):
        load_model(find_subject(str(broken)), EvalSettings())
