"""A corpus from a Hub: read at one commit, which its rows bear, and rebuilt from it when the dataset went on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from tests.builders.conftest import TOKEN
from tests.conftest import RecipeMaker
from tests.hub.api import User
from tests.hub.server import Hub
from zhiling.builders.hub import read
from zhiling.builders.sources import HubSource
from zhiling.errors import UserError
from zhiling.store import read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes
CARD = "---\nconfigs:\n- config_name: all\n  data_files:\n  - split: train\n    path: data/*.jsonl\n---\n"


def zhiling(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the Hub's client reads HF_ENDPOINT when it is imported."""
    env = {**os.environ, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "zhiling", "-q", *args]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_dataset_is_pinned_to_the_commit_that_was_read(
    hub: Hub, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    def upload(name: str, text: str) -> str:
        done = api.upload_file(
            path_or_fileobj=text.encode(), path_in_repo=name, repo_id="org/reviews", repo_type="dataset"
        )
        return str(done.oid)

    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo("org/reviews", repo_type="dataset")
    upload("README.md", CARD)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in reviews[:20] + reviews[-20:]]
    commit = upload("data/a.jsonl", "".join(lines))
    make.recipe(corpus={"files": [], "hub": {"name": "org/reviews", "config": "all"}})
    built = zhiling(tmp_path, "build", "recipe.yaml", "-w", "1")
    assert built.returncode == 0, built.stderr
    release = tmp_path / "out" / "tiny" / "1.0.0"
    about = read_manifest(release, "release")["corpora"]["reviews"]
    assert about["revision"] == commit and about["sources"]["hub:org/reviews"]["sha256"] == f"commit {commit}"
    rows = [row for f in (release / "corpus" / "reviews").glob("*.parquet") for row in pq.read_table(f).to_pylist()]
    assert {row["revision"] for row in rows} == {commit}
    assert all(row["source"].startswith("hub:org/reviews:train:") for row in rows)

    upload("data/a.jsonl", "".join(lines[:30]))
    again = zhiling(tmp_path, "build", "recipe.yaml", "-w", "1")
    assert again.returncode == 2 and "raise `version` in the recipe" in again.stderr
    rebuilt = zhiling(tmp_path, "verify", "out/tiny/1.0.0", "--rebuild", "-w", "1")
    assert "built again, every byte is the same" in rebuilt.stdout, rebuilt.stderr


def test_train_rows_are_held_against_the_documents_of_an_lm_eval_task(
    hub: Hub, make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval")
    held = [row for row in reviews[:40] if len(row["text"]) > 30][:5]
    choices = {"A": "甲", "B": "乙", "C": "丙", "D": "丁", "answer": "A"}
    asked = [{"id": n, "question": f"下面是谁说的：{row['text']}", **choices} for n, row in enumerate(held)]
    files = {
        "README.md": "---\nconfigs:\n- config_name: law\n  data_files:\n"
                     "  - {split: val, path: law/val.jsonl}\n  - {split: dev, path: law/dev.jsonl}\n---\n",
        "law/val.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked),
        "law/dev.jsonl": json.dumps({**asked[0], "question": "甲与乙订立合同"}, ensure_ascii=False) + "\n",
    }
    hub.users[TOKEN] = User("me", ("ceval",))
    api = HfApi(endpoint=hub.url, token=TOKEN)
    where = {"repo_id": "ceval/ceval-exam", "repo_type": "dataset"}
    api.create_repo(**where)
    for name, text in files.items():
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, **where)
    make.corpus(reviews[:40] + reviews[-40:])
    make.recipe(
        split={"train": 1, "validation": 0, "test": 0},
        decontaminate={"against": [{"task": "ceval-valid_law", "columns": ["question"]}]},
    )
    built = zhiling(tmp_path, "build", "recipe.yaml", "-w", "1")
    assert built.returncode == 0, built.stderr
    lines = (tmp_path / "out/tiny/1.0.0/review/contamination.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert {row["text"] for row in found} >= {row["text"] for row in held}
    assert {row["against"] for row in found} == {"task ceval-valid_law"}


def test_a_dataset_that_cannot_be_read_to_its_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "a"}\n{bad\n', encoding="utf-8")
    said = r"hub:data: cannot be read to its end \(JSON parse error.*; see its files"
    with pytest.raises(UserError, match=said) as error:
        list(read(HubSource(name=str(tmp_path / "data")), "hub:data"))
    assert "\n" not in str(error.value)
