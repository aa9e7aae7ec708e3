"""Sources on a store of fsspec's, copied once for each state of theirs; releases built to one."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import RecipeMaker
from zhiling.builders.pipeline import build
from zhiling.builders.remote import cache_folder, local_copies
from zhiling.cli import app
from zhiling.errors import UserError
from zhiling.store import files_below, read_manifest

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bucket() -> Iterator[str]:
    """An empty bucket in memory."""
    store = fsspec.filesystem("memory")
    yield "memory://bucket"
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)


def test_a_build_from_a_store_is_the_build_from_files(
    make: RecipeMaker, reviews: list[dict[str, str]], tmp_path: Path, bucket: str
) -> None:
    source = make.corpus(reviews[:30] + reviews[-30:])
    here = build(make.recipe(corpus={"files": [{"path": "*.jsonl"}]}), tmp_path / "here")
    fsspec.filesystem("memory").pipe_file("/bucket/in/reviews.jsonl", source.read_bytes())
    recipe = make.recipe(corpus={"files": [{"path": f"{bucket}/in/*.jsonl"}]})
    done = CliRunner().invoke(app, ["build", str(recipe), "-o", f"{bucket}/releases", "-w", "1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == f"{bucket}/releases/tiny/1.0.0"
    (release,) = (cache_folder() / "releases").glob("*/tiny/1.0.0")
    sources = read_manifest(release, "release")["corpora"]["reviews"]["sources"]
    assert list(sources) == [f"{bucket}/in/reviews.jsonl"]
    data = {n: f for n, f in files_below(release).items() if n.startswith("data/")}
    there = fsspec.filesystem("memory")
    assert all(there.info(f"/bucket/releases/tiny/1.0.0/{name}")["size"] == f["bytes"] for name, f in data.items())
    columns = ["prompt", "completion", "id"]
    import pyarrow.parquet as pq

    for side in ("train", "test"):
        mine, theirs = (next((r / "data").glob(f"{side}-*")) for r in (release, here))
        assert pq.read_table(mine, columns=columns) == pq.read_table(theirs, columns=columns)


def test_a_file_is_copied_once_for_each_state_of_it(bucket: str) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/a.jsonl", b"one")
    ((shown, first),) = local_copies(f"{bucket}/a.jsonl")
    assert (shown, first.name, first.read_bytes()) == (f"{bucket}/a.jsonl", "a.jsonl", b"one")
    assert local_copies(f"{bucket}/a.jsonl") == [(shown, first)]
    store.pipe_file("/bucket/a.jsonl", b"another")
    ((_, second),) = local_copies(f"{bucket}/a.jsonl")
    assert second != first and second.read_bytes() == b"another"


def test_a_web_server_is_a_store_too(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "r.jsonl").write_text("{}", encoding="utf-8")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        found = [local_copies(f"{address}/{name}") for name in ("r.jsonl", "r.jsonl?sig=a/b", "*.jsonl")]
        server.shutdown()
    for ((shown, copy),) in found:  # a signature is neither part of the name nor shown
        assert (shown, copy.name, copy.read_text(encoding="utf-8")) == (f"{address}/r.jsonl", "r.jsonl", "{}")


@pytest.mark.parametrize(("address", "said"), [
    ("memory://bucket/none.jsonl", "memory://bucket/none.jsonl: no such file; check the address"),
    ("memory://bucket/*.csv", "no file fits this pattern"),
    ("nonesuch://bucket/a", "nonesuch://bucket/a: .*for s3:// it takes"),
])
def test_what_is_not_there_is_one_line(address: str, said: str, bucket: str) -> None:
    with pytest.raises(UserError, match=said.replace("*.", r"\*.")):
        local_copies(address)
