"""What is published is listed, fetched and verified from the Hub alone, and opened by datasets and transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.conftest import TOKEN
from tests.hub.faults import Fault
from tests.hub.history import MAIN, Commit
from tests.hub.releases import Review, write_model, write_release
from tests.hub.server import Hub
from zhiling.builders.publish import push
from zhiling.builders.publish_plan import Options
from zhiling.builders.published import pull, verify_published, versions
from zhiling.cli import run_args
from zhiling.errors import UserError
from zhiling.store import differences, files_below

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes


@pytest.fixture
def one(tmp_path: Path, reviews: list[Review]) -> Path:
    return write_release(tmp_path / "out", reviews[:12])


@pytest.fixture
def two(tmp_path: Path, reviews: list[Review], one: Path, hub: Hub) -> Path:
    """1.1.0, and both versions published."""
    push(one, "hub:org/tiny")
    two = write_release(tmp_path / "out", reviews[:20], "1.1.0")
    push(two, "hub:org/tiny")
    return two


def test_versions_are_listed_newest_first(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = versions("hub:org/tiny")
    assert [(v.version, v.newest) for v in found] == [("1.1.0", True), ("1.0.0", False)]
    assert run_args(["versions", "hub:org/tiny", "--json"]) == 0
    assert [v["title"].split(" (")[0] for v in json.loads(capsys.readouterr().out)] == ["tiny 1.1.0", "tiny 1.0.0"]


def test_a_folder_of_versions_is_listed_too(one: Path, tmp_path: Path, reviews: list[Review]) -> None:
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        push(write_release(tmp_path / "more", reviews[:9], version), str(tmp_path / "shelf"))
    assert [v.version for v in versions(str(tmp_path / "shelf"))] == ["1.10.0", "1.9.0", "1.0.0"]


def test_a_pull_gives_back_every_byte_of_a_version(one: Path, two: Path, tmp_path: Path) -> None:
    assert files_below(pull("hub:org/tiny@v1.0.0", tmp_path / "old")) == files_below(one)
    assert files_below(pull("hub:org/tiny", tmp_path / "new")) == files_below(two)
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    with pytest.raises(UserError, match="exists; give a folder that does not"):
        pull("hub:org/tiny", tmp_path / "new")


def test_a_pull_that_is_cut_off_goes_on(hub: Hub, one: Path, two: Path, tmp_path: Path) -> None:
    hub.faults.plan(Fault("storage_get", "status", 500, nth=3, times=99))
    with pytest.raises(UserError, match="fetching the files: the server answered"):
        pull("hub:org/tiny", tmp_path / "got")
    assert not (tmp_path / "got").exists()
    hub.faults.clear()
    hub.log.clear()
    assert differences(pull("hub:org/tiny", tmp_path / "got"), "release") == []
    assert hub.calls("storage_get") < 6, "what had come is not fetched again"


def test_a_version_that_is_not_there_is_named_with_its_neighbour(two: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hub:org/tiny@v1\.2\.0: no such version; did you mean 'v1\.[01]\.0'"):
        pull("hub:org/tiny@v1.2.0", tmp_path / "x")
    with pytest.raises(UserError, match="no such dataset or model that you may see"):
        pull("hub:org/nothing", tmp_path / "x")


def test_verify_reads_the_hub_alone_and_names_what_someone_changed(
    hub: Hub, two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify_published("hub:org/tiny@v1.1.0") == []
    assert run_args(["verify", "hub:org/tiny@v1.0.0"]) == 0
    assert "every file agrees with the manifest" in capsys.readouterr().out
    repo = hub.history.find("dataset", "org/tiny")
    head = repo.refs[MAIN]
    data = repo.tree(head)["data/test-00000-of-00001.parquet"]
    files = {**repo.tree(head), "README.md": hub.history.blob(b"x" * 9), "data/train-00000-of-00001.parquet": data}
    files["new.txt"] = hub.history.blob(b"new")
    hub.history.write(repo, MAIN, Commit(head, files, "by hand", "", "me", hub.history.now))
    assert verify_published("hub:org/tiny") == [
        "new.txt: not in the manifest", "README.md: changed", "data/train-00000-of-00001.parquet: changed",
    ]
    assert run_args(["verify", "hub:org/tiny"]) == 2


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "data/../../x", "a\\b", "data/*"])
def test_a_hostile_manifest_writes_nothing_outside(hub: Hub, tmp_path: Path, name: str) -> None:
    repo = hub.history.create("dataset", "org/evil", False, "me")
    about = {"kind": "release", "name": "x", "version": "1.0.0", "files": {name: {"sha256": "0", "bytes": 1}}}
    files = {"manifest.json": hub.history.blob(json.dumps(about).encode())}
    hub.history.write(repo, MAIN, Commit(repo.refs[MAIN], files, "x", "", "me", hub.history.now))
    with pytest.raises(UserError, match="its manifest names the file"):
        pull("hub:org/evil", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_pull_of_other_bytes_than_the_manifest_s_leaves_nothing(hub: Hub, two: Path, tmp_path: Path) -> None:
    repo = hub.history.find("dataset", "org/tiny")
    files = {**repo.tree("main"), "CHANGELOG.md": hub.history.blob(b"other")}
    hub.history.write(repo, MAIN, Commit(repo.refs[MAIN], files, "by hand", "", "me", hub.history.now))
    with pytest.raises(UserError, match=r"what came is not what its manifest says \(CHANGELOG\.md: changed\)"):
        pull("hub:org/tiny", tmp_path / "x")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".x", "x"))]


def in_child(code: str, hub: Hub, home: Path) -> str:
    """Run a reader's few lines in a fresh process, as a reader would."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home), "HF_TOKEN": TOKEN}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


READER = """
from datasets import load_dataset
old = load_dataset("org/tiny", revision="v1.0.0")
new = load_dataset("org/tiny", "corpus-reviews", revision="v1.1.0")
stream = load_dataset("org/tiny", revision="v1.0.0", split="train", streaming=True)
sides = ("train", "validation", "test")
print([len(old[s]) for s in sides], [len(new[s]) for s in sides], [r["id"] for r in stream] == old["train"]["id"])
"""


def test_datasets_opens_a_version_whole_and_streaming(hub: Hub, one: Path, two: Path, tmp_path: Path) -> None:
    def rows(release: Path) -> list[int]:
        splits = json.loads((release / "manifest.json").read_text())["splits"]
        return [splits[side]["rows"] for side in ("train", "validation", "test")]

    assert in_child(READER, hub, tmp_path / "home") == f"{rows(one)} {rows(two)} True\n"


MODEL = """
from transformers import AutoModelForCausalLM
for version in ("v1.0.0", "v2.0.0"):
    model, report = AutoModelForCausalLM.from_pretrained("org/tiny-model", revision=version, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    print(round(float(model.model.norm.weight[0]), 3))
"""


def test_a_model_is_published_and_transformers_loads_each_of_its_versions(hub: Hub, tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "m1"), write_model(tmp_path / "m2", norm=2.0)
    with pytest.raises(UserError, match=r"a model folder states no version; add --version 1\.0\.0"):
        push(first, "hub:org/tiny-model")
    assert push(first, "hub:org/tiny-model", Options(version="1.0.0")) == "hub:org/tiny-model@v1.0.0"
    with pytest.raises(UserError, match=r"is a minor step, but model\.safetensors differs, a major change"):
        push(second, "hub:org/tiny-model", Options(version="1.1.0"))
    push(second, "hub:org/tiny-model", Options(version="2.0.0"))
    assert verify_published("hub:org/tiny-model@v1.0.0") == []
    assert in_child(MODEL, hub, tmp_path / "home") == "1.0\n2.0\n"


def test_a_model_s_card_without_a_valid_model_index_is_refused(hub: Hub, tmp_path: Path) -> None:
    from zhiling.store import write_manifest

    model = write_model(tmp_path / "m1")
    (model / "README.md").write_text("---\nlicense: mit\nmodel-index: [{name: x}]\n---\n")
    write_manifest(model, "model", {"name": "tiny-model"})
    with pytest.raises(UserError, match="its front matter is no card"):
        push(model, "hub:org/tiny-model", Options(version="1.0.0"))
