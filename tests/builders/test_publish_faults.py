"""Nothing lost, nothing mixed: every request of a push goes wrong in every way, with a reader looking on."""

import json
import multiprocessing
import os
import signal
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.builders.conftest import TOKEN
from tests.hub.faults import Fault
from tests.hub.matrix import AGAIN, DONE, FAULTS, Cell, cells, check, run, table
from tests.hub.releases import Review, write_release
from tests.hub.server import Hub
from zhiling.builders.publish import push
from zhiling.builders.publish_artifact import read_artifact
from zhiling.builders.publish_client import RemoteFile
from zhiling.builders.publish_plan import differences
from zhiling.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes
DOCS = Path(__file__).parents[2] / "docs" / "publishing.md"
COMPACT = [  # one cell of each kind that once went wrong, or that the protocol turns on
    Cell("commit", "answer lost"), Cell("commit", "done, then 500"), Cell("commit", "no answer"), Cell("commit", "412"),
    Cell("commit", "cut in request"), Cell("commit", "proxy's page"), Cell("lfs_put", "cut in request"),
    Cell("lfs_put", "403"), Cell("lfs_batch", "500"), Cell("preupload", "proxy's page"),
    Cell("validate_yaml", "cut before"),
    Cell("tag", "answer lost"), Cell("tag", "done, then 500"), Cell("tree", "503"), Cell("create_repo", "answer lost"),
    Cell("pull_create", "answer lost"), Cell("pull_status", "500"), Cell("collection_add", "cut in answer"),
    Cell("commit", "500", True), Cell("commit", "412", True), Cell("lfs_put", "507", True),
    Cell("tag", "cut before", True), Cell("refs", "proxy's page", True),
]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def one(shelf: Path, reviews: list[Review]) -> Path:
    return write_release(shelf / "a", reviews[:12])


@pytest.fixture(scope="module")
def two(shelf: Path, reviews: list[Review]) -> Path:
    """1.1.0: more rows."""
    return write_release(shelf / "b", reviews[:16], "1.1.0")


@pytest.fixture(autouse=True)
def _hasty(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import http_backoff

    from zhiling.builders import publish_client

    monkeypatch.setitem(http_backoff.__kwdefaults__, "max_retries", 2)
    monkeypatch.setattr(publish_client, "PATIENCE", publish_client.Patience(3, 0.0, 0.1, 1.0))


@pytest.mark.parametrize("cell", COMPACT, ids=str)
def test_nothing_is_lost_or_mixed(cell: Cell, hub: Hub, one: Path, two: Path) -> None:
    assert run(cell, hub, one, two) == (AGAIN if cell.lasting or cell == Cell("lfs_put", "403") else DONE)


@pytest.mark.long
@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_whole_matrix(
    cell: Cell, hub: Hub, one: Path, two: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outcome = run(cell, hub, one, two)
    if cell.fault not in ("403", "507", "412") and not cell.lasting:
        assert outcome == DONE, "what passes is waited out"
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "matrix"
    shared.mkdir(exist_ok=True)
    (shared / str(cell)).write_text(outcome)
    found = {path.name: path.read_text() for path in shared.iterdir()}
    if len(found) == len(cells()):  # the last cell of a run that tried them all: the docs hold what it found
        before, mark, rest = DOCS.read_text(encoding="utf-8").partition("<!-- matrix -->\n")
        _, end, after = rest.partition("<!-- end of matrix -->")
        DOCS.write_text(before + mark + "\n".join(table(found)) + "\n\n" + end + after, encoding="utf-8")


@pytest.mark.long
@pytest.mark.parametrize("request_", ["commit", "lfs_put", "tag", "preupload"])
def test_a_connection_cut_at_any_byte(request_: str, hub: Hub, one: Path, two: Path, tmp_path: Path) -> None:
    push(one, "hub:org/tiny")
    for byte in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584]:
        for kind in ("cut_body", "cut_answer"):
            hub.faults.plan(Fault(request_, kind, byte=byte))  # type: ignore[arg-type]
            push(two, "hub:org/tiny")
            check(hub, [read_artifact(one), read_artifact(two)])
            hub.faults.clear()
            forget(hub, two)


def forget(hub: Hub, release: Path) -> None:
    """Take a release out of the history again, its large files too, as if it had never been pushed."""
    repo, artifact = hub.history.find("dataset", "org/tiny"), read_artifact(release)
    with hub.history.changing(repo):
        head = repo.refs["refs/heads/main"]
        repo.refs.pop(f"refs/tags/{artifact.tag}", None)
        if repo.commit(head).title == artifact.title:
            repo.refs["refs/heads/main"] = repo.commit(head).parent or head
    hub.history.moves.clear()
    kept = {f["lfs"] for _, commit in repo.log("main") for f in commit.files.values()}
    for file in artifact.files.values():
        if file.sha256 not in kept:
            (hub.history.root / "blobs" / file.sha256).unlink(missing_ok=True)


def _push_in_child(url: str, release: str) -> None:
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_XET = True
    os.environ |= {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN}
    push(Path(release), "hub:org/tiny")


KILLS = [("lfs_put", "before"), ("commit", "after"), ("tag", "before")]
KILLABLE = ("whoami", "tree", "preupload", "lfs_batch", "lfs_put", "commit", "tag", "refs")
ALL_KILLS = [(request, when) for request in KILLABLE for when in ("before", "after")]


@pytest.mark.parametrize(
    ("request_", "when"), [*KILLS, *(pytest.param(*k, marks=pytest.mark.long) for k in ALL_KILLS if k not in KILLS)]
)
def test_a_push_that_is_killed_is_finished_by_the_next(
    request_: str, when: str, hub: Hub, one: Path, two: Path
) -> None:
    push(one, "hub:org/tiny")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["zhiling.builders.publish_hub", "huggingface_hub.hf_api"])
    child = context.Process(target=_push_in_child, args=(hub.url, str(two)))
    getattr(hub, when)[request_] = lambda: os.kill(child.pid or 0, signal.SIGKILL)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    push(two, "hub:org/tiny")
    check(hub, [read_artifact(one), read_artifact(two)])


def test_a_reader_who_polls_throughout_sees_one_release_or_the_other(hub: Hub, one: Path, two: Path) -> None:
    push(one, "hub:org/tiny")
    artifacts, seen, stop = [read_artifact(one), read_artifact(two)], set(), threading.Event()

    def get(path: str) -> tuple[object, str]:
        request = urllib.request.Request(hub.url + path, headers={"X-Reader": "1"})
        with urllib.request.urlopen(request) as answer:
            link = answer.headers.get("Link", "")
            return json.load(answer), link[1:].partition(">")[0].removeprefix(hub.url)

    def read(revision: str) -> None:
        about, _ = get(f"/api/datasets/org/tiny/revision/{revision}")
        page, entries = f"/api/datasets/org/tiny/tree/{about['sha']}?recursive=true", []  # type: ignore[index]
        while page:
            found, page = get(page)
            entries += [e for e in found if e["type"] == "file"]  # type: ignore[attr-defined]
        files = {e["path"]: RemoteFile(e["size"], e["oid"], e.get("lfs", {}).get("oid")) for e in entries}
        whole = [a.version for a in artifacts if not differences(files, a)]
        seen.add((revision, whole[0] if whole else f"a mixture: {sorted(files)}"))

    def poll() -> None:
        while not stop.is_set():
            read("main")
            read("v1.0.0")

    reader = threading.Thread(target=poll)
    reader.start()
    hub.faults.plan(*(Fault(op, "slow", seconds=0.05, times=100) for op in ("lfs_put", "commit", "tag", "lfs_batch")))
    push(two, "hub:org/tiny")
    read("main")
    stop.set()
    reader.join()
    assert seen == {("main", "1.0.0"), ("main", "1.1.0"), ("v1.0.0", "1.0.0")}


@pytest.mark.parametrize("skew", [-3 * 86_400, 3 * 86_400])
def test_a_server_whose_clock_is_days_off_changes_nothing(skew: int, hub: Hub, one: Path, two: Path) -> None:
    hub.skew = skew
    push(one, "hub:org/tiny")
    hub.skew = -skew
    hub.history.now = "1999-01-01T00:00:00.000Z"
    push(two, "hub:org/tiny")
    check(hub, [read_artifact(one), read_artifact(two)])


def test_signed_addresses_that_expire_while_a_file_waits_are_asked_for_again(hub: Hub, one: Path) -> None:
    def jump() -> None:
        hub.skew += 3600

    hub.before["lfs_put"] = jump
    assert push(one, "hub:org/tiny") == "hub:org/tiny@v1.0.0"


def test_a_quota_that_is_full_keeps_what_was_sent_and_goes_on_when_there_is_room(hub: Hub, one: Path) -> None:
    hub.quota = 1
    with pytest.raises(UserError, match=r"storage limit reached.*; nothing was published; free room there or"):
        push(one, "hub:org/tiny")
    hub.quota = None
    push(one, "hub:org/tiny")
    check(hub, [read_artifact(one)])


def test_every_fault_of_the_table_is_real() -> None:
    assert {c.fault for c in COMPACT} <= set(FAULTS)
