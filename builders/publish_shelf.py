"""What stands on the Hub at a branch, a tag or a commit: read whole, at one commit.

In: a repository and a revision. Out: its files, tags, published manifest and history.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zhiling.builders.publish_artifact import VERSION, Artifact, parse_version
from zhiling.builders.publish_client import Hub, RemoteFile
from zhiling.errors import UserError, did_you_mean
from zhiling.store import MANIFEST

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Shelf:
    """What stands on the Hub before a push."""

    exists: bool = False
    private: bool = False
    head: str = ""                          # the branch's newest commit
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    manifest: bytes = b""                   # of what is published at the head
    log: tuple[tuple[str, str, str], ...] = ()  # commit, title, authors; newest first
    branch: bool = True                     # whether the branch itself is there


def look(hub: Hub, revision: str, strict: bool = False) -> Shelf:
    """Read what stands at a branch, tag or commit, all of it at one commit; main's where there is no such branch.

    Raises UserError where the Hub does not answer, and where `strict` and there is no such revision.
    """
    def info() -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return hub.api.repo_info(**hub.place)
        except RepositoryNotFoundError:
            return None

    found = hub.ask("looking at the repository", info)
    if found is None:
        return Shelf()
    refs = hub.ask("reading branches and tags", lambda: hub.api.list_repo_refs(**hub.place, include_pull_requests=True))
    tags = {t.name: t.target_commit for t in refs.tags}
    heads = {b.name: b.target_commit for b in refs.branches}
    heads |= {pull.ref: pull.target_commit for pull in refs.pull_requests or []}
    named = {**tags, **heads}
    if strict and revision not in named and not COMMIT.fullmatch(revision):
        raise UserError(f"{hub}@{revision}", "no such version", did_you_mean(revision, named))
    head = named.get(revision) or (revision if strict else heads["main"])
    files = hub.files(head)
    manifest = hub.read(MANIFEST, head) if MANIFEST in files else b""
    commits = hub.ask("reading the history", lambda: hub.api.list_repo_commits(**hub.place, revision=head), tries=2)
    log = tuple((c.commit_id, c.title, ", ".join(c.authors)) for c in commits)
    return Shelf(True, bool(found.private), head, tags, files, manifest, log, revision in heads)


def look_before_push(hub: Hub, artifact: Artifact, revision: str) -> Shelf:
    """What stands at the branch; where it is not there yet, at the newest version below, from which it will start."""
    if VERSION.fullmatch(revision.removeprefix("v")):
        raise UserError(str(hub), f"--revision {revision} is a version's tag, not a branch", "give a branch, as 1.0.x")
    shelf = look(hub, revision)
    mine = parse_version(artifact.version, str(artifact.folder))
    below = [v for t in shelf.tags if VERSION.fullmatch(t.removeprefix("v")) and (v := parse_version(t, t)) < mine]
    if shelf.exists and not shelf.branch and below:
        return replace(look(hub, "v" + ".".join(map(str, max(below)))), branch=False)
    return shelf
