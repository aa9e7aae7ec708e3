"""`zhiling push` at the terminal: each mistake is one line that says what to do; tokens are never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders.conftest import TOKEN
from tests.hub.faults import Fault
from tests.hub.releases import Review, write_release
from tests.hub.server import Hub
from zhiling.cli import run_args

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes


@pytest.fixture
def one(tmp_path: Path, reviews: list[Review]) -> Path:
    return write_release(tmp_path / "out", reviews[:12])


@pytest.fixture(autouse=True)
def _quiet_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error that says what is wrong."""
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1
    return errors[0].removeprefix("error: ")


def test_it_prints_where_the_release_went_and_debug_shows_no_token(
    hub: Hub, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["push", str(one), "hub:org/tiny", "--debug"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "hub:org/tiny@v1.0.0\n" and TOKEN not in shown.err
    written = [p for p in tmp_path.rglob("*") if p.is_file() and "hub" not in p.relative_to(tmp_path).parts[:1]]
    assert written and not any(TOKEN.encode() in p.read_bytes() for p in written)
    stored = [p for p in (tmp_path / "hub").rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in p.read_bytes() for p in stored), "nor in what was published"


def no_token(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    patch.delenv("HF_TOKEN")


def unknown_token(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    hub.users.pop(TOKEN)


def reading_token(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    patch.setenv("HF_TOKEN", "hf_Reader0000")


def taken_by_a_model(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    hub.history.create("model", "org/tiny", False, "me")


def damaged(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    (release / "CHANGELOG.md").write_text("")


def bad_card(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    from zhiling.store import read_json, write_manifest

    (release / "README.md").write_text("---\nlicense: [\n---\n")
    about = read_json(release / "manifest.json")
    write_manifest(release, "release", {k: v for k, v in about.items() if k not in ("kind", "files")})


def proxy(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    hub.faults.plan(Fault("whoami", "html", times=99))


def down(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    patch.setenv("HF_ENDPOINT", "http://user:hunter2@127.0.0.1:9")


def hung(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    from zhiling.builders import publish_client

    patch.setattr(publish_client, "PATIENCE", publish_client.Patience(1, 0.0, 0.0, 0.2))
    hub.faults.plan(Fault("refs", "hang", seconds=0.5, times=99))


def full(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    hub.quota = 0


def loud(hub: Hub, patch: pytest.MonkeyPatch, release: Path) -> None:
    headers = {"X-Error-Message": f"your token {TOKEN} is limited", "Retry-After": "0"}
    hub.faults.plan(Fault("refs", "status", 503, f"your token {TOKEN} is limited", headers, times=99))


AGAIN = "run the same command again: it goes on where it was"
PROXY = "the answer is not the Hub's, but perhaps a proxy's page"
ROOM = "free room there or raise its limit; then run the same command again, what is uploaded is kept"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (no_token, "asking whose token it is: no token; nothing was published; log in with `hf auth login` or set"),
        (unknown_token, "asking whose token it is: the token is not known there (401"),
        (reading_token, "making the repository: no permission (403: You don't have the rights to create a dataset"),
        (taken_by_a_model, "is the name of a model, and this is a dataset; nothing was published; choose another name"),
        (damaged, "does not agree with its manifest (CHANGELOG.md: changed); nothing was published; build it anew"),
        (bad_card, "README.md: its front matter is no card (while parsing"),
        (proxy, f"asking whose token it is: {PROXY}; nothing was published; check HF_ENDPOINT and the proxy or"),
        (down, f"asking whose token it is: the connection failed (ConnectError); nothing was published; {AGAIN}"),
        (hung, f"reading branches and tags: no answer within 0.2 s; nothing was published; {AGAIN}"),
        (full, f"Private repository storage limit reached, please upgrade your plan); nothing was published; {ROOM}"),
        (loud, "your token <token> is limited); nothing was published"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_mistake_is_one_line_and_publishes_nothing(
    trouble: Callable[[Hub, pytest.MonkeyPatch, Path], None], said: str, hub: Hub, one: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    trouble(hub, monkeypatch, one)
    assert run_args(["push", str(one), "hub:org/tiny", "--debug"]) == 2
    shown = capsys.readouterr()
    assert said in shown.err.splitlines()[-1] and shown.out == ""
    assert not [word for word in ("Traceback", TOKEN, "hunter2", "s3cr3t") if word in shown.err]
    assert not any(ref.startswith("refs/tags/") for ref, _ in hub.history.moves)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("hub:tiny", "hub:tiny: not of the form hub:ORG/NAME; give the organisation or user, a slash and a name"),
        ("hub:org/../x", "hub:org/../x: not of the form hub:ORG/NAME"),
        ("hub:elsewhere/tiny", 'create a dataset under the namespace "elsewhere"); nothing was published; use a token'),
        ("ftpx://place/x", "ftpx://place"),
        ("db:place", "db:place: no kind of target is called 'db'; give hub:ORG/NAME, a folder, or s3://..."),
    ],
)
def test_a_target_that_is_none_or_not_yours_is_one_line(
    target: str, said: str, hub: Hub, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_args(["push", str(one), target]) == 2
    assert said in line(capsys) and hub.history.moves == []


def test_a_fault_of_ours_shows_no_token_either(
    hub: Hub, one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the client raises: its exception, which holds the request with its headers, ends in ours."""
    from huggingface_hub import HfApi

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(f"headers {{'authorization': 'Bearer {TOKEN}'}} of https://x/y?X-Amz-Signature=s3cr3t")

    monkeypatch.setattr(HfApi, "create_commit", broken)
    assert run_args(["push", str(one), "hub:org/tiny", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown and TOKEN not in shown and "s3cr3t" not in shown


def test_flags_for_the_hub_are_refused_elsewhere(one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_args(["push", str(one), str(tmp_path / "shelf"), "--pr"]) == 2
    assert "--pr is for the Hub; drop it, or push to hub:ORG/NAME" in line(capsys)
