"""Repositories with real history on disk: blobs by content, commits by hash, refs, pull requests, collections.

Every write takes the lock, checks what a git server would check and moves a ref last, by one rename, so that what
a reader sees is some commit's whole tree, as on the Hub.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAIN = "refs/heads/main"


class RefusedError(Exception):
    """An answer that is no success: status, what the Hub says, and the error code that its client reads."""

    def __init__(self, status: int, error: str, code: str | None = None) -> None:
        self.status, self.error, self.code = status, error, code
        super().__init__(f"{status} {error}")


@dataclass(frozen=True)
class Commit:
    """A whole tree: `{path: {oid, size, lfs}}`, its parent, and what its author said."""

    parent: str | None
    files: dict[str, dict[str, Any]]
    title: str
    message: str
    author: str
    date: str

    @property
    def oid(self) -> str:
        """40 hexadecimal digits, as git's."""
        return hashlib.sha1(json.dumps(self.__dict__, sort_keys=True).encode()).hexdigest()


@dataclass
class Repo:
    """One repository: its refs and pull requests in memory, mirrored to disk; commits on disk."""

    folder: Path
    kind: str       # model, dataset
    name: str       # ORG/NAME
    private: bool
    refs: dict[str, str] = field(default_factory=dict)
    pulls: list[dict[str, Any]] = field(default_factory=list)

    def commit(self, oid: str) -> Commit:
        """A commit by its id."""
        return Commit(**json.loads((self.folder / "commits" / f"{oid}.json").read_text()))

    def resolve(self, revision: str) -> str:
        """The commit that a branch, tag, pull request or commit id names. Raises RefusedError (404)."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.refs[ref]
        if (self.folder / "commits" / f"{revision}.json").is_file():
            return revision
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def tree(self, revision: str) -> dict[str, dict[str, Any]]:
        """The files of a revision."""
        return self.commit(self.resolve(revision)).files

    def log(self, revision: str) -> Iterator[tuple[str, Commit]]:
        """The commits of a revision, newest first."""
        oid: str | None = self.resolve(revision)
        while oid:
            found = self.commit(oid)
            yield oid, found
            oid = found.parent


def git_oid(data: bytes) -> str:
    """Git's own blob id."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer_oid(sha256: str, size: int) -> str:
    """Git's id of a large file: that of the pointer which stands in the tree (git-lfs specification)."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return git_oid(text.encode())


class History:
    """All repositories below one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.lock = root, threading.RLock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moves: list[tuple[str, str]] = []  # every ref that was ever set, and to which commit
        self.collections: dict[str, dict[str, Any]] = {}
        self.now = "2026-01-01T00:00:00.000Z"
        (root / "blobs").mkdir(parents=True)

    def put(self, data: bytes, oid: str) -> None:
        """Keep bytes under their id, whole or not at all."""
        part = self.root / f"{oid}.{threading.get_ident()}.part"
        part.write_bytes(data)
        part.rename(self.root / "blobs" / oid)

    def has(self, oid: str) -> bool:
        """Whether the bytes are here."""
        return (self.root / "blobs" / oid).is_file()

    def get(self, entry: dict[str, Any]) -> bytes:
        """The bytes of a tree's entry."""
        return (self.root / "blobs" / (entry["lfs"] or entry["oid"])).read_bytes()

    def find(self, kind: str, name: str) -> Repo:
        """A repository. Raises RefusedError (404), with the code that the client knows (hf_raise_for_status)."""
        if (kind, name) not in self.repos:
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return self.repos[kind, name]

    def create(self, kind: str, name: str, private: bool, author: str) -> Repo:
        """A new repository: its first commit holds .gitattributes, as the Hub's own does."""
        with self.lock:
            if (kind, name) in self.repos:
                raise RefusedError(409, f"You already created this {kind} repo")
            folder = self.root / "repos" / kind / name
            (folder / "commits").mkdir(parents=True)
            repo = self.repos[kind, name] = Repo(folder, kind, name, private)
            lfs = b"*.%s filter=lfs diff=lfs merge=lfs -text\n"
            attributes = lfs % b"parquet" + lfs % b"safetensors"
            files = {".gitattributes": self.blob(attributes)}
            self.write(repo, MAIN, Commit(None, files, "initial commit", "", author, self.now))
            return repo

    def blob(self, data: bytes) -> dict[str, Any]:
        """Keep a small file; its entry for a tree."""
        self.put(data, git_oid(data))
        return {"oid": git_oid(data), "size": len(data), "lfs": None}

    def write(self, repo: Repo, ref: str, commit: Commit) -> str:
        """Keep a commit and let a ref name it."""
        (repo.folder / "commits" / f"{commit.oid}.json").write_text(json.dumps(commit.__dict__, sort_keys=True))
        with self.changing(repo):
            repo.refs[ref] = commit.oid
        return commit.oid

    @contextmanager
    def changing(self, repo: Repo) -> Iterator[None]:
        """Change a repository's refs or pull requests: on disk by one rename."""
        with self.lock:
            before = dict(repo.refs)
            yield
            self.moves += sorted(repo.refs.items() - before.items())
            part = repo.folder / "state.part"
            part.write_text(json.dumps({"private": repo.private, "refs": repo.refs, "pulls": repo.pulls}, indent=1))
            part.rename(repo.folder / "state.json")

    def merge(self, repo: Repo, number: int, author: str) -> str:
        """Bring a pull request's tree onto main, where main has not moved since. Raises RefusedError."""
        with self.lock:
            pull = repo.pulls[number - 1]
            if pull["status"] != "open":
                raise RefusedError(400, f"Pull request is {pull['status']}")
            head = repo.resolve(f"refs/pr/{number}")
            line = [oid for oid, _ in repo.log(head)]
            if repo.refs[MAIN] not in line:
                raise RefusedError(409, "This pull request has conflicts with main")
            title = f"{pull['title']} (#{number})"
            merged = Commit(repo.refs[MAIN], repo.commit(head).files, title, "", author, self.now)
            pull["status"] = "merged"
            pull["merge"] = self.write(repo, MAIN, merged)
            return str(pull["merge"])
