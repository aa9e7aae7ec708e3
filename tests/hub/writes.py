"""What the Hub answers to uploads, commits, tags, pull requests and collections: see `api` too."""

import base64
import json
import re
import time
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import yaml

from tests.hub.api import Answer, Request, State, as_json
from tests.hub.history import MAIN, Commit, RefusedError, Repo, pointer_oid

REGULAR_MAX = 4096  # larger files go to LFS even where .gitattributes does not ask for it; 10 MB on the Hub


def validate_yaml(hub: State, request: Request, _: dict[str, str]) -> Answer:
    """hf_api.HfApi._validate_yaml: 400 with `errors` where the front matter is no valid card."""
    parts = request.json()["content"].split("---\n", 2)
    try:
        front = yaml.safe_load(parts[1]) if len(parts) == 3 else {}
        bad = [] if isinstance(front, dict) else ["front matter is no mapping"]
    except yaml.YAMLError as error:
        bad = [str(error)]
    if not bad and "license" in front and not isinstance(front["license"], str | list):
        bad = ['"license" must be a string']
    return as_json({"errors": [{"message": b} for b in bad], "warnings": []}, 400 if bad else 200)


def ignored(path: str, rules: str) -> bool:
    """Whether a .gitignore names the file or one of its folders (suffixes and names only)."""
    names = [r.strip().strip("/") for r in rules.splitlines() if r.strip() and not r.startswith("#")]
    return any(n in path.split("/") or (n.startswith("*") and path.endswith(n[1:])) for n in names)


def preupload(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """_commit_api._fetch_upload_modes: by .gitattributes and size; `.gitignore` of the request or of the repository."""
    repo, asked = hub.repo(request, groups, write=True, ref=unquote(groups["rev"])), request.json()
    files = repo.tree(unquote(groups["rev"]))
    rules = asked.get("gitIgnore")
    if rules is None and ".gitignore" in files:
        rules = hub.history.get(files[".gitignore"]).decode()
    shown = []
    for file in asked["files"]:
        there = files.get(file["path"])
        large = file["path"].endswith((".parquet", ".safetensors")) or file["size"] > REGULAR_MAX
        shown.append({
            "path": file["path"], "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": ignored(file["path"], rules or ""),
            "oid": (there["lfs"] or there["oid"]) if there else None,
        })
    return as_json({"files": shown})


def lfs_batch(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """lfs.post_lfs_batch_info: no `actions` for bytes that are here; signed addresses, without the token."""
    hub.repo(request, groups, write=True, ref=request.json().get("ref", {}).get("name", ""))
    objects = []
    for asked in request.json()["objects"]:
        shown = {"oid": asked["oid"], "size": asked["size"]}
        if not hub.history.has(asked["oid"]):
            if hub.quota is not None and asked["size"] > hub.quota:
                raise RefusedError(403, "Private repository storage limit reached, please upgrade your plan")
            until = int(time.time() + hub.skew) + 900
            put = f"{hub.storage}/storage/{asked['oid']}?X-Amz-Expires={until}&X-Amz-Signature=s3cr3t-signature"
            verify = f"{hub.url}{request.path.removesuffix('batch')}verify"
            shown["actions"] = {"upload": {"href": put}, "verify": {"href": verify}}
        objects.append(shown)
    return as_json({"transfer": "basic", "objects": objects})


def lfs_put(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """The storage behind the signed address: an object store, which keeps whole objects only."""
    if int(request.query["X-Amz-Expires"]) < time.time() + hub.skew:
        return Answer(b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", 403)
    if sha256(request.body).hexdigest() != groups["oid"]:
        return Answer(b"<Error><Code>BadDigest</Code></Error>", 400)
    hub.history.put(request.body, groups["oid"])
    if hub.quota is not None:
        hub.quota -= len(request.body)
    return Answer(b"", 200, {"ETag": f'"{groups["oid"][:32]}"'})


def lfs_verify(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """lfs.lfs_upload, step 3."""
    if not hub.history.has(request.json()["oid"]):
        raise RefusedError(404, "Object not found")
    return as_json({})


def commit(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """_commit_api._send_commit and _prepare_commit_payload: NDJSON; 412 where the parent is not the head any more."""
    repo = hub.repo(request, groups, write=True, ref=unquote(groups["rev"]))
    lines = [json.loads(line) for line in request.body.decode().splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    revision = unquote(groups["rev"])
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    with hub.history.lock:
        head = repo.resolve(revision)
        if header.get("parentCommit") and header["parentCommit"] != head:
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.tree(head))
        for line in lines:
            _apply(hub, files, line["key"], line["value"])
        author = request.user.name if request.user else ""
        made = Commit(head, files, header["summary"], header["description"], author, hub.history.now)
        oid = hub.history.write(repo, ref, made)
    return as_json({"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo.kind}s/{repo.name}/commit/{oid}"})


def _apply(hub: State, files: dict[str, Any], key: str, value: dict[str, Any]) -> None:
    if key == "file":
        files[value["path"]] = hub.history.blob(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not hub.history.has(value["oid"]):
            raise RefusedError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
        size, oid = value["size"], value["oid"]
        files[value["path"]] = {"oid": pointer_oid(oid, size), "size": size, "lfs": oid}
    elif key == "deletedFile":
        if value["path"] not in files:
            raise RefusedError(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")
        del files[value["path"]]


def tag(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.create_tag: 409 where it exists."""
    repo, name = hub.repo(request, groups, write=True), request.json()["tag"]
    with hub.history.changing(repo):
        if f"refs/tags/{name}" in repo.refs:
            raise RefusedError(409, f"Tag reference exists already: {name}")
        repo.refs[f"refs/tags/{name}"] = repo.resolve(unquote(groups["rev"]))
    return as_json({})


def branch(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.create_branch."""
    repo, ref = hub.repo(request, groups, write=True), f"refs/heads/{unquote(groups['rev'])}"
    with hub.history.changing(repo):
        if ref in repo.refs:
            raise RefusedError(409, "Reference exists already")
        repo.refs[ref] = repo.resolve(request.json().get("startingPoint") or "main")
    return as_json({})


# ---- pull requests and collections -----------------------------------------------------------------------------


def pull_create(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.create_discussion: "Pull Requests created programmatically will be in draft status"."""
    repo, asked = hub.repo(request, groups), request.json()
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    with hub.history.changing(repo):
        number = len(repo.pulls) + 1
        repo.pulls.append({"title": asked["title"], "status": "draft", "author": request.user.name})
        repo.refs[f"refs/pr/{number}"] = repo.refs[MAIN]
    return as_json({"num": number, "pullRequest": True})


def _pull(repo: Repo, number: int) -> dict[str, Any]:
    pull = repo.pulls[number - 1]
    return {
        "title": pull["title"], "num": number, "author": {"name": pull["author"]}, "status": pull["status"],
        "createdAt": "2026-01-01T00:00:00.000Z", "repo": {"name": repo.name, "type": repo.kind}, "isPullRequest": True,
        "changes": {"base": MAIN, "mergeCommitId": pull.get("merge")},
        "events": [], "filesWithConflicts": False, "diff": "",
    }


def pull_list(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.get_repo_discussions."""
    repo = hub.repo(request, groups)
    found = [_pull(repo, n + 1) for n in reversed(range(len(repo.pulls)))]
    if request.query.get("status") == "open":
        found = [p for p in found if p["status"] in ("open", "draft")]
    return as_json({"discussions": found, "count": len(found), "start": 0})


def pull_show(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.get_discussion_details."""
    return as_json(_pull(hub.repo(request, groups), int(groups["number"])))


def pull_status(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.change_discussion_status."""
    repo, status = hub.repo(request, groups, write=True, ref=f"refs/pr/{groups['number']}"), request.json()["status"]
    with hub.history.changing(repo):
        repo.pulls[int(groups["number"]) - 1]["status"] = status
    event = {"id": "1", "type": "status-change", "createdAt": hub.history.now, "author": {"name": "x"}}
    return as_json({"newStatus": event | {"data": {"status": status}}})


def pull_merge(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.merge_pull_request."""
    repo = hub.repo(request, groups, write=True)
    assert request.user
    return as_json({"merged": hub.history.merge(repo, int(groups["number"]), request.user.name)})


def collection_create(hub: State, request: Request, _: dict[str, str]) -> Answer:
    """hf_api.HfApi.create_collection: 409 with the slug where the title is taken."""
    asked = request.json()
    slug = f"{asked['namespace']}/{re.sub(r'[^a-z0-9]+', '-', asked['title'].lower())}-64f9a55bb3115b4f513ec026"
    if slug in hub.history.collections:
        return as_json({"error": "exists", "slug": slug}, 409)
    hub.history.collections[slug] = {
        "slug": slug, "title": asked["title"], "owner": {"name": asked["namespace"]}, "items": [], "position": 0,
        "lastUpdated": "2026-01-01T00:00:00.000Z", "private": asked["private"], "theme": "blue", "upvotes": 0,
    }
    return as_json(hub.history.collections[slug])


def collection_show(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.get_collection."""
    return as_json(hub.history.collections[groups["slug"]])


def collection_add(hub: State, request: Request, groups: dict[str, str]) -> Answer:
    """hf_api.HfApi.add_collection_item: 409 where it is there."""
    found, item = hub.history.collections[groups["slug"]], request.json()["item"]
    if any(i["id"] == item["id"] for i in found["items"]):
        return as_json({"error": "exists"}, 409)
    found["items"].append({"_id": "1" * 24, "id": item["id"], "type": item["type"], "position": len(found["items"])})
    return as_json(found)
