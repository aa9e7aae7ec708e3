"""A release in an object store: the manifest comes last, so a version is there whole or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.releases import Review, write_release
from zhiling.builders.publish import push
from zhiling.builders.publish_artifact import read_artifact
from zhiling.builders.publish_fsspec import CLAIM, open_store
from zhiling.builders.publish_plan import Options
from zhiling.builders.published import versions
from zhiling.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # the store's client


@pytest.fixture
def one(tmp_path: Path, reviews: list[Review]) -> Path:
    return write_release(tmp_path / "out", reviews[:12])


@pytest.fixture
def shelf() -> Iterator[str]:
    """An empty place in memory."""
    import fsspec

    store = fsspec.filesystem("memory")
    yield "memory://shelf"
    if store.exists("/shelf"):
        store.rm("/shelf", recursive=True)


def there(address: str) -> dict[str, bytes]:
    """Everything that stands below an address."""
    store, root = open_store(address)
    return {path.removeprefix(root).lstrip("/"): store.cat_file(path) for path in store.find(root)}


def below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_push_to_s3_holds_every_byte_and_a_second_sends_nothing(
    one: Path, tmp_path: Path, reviews: list[Review], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "s3cr3t", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    try:
        with pytest.raises(UserError, match=r"s3://data/x/tiny/1\.0\.0: .*nothing was published; make the bucket"):
            push(one, "s3://data/x")
        assert open_store("s3://data")[0].ls("") == [], "a mistyped bucket is not made"
        open_store("s3://data")[0].mkdir("data")
        assert push(one, "s3://data/x") == "s3://data/x/tiny/1.0.0"
        assert there("s3://data/x/tiny/1.0.0") == below(one)
        push(one, "s3://data/x")
        assert "is there already, with the same bytes" in capsys.readouterr().err
        with pytest.raises(UserError, match="this version is published with other bytes"):
            push(write_release(tmp_path / "other", reviews[:13]), "s3://data/x")
        assert [v.version for v in versions("s3://data/x")] == ["1.0.0"]
    finally:
        server.stop()


@pytest.mark.parametrize("after", range(12))
def test_a_push_that_breaks_off_publishes_nothing_and_the_next_goes_on(
    after: int, one: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    sent: list[str] = []
    real = MemoryFileSystem.put_file

    def breaks_off(self: Any, here: str, path: str, **options: Any) -> None:
        if len(sent) == after:
            raise ConnectionResetError("cut off")
        sent.append(path)
        real(self, here, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "put_file", breaks_off)
    whole = len(read_artifact(one).files)
    if after < whole:
        with pytest.raises(UserError, match="ConnectionResetError: cut off; run the same command again: it goes on"):
            push(one, shelf)
        assert "manifest.json" not in there(f"{shelf}/tiny/1.0.0") and versions(shelf) == []
    monkeypatch.setattr(MemoryFileSystem, "put_file", lambda *a, **k: (sent.append(a[2]), real(*a, **k)))
    push(one, shelf)
    assert there(f"{shelf}/tiny/1.0.0") == below(one)
    assert len(sent) == len(set(sent)) == whole, "nothing is sent twice"


def test_two_pushes_of_other_bytes_one_wins_by_its_claim(
    one: Path, shelf: str, tmp_path: Path, reviews: list[Review]
) -> None:
    rival = write_release(tmp_path / "rival", reviews[:13])
    store, root = open_store(f"{shelf}/tiny/1.0.0")
    store.pipe_file(f"{root}/{CLAIM}", b'{"manifest_sha256": "of another"}')
    with pytest.raises(UserError, match=r"another push is writing this version, from other bytes .*nothing was"):
        push(rival, shelf)
    assert list(there(shelf)) == [f"tiny/1.0.0/{CLAIM}"]
    store.rm_file(f"{root}/{CLAIM}")
    push(one, shelf)
    assert there(f"{shelf}/tiny/1.0.0") == below(one)


def test_a_dry_run_adds_nothing(one: Path, shelf: str, capsys: pytest.CaptureFixture[str]) -> None:
    push(one, shelf, Options(dry_run=True))
    assert "would add 11 files" in capsys.readouterr().out and there(shelf) == {}
