"""What the Hub answers to each reading request of its client, over real history on disk.

What the Hub does is known from its client's code (huggingface_hub 2.4; file and function are named where they
matter) and from its documentation: https://huggingface.co/docs/hub/api and git-lfs's batch API,
https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md. Xet storage is not spoken: HF_HUB_DISABLE_XET=1.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from tests.hub.faults import Faults
from tests.hub.history import History, RefusedError, Repo

PAGE = 5           # entries of a tree's page; the Hub sends 1,000 (hf_api.HfApi._iter_repo_tree_pages)


@dataclass(frozen=True)
class User:
    """Who a token belongs to, and what it may do."""

    name: str
    orgs: tuple[str, ...] = ()
    role: str = "write"


@dataclass
class Answer:
    """What goes back."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What came in, parsed."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: User | None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body or b"null")


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer."""
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **headers})


class State:
    """What the server knows: repositories, users, what was asked, what is to go wrong."""

    def __init__(self, folder: Path) -> None:
        self.history, self.faults = History(folder), Faults()
        self.url = self.storage = ""           # where it answers; where large files are
        self.users: dict[str, User] = {}
        self.log: list[tuple[str, int]] = []   # operation and bytes received
        self.skew = 0.0                        # seconds that the server's clock is ahead
        self.before: dict[str, Callable[[], object]] = {}  # done once, when a request of this name comes
        self.after: dict[str, Callable[[], object]] = {}   # done once, when it is done and not yet answered
        self.quota: int | None = None          # bytes of large files that still fit

    def calls(self, operation: str) -> int:
        """How often an operation was asked for."""
        return sum(name == operation for name, _ in self.log)

    def repo(self, request: Request, groups: dict[str, str], write: bool = False, ref: str = "") -> Repo:
        """The repository in the address, where the user may see it (or write to it, or to a pull request of theirs)."""
        repo = self.history.find(groups["kind"], groups["name"])
        user, owner = request.user, groups["name"].split("/")[0]
        member = user is not None and owner in (user.name, *user.orgs)
        if repo.private and not member:
            raise RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")
        pull = re.fullmatch(r"refs/pr/(\d+)", ref)
        if user and pull and repo.pulls[int(pull.group(1)) - 1]["author"] == user.name:
            return repo
        if write and user is None:
            raise RefusedError(401, "Invalid username or password.")
        if write and not (member and user and user.role == "write"):
            raise RefusedError(403, "Forbidden: you must use a write token to upload to a repository.")
        return repo


# ---- who, and which repositories -------------------------------------------------------------------------------


def whoami(hub: State, request: Request, _: dict[str, str]) -> Answer:
    """hf_api.HfApi._inner_whoami."""
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    orgs = [{"name": name, "type": "org", "roleInOrg": "write"} for name in request.user.orgs]
    auth = {"type": "access_token", "accessToken": {"displayName": "t", "role": request.user.role}}
    name = request.user.name
    return as_json({"type": "user", "name": name, "fullname": name, "orgs": orgs, "auth": auth})


def create_repo(hub: State, request: Request, _: dict[str, str]) -> Answer:
    """hf_api.HfApi.create_repo: 409 where it exists (the client reads `url`), 403 in others' namespaces."""
    asked, user = request.json(), request.user
    if user is None:
        raise RefusedError(401, "Invalid username or password.")
    owner, kind = asked.get("organization") or user.name, asked.get("type") or "model"
    name, private = f"{owner}/{asked['name']}", asked.get("visibility") == "private"
    url = f"{hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if owner not in (user.name, *user.orgs) or user.role != "write":
        raise RefusedError(403, f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
    try:
        hub.history.create(kind, name, private, user.name)
    except RefusedError as refused:
        return as_json({"error": refused.error, "url": url}, refused.status)
    return as_json({"url": url, "name": name})


def repo_info(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.dataset_info, model_info."""
    repo = hub.repo(request, groups)
    sha = repo.resolve(groups.get("rev") or "main")
    files = sorted(repo.tree(sha))
    about = {
        "id": repo.name, "sha": sha, "private": repo.private, "gated": False, "disabled": False, "tags": [],
        "downloads": 0, "likes": 0, "lastModified": repo.commit(sha).date,
        "siblings": [{"rfilename": f} for f in files],
    }
    return as_json(about)


def refs(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.list_repo_refs."""
    repo = hub.repo(request, groups)
    found: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    places = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
    for ref, oid in sorted(repo.refs.items()):
        prefix = next(p for p in places if ref.startswith(p))
        found[places[prefix]].append({"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid})
    return as_json(found)


def commits(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.list_repo_commits."""
    log = hub.repo(request, groups).log(groups["rev"])
    return as_json([
        {"id": oid, "title": c.title, "message": c.message, "authors": [{"user": c.author}], "date": c.date}
        for oid, c in log
    ])


def entry(path: str, found: dict[str, Any]) -> dict[str, Any]:
    """A file as tree and paths-info show it (hf_api.RepoFile)."""
    shown = {"type": "file", "path": path, "oid": found["oid"], "size": found["size"]}
    if found["lfs"]:
        shown["lfs"] = {"oid": found["lfs"], "size": found["size"], "pointerSize": 134}
    return shown


def directory(path: str) -> dict[str, Any]:
    """A folder as tree and paths-info show it (hf_api.RepoFolder)."""
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


def tree(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi._iter_repo_tree_pages: pages linked by the Link header (utils/_pagination.py)."""
    files, place = hub.repo(request, groups).tree(groups["rev"]), groups.get("path") or ""
    inside = {p: f for p, f in files.items() if not place or p.startswith(f"{place}/")}
    if place and not inside:
        raise RefusedError(404, f"{place} does not exist", "EntryNotFound")
    folders = {"/".join(p.split("/")[:n]) for p in inside for n in range(1, p.count("/") + 1)} - {place}
    shown = [directory(f) for f in sorted(folders) if f.startswith(place)]
    shown += [entry(p, f) for p, f in sorted(inside.items())]
    if request.query.get("recursive", "").lower() != "true":
        depth = place.count("/") + 1 if place else 0
        shown = [e for e in shown if str(e["path"]).count("/") == depth]
    start = int(request.query.get("cursor", 0))
    headers = {}
    if start + PAGE < len(shown):
        again = "&".join(f"{k}={quote(v)}" for k, v in {**request.query, "cursor": str(start + PAGE)}.items())
        headers["Link"] = f'<{hub.url}{request.path}?{again}>; rel="next"'
    return as_json(shown[start : start + PAGE], **headers)


def paths_info(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.get_paths_info: a form; paths that are not there are left out."""
    files = hub.repo(request, groups).tree(groups["rev"])
    form = not request.body.startswith(b"{")
    asked = parse_qs(request.body.decode()).get("paths", []) if form else request.json()["paths"]
    shown = [entry(p, files[p]) for p in asked if p in files]
    folders = [p for p in asked if p not in files and any(f.startswith(f"{p}/") for f in files)]
    return as_json(shown + [directory(p) for p in folders])


def resolve(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """file_download.get_hf_file_metadata: large files redirect to storage, their etag and size in X-Linked-*."""
    repo = hub.repo(request, groups)
    sha = repo.resolve(groups["rev"])
    found = repo.tree(sha).get(groups["path"])
    if found is None:
        raise RefusedError(404, "Entry not found", "EntryNotFound")
    headers = {"X-Repo-Commit": sha, "ETag": f'"{found["oid"]}"', "Accept-Ranges": "bytes"}
    if found["lfs"]:
        linked = {"X-Linked-Etag": f'"{found["lfs"]}"', "X-Linked-Size": str(found["size"])}
        return Answer(b"", 302, headers | linked | {"Location": f"{hub.storage}/storage/{found['lfs']}"})
    return ranged(request, hub.history.get(found), headers)


def storage_get(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """The storage that resolve redirects to."""
    data = hub.history.get({"oid": groups["oid"], "lfs": None})
    return ranged(request, data, {"ETag": f'"{groups["oid"]}"', "Accept-Ranges": "bytes"})


def ranged(request: Request, data: bytes, headers: dict[str, str]) -> Answer:
    """The bytes that a Range header asks for, or all of them."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not asked:
        return Answer(data, 200, headers)
    start, end = asked.groups()
    first = int(start) if start else max(0, len(data) - int(end))
    last = min(int(end), len(data) - 1) if start and end else len(data) - 1
    if first >= len(data):
        return Answer(b"", 416, headers | {"Content-Range": f"bytes */{len(data)}"})
    return Answer(data[first : last + 1], 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
