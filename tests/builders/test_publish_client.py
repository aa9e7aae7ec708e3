"""The Hub's client, made discreet: no secret survives into a message, and the client is left as it was found."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders.conftest import TOKEN
from tests.hub.faults import Fault
from tests.hub.releases import Review, write_release
from tests.hub.server import Hub as Server
from zhiling.builders.publish import push
from zhiling.builders.publish_client import connection, redact

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the client uploads bytes
WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


@given(WORDS, WORDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_token_password_or_signature_survives(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    secrets = (TOKEN, "hf_AnotherToken99", "hunter2", "AKIA-signature")
    address = "https://me:hunter2@host/x?X-Amz-Signature=AKIA-signature"
    said = f"{before} Bearer {TOKEN}, hf_AnotherToken99 at {address} {after}"
    assert not [secret for secret in secrets if secret in redact(said)]


def test_the_client_is_left_as_it_was_found(hub: Server) -> None:
    import logging

    from huggingface_hub.utils import _http
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    def state() -> tuple[object, ...]:
        return _http._GLOBAL_CLIENT_FACTORY, logging.getLogger("huggingface_hub").level, are_progress_bars_disabled()

    before = state()
    with connection(), connection():
        assert state()[0] is not before[0], "answers have a time limit"
    assert state() == before


def test_the_wait_that_a_server_asks_for_is_kept(
    hub: Server, tmp_path: Path, reviews: list[Review], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.plan(Fault("refs", "status", 429, "slow down", {"Retry-After": "7"}))
    push(write_release(tmp_path / "out", reviews[:3]), "hub:org/tiny")
    waits = [line for line in capsys.readouterr().err.splitlines() if "trying again" in line]
    assert waits == [
        "hub:org/tiny: reading branches and tags: too many requests (429: slow down); trying again in 0.1 s"
    ], "at most PATIENCE.longest_wait, which is 0.1 s in tests"
