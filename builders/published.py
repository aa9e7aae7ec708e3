"""What is published: its versions, a copy of one, and whether it is still what its manifest says.

In: `hub:ORG/NAME`, or `hub:ORG/NAME@v1.2.0` (a tag, a branch, a commit), or a folder or store of versions. All of it
works from the published side alone: no local release is needed. Refuses a copy that does not agree with its manifest.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from zhiling.builders.publish import hub_name
from zhiling.builders.publish_artifact import VERSION, parse_version
from zhiling.builders.publish_client import Hub, RepoType, connection
from zhiling.builders.publish_plan import KEPT
from zhiling.builders.publish_shelf import Shelf, look
from zhiling.console import note, progress
from zhiling.errors import UserError, one_line
from zhiling.store import MANIFEST, differences


@dataclass(frozen=True)
class Version:
    """One published version."""

    version: str
    commit: str   # "" outside the Hub
    title: str
    newest: bool  # what the branch main, or a reader who asks for no version, gets


def versions(target: str) -> list[Version]:
    """The versions at a target, newest first. Raises UserError."""
    if not target.startswith("hub:"):
        return _versions_in_store(target)
    name, _ = _parts(target)
    with connection() as api:
        _, shelf = _find(api, name, "main")
        found = []
        for tag in _newest_first(shelf.tags):
            commit = shelf.tags[tag]
            title = next((t for oid, t, _ in shelf.log if oid == commit), "not on main")
            found.append(Version(tag.removeprefix("v"), commit, one_line(title, 100), commit == shelf.head))
    return found


def _newest_first(tags: Iterable[str]) -> list[str]:
    named = [tag for tag in tags if VERSION.fullmatch(tag.removeprefix("v"))]
    return sorted(named, key=lambda tag: parse_version(tag, tag), reverse=True)


def _versions_in_store(target: str) -> list[Version]:
    """Versions laid out as TARGET/<name>/<version>, by name; those without a manifest are not published."""
    from zhiling.builders.publish_fsspec import open_store, speaking

    with speaking(target):
        store, root = open_store(target)
        places = [PurePosixPath(path).parent for path in store.glob(f"{root.rstrip('/')}/*/*/{MANIFEST}")]
    found = []
    for name in sorted({p.parent.name for p in places}):
        order = _newest_first([p.name for p in places if p.parent.name == name])
        found += [Version(v, "", f"{name} {v}", v == order[0]) for v in order]
    return found


def pull(target: str, out: Path) -> Path:
    """Fetch one version (the newest where none is named) to `out`, checked against its manifest.

    A pull that was cut off goes on. Raises UserError where something is there, or what came is not what the
    manifest says.
    """
    name, revision = _parts(target)
    if out.exists():
        raise UserError(str(out), "exists", "give a folder that does not")
    with connection() as api:
        hub, shelf = _find(api, name, revision)
        manifest, kind = _manifest(hub, shelf)
        part = out.with_name(f".{out.name}.{shelf.head[:12]}.part")
        wanted = [*manifest["files"], MANIFEST]
        asked: dict[str, Any] = {**hub.place, "revision": shelf.head, "allow_patterns": wanted, "local_dir": part}
        hub.ask("fetching the files", lambda: api.snapshot_download(**asked), tries=3)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    for stray in [p for p in part.rglob("*") if p.is_file() and p.relative_to(part).as_posix() not in wanted]:
        stray.unlink()  # patterns may have matched more
    differ = differences(part, kind)
    if differ:
        shutil.rmtree(part)
        saw = f"what came is not what its manifest says ({'; '.join(differ[:3])})"
        raise UserError(target, saw, "tell its publisher, and use another version")
    part.rename(out)
    note(f"{target}: {len(wanted)} files, every one as its manifest says")
    return out


def verify_published(target: str) -> list[str]:
    """How a published version differs from its own manifest; empty where every size and digest agrees.

    On the Hub, large files are compared by the digest under which they are stored; small ones are read.
    """
    name, revision = _parts(target)
    with connection() as api:
        hub, shelf = _find(api, name, revision)
        manifest, _ = _manifest(hub, shelf)
        listed: Mapping[str, Any] = manifest["files"]
        there = {n: f for n, f in shelf.files.items() if n not in KEPT and n != MANIFEST}
        lines = [f"{n}: missing" for n in sorted(listed.keys() - there.keys())]
        lines += [f"{n}: not in the manifest" for n in sorted(there.keys() - listed.keys())]
        both = sorted(listed.keys() & there.keys())
        with progress("verify", len(both)) as bar:
            for n in both:
                same = there[n].bytes == listed[n]["bytes"]
                digest = there[n].sha256 or (sha256(hub.read(n, shelf.head)).hexdigest() if same else "")
                if not same or digest != listed[n]["sha256"]:
                    lines.append(f"{n}: changed")
                bar(1, n)
    return lines


def _parts(target: str) -> tuple[str, str]:
    """Name and revision of `hub:ORG/NAME@REVISION`."""
    if not target.startswith("hub:"):
        raise UserError(target, "not on the Hub", "give hub:ORG/NAME or hub:ORG/NAME@v1.2.0")
    name, _, revision = target.partition("@")
    return hub_name(name), revision or "main"


def _find(api: Any, name: str, revision: str) -> tuple[Hub, Shelf]:
    """The dataset, or else the model, of that name, at that revision. Raises UserError."""
    kinds: tuple[RepoType, ...] = ("dataset", "model")
    for kind in kinds:
        hub = Hub(api, kind, name)
        shelf = look(hub, revision, strict=True)
        if shelf.exists:
            return hub, shelf
    do = "check the name; where it is private, log in with `hf auth login`"
    raise UserError(f"hub:{name}", "no such dataset or model that you may see", do)


def _manifest(hub: Hub, shelf: Shelf) -> tuple[dict[str, Any], str]:
    """The manifest of what stands at a commit, its paths safe to write. Raises UserError."""
    try:
        found = json.loads(shelf.manifest)
        names = list(found["files"])
        kind = str(found["kind"])
    except (ValueError, TypeError, KeyError):
        saw = f"no {MANIFEST} of zhiling's at {shelf.head[:8]}"
        raise UserError(str(hub), saw, "name a version that zhiling published") from None
    for name in names:
        parts = PurePosixPath(str(name)).parts
        if not parts or ".." in parts or name.startswith("/") or re.search(r"[\\*?\[\]]|^\.cache/", name):
            raise UserError(str(hub), f"its manifest names the file '{one_line(name)}'", "do not trust it")
    return found, kind
