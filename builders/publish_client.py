"""The Hub's own client, made patient and discreet: retries, time limits, one clear line for every failure.

Every request goes through `Hub.ask`. A failure that may pass is tried again; any other becomes a UserError that
says what was being done and what to do. Tokens and signed addresses never reach a message: whatever the server or
the client said passes `redact`.
"""

import errno
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from zhiling.console import note
from zhiling.errors import UserError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
RepoType = Literal["dataset", "model"]
PASSING_KINDS = ("TransportError", "JSONDecodeError", "NotDoneError")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long to try: retries after the first attempt, waits in seconds (doubling), seconds for one answer."""

    retries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = 120.0


PATIENCE = Patience()


class NotDoneError(Exception):
    """An answer said done, and it was not: a proxy in between answers for the Hub, and the client believes it."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the Hub states it: large files by sha256, others by git's id."""

    bytes: int
    git_oid: str
    sha256: str | None


_lock = threading.Lock()
_open: list[tuple[Any, int, bool]] = []  # one entry a connection: the client's factory, log level, bars before it


@contextmanager
def connection() -> Iterator["HfApi"]:
    """The client for HF_ENDPOINT, with time limits, silent of addresses; as it was before when the last block ends."""
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils import _http
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    def limited() -> Any:
        client = _http.default_client_factory()
        client.timeout = PATIENCE.timeout
        return client

    logger = logging.getLogger("huggingface_hub")
    with _lock:
        hide_bars = not sys.stderr.isatty() and not are_progress_bars_disabled()
        _open.append((_http._GLOBAL_CLIENT_FACTORY, logger.level, hide_bars))
        if len(_open) == 1:
            set_client_factory(limited)
            if hide_bars:
                disable_progress_bars()
            if not os.environ.get("HF_DEBUG"):  # its warnings quote whole addresses, signatures included
                logger.setLevel(logging.ERROR)
    try:
        yield HfApi(os.environ.get("HF_ENDPOINT") or None, library_name="zhiling")
    finally:
        with _lock:
            factory, level, hidden = _open.pop()
            if not _open:
                set_client_factory(factory)
                logger.setLevel(level)
                if hidden:
                    enable_progress_bars()


@dataclass(frozen=True)
class Hub:
    """One repository on the Hub."""

    api: "HfApi"
    kind: RepoType
    name: str

    def __str__(self) -> str:
        return f"hub:{self.name}"

    @property
    def place(self) -> dict[str, Any]:
        """The arguments that name this repository to the client."""
        return {"repo_id": self.name, "repo_type": self.kind}

    def ask(self, doing: str, call: Callable[[], T], tries: int | None = None) -> T:
        """The answer to one request, tried again while the failure may pass. Raises UserError."""
        tries, wait = tries or PATIENCE.retries + 1, PATIENCE.first_wait
        for attempt in range(1, tries + 1):
            try:
                return call()
            except Exception as error:
                if not may_pass(error) or attempt == tries:
                    self.fail(doing, error)
                pause = min(PATIENCE.longest_wait, retry_after(error) or wait)
                note(f"{self}: {doing}: {plainly(error)}; trying again in {pause:g} s")
            time.sleep(pause)
            wait *= 2
        raise AssertionError("unreachable")

    def fail(self, doing: str, error: Exception) -> NoReturn:
        """Raise what a person can act on. The client's own exception holds headers and addresses: it ends here."""
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in FULL):
            raise error  # a full disk of ours is told as everywhere
        raise UserError(str(self), f"{doing}: {plainly(error)}", advice(error)) from None

    def files(self, revision: str) -> dict[str, RemoteFile]:
        """Every file of a commit."""
        from huggingface_hub.hf_api import RepoFile

        def read() -> dict[str, RemoteFile]:
            found = self.api.list_repo_tree(**self.place, revision=revision, recursive=True)
            files = [entry for entry in found if isinstance(entry, RepoFile)]
            return {f.path: RemoteFile(f.size, f.blob_id, f.lfs.sha256 if f.lfs else None) for f in files}

        return self.ask("reading the list of files", read, tries=2)

    def read(self, path: str, revision: str) -> bytes:
        """The bytes of one small file at a commit."""
        from tempfile import TemporaryDirectory

        def fetch() -> bytes:
            with TemporaryDirectory() as folder:
                place = {**self.place, "revision": revision, "local_dir": folder}
                return Path(self.api.hf_hub_download(filename=path, **place)).read_bytes()

        return self.ask(f"reading {path}", fetch)


def is_a(error: BaseException, *names: str) -> bool:
    """Whether an exception's class or a base of it has one of these names: the client changes its HTTP library."""
    return any(cls.__name__ in names for cls in type(error).__mro__)


def cause(error: BaseException) -> BaseException:
    """The failure of HTTP below what the client wrapped around it."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "response", None) is not None or is_a(seen, *PASSING_KINDS):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def status(error: BaseException) -> int | None:
    """The HTTP status of a failure, where it has one."""
    found = getattr(getattr(cause(error), "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    found = cause(error)
    if status(found) is not None:
        return status(found) in PASSING or "Request has expired" in str(found) or is_unsent(error)
    return is_a(found, *PASSING_KINDS) or any(sign in str(error) for sign in ("X-Repo-Commit", "Consistency check"))


def is_unsent(error: BaseException) -> bool:
    """Whether the Hub misses a large file that was sent: something in between took it and said 200."""
    response = getattr(cause(error), "response", None)
    return status(error) == 404 and str(getattr(response, "url", "")).endswith("/info/lfs/objects/verify")


def retry_after(error: BaseException) -> float | None:
    """The seconds that the server asks to wait."""
    headers = getattr(getattr(cause(error), "response", None), "headers", None) or {}
    asked = str(headers.get("Retry-After", ""))
    return float(asked) if asked.isdigit() else None


def plainly(error: BaseException) -> str:
    """What went wrong, in words."""
    found = cause(error)
    code, said = status(found), redact(one_line(str(getattr(found, "server_message", None) or ""), 160))
    if code is not None:
        words = {401: "the token is not known there", 403: "no permission", 404: "not found", 429: "too many requests"}
        return f"{words.get(code, 'the server answered')} ({code}{': ' + said if said else ''})"
    if is_a(found, "TimeoutException"):
        return f"no answer within {PATIENCE.timeout:g} s"
    if is_a(found, "TransportError"):
        return f"the connection failed ({type(found).__name__})"
    if is_a(found, "JSONDecodeError") or "X-Repo-Commit" in str(error):
        return "the answer is not the Hub's, but perhaps a proxy's page"
    if isinstance(found, NotDoneError):
        return str(found)
    if is_a(found, "LocalTokenNotFoundError"):
        return "no token"
    if is_a(found, "OfflineModeIsEnabled"):
        return "HF_HUB_OFFLINE is set"
    return redact(one_line(f"{type(found).__name__}: {found}", 200))


def advice(error: BaseException) -> str:
    """What to do about it."""
    code, text = status(error), plainly(error)
    if "no token" in text or code == 401:
        return "log in with `hf auth login` or set HF_TOKEN to a token with write access"
    if code in (402, 413, 507) or re.search(r"quota|storage limit|exceed", text, re.IGNORECASE):
        return "free room there or raise its limit; then run the same command again, what is uploaded is kept"
    if code == 403:
        return "use a token with write access to it, another name, or --pr"
    if code == 404:
        return "check the name; a private repository also needs a token that may see it"
    if "proxy" in text:
        return "check HF_ENDPOINT and the proxy or sign-in page of this network"
    if "/xet-" in text:
        return "this endpoint does not speak Xet: set HF_HUB_DISABLE_XET=1 and run the same command again"
    if "OFFLINE" in text:
        return "unset it"
    return "run the same command again: it goes on where it was"


def redact(text: str) -> str:
    """`text` without tokens, passwords in addresses, and the signatures of signed addresses."""
    from huggingface_hub import get_token

    token = get_token()
    if token:
        text = text.replace(token, "<token>")
    text = re.sub(r"\b(hf|api_org)_[A-Za-z0-9]{8,}", "<token>", text)
    text = re.sub(r"://[^/@\s]+@", "://", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)
