"""A Hub of this test's own, and a client that tries again without waiting."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.api import User
from tests.hub.server import Hub

TOKEN = "hf_PlantedTokenThatNobodyMaySee"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub where `me`, member of `org`, holds TOKEN; the client is told by HF_ENDPOINT and HF_TOKEN, as by people."""
    from huggingface_hub import constants
    from huggingface_hub.utils import http_backoff

    from zhiling.builders import publish_client

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS
    monkeypatch.setitem(http_backoff.__kwdefaults__, "base_wait_time", 0.0)
    monkeypatch.setattr(publish_client, "PATIENCE", publish_client.Patience(3, 0.0, 0.1, 2.0))
    with Hub(tmp_path / "hub") as server:
        server.users = {TOKEN: User("me", ("org",)), "hf_Reader0000": User("reader", ("org",), "read")}
        server.users["hf_Stranger0000"] = User("stranger")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
