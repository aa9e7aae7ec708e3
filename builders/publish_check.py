"""What must not be published on the Hub, and why: licences, other people's changes, a step of the version too small.

Each check raises UserError; what they read of the previous release is fetched only where it is not at hand.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zhiling.builders.diff import diff
from zhiling.builders.publish_artifact import VERSION, Artifact, parse_version, refuse_small_step
from zhiling.builders.publish_client import Hub, RemoteFile, redact
from zhiling.builders.publish_plan import KEPT
from zhiling.console import note
from zhiling.errors import UserError, one_line
from zhiling.store import MANIFEST, file_digest, write_bytes

Log = Sequence[tuple[str, str, str]]  # commit, title, authors; newest first
AROUND = ("README.md", "plots/", "CHANGELOG.md", "LICENSE", "CITATION.cff")  # of a model: no part of its answers


def refuse_obstacles(hub: Hub, artifact: Artifact, private: bool, exists: bool) -> None:
    """Refuse to share what a source forbids to share."""
    found = artifact.obstacles()
    if found and not private:
        first = found[0]
        saw = f"corpus '{first.corpus}' ({first.license or 'no licence'}) {first.why}; nothing was published"
        do = "leave the corpus out, or make the repository private" + ("" if exists else " with --private")
        raise UserError(str(hub), saw, do)


def refuse_edits(
    hub: Hub, files: Mapping[str, RemoteFile], log: Log, manifest: bytes, tags: Mapping[str, str], yes: bool
) -> None:
    """Refuse to overwrite or delete what no push of ours put there, unless the person says yes.

    Ours is the newest commit whose title holds the digest of the manifest there, or that its version's tag names.
    """
    digest = sha256(manifest).hexdigest()[:16] if manifest else "-"
    tagged = tags.get(f"v{_content(manifest).get('version')}")
    ours = next((commit for commit, title, _ in log if f"({digest})" in title or commit == tagged), None)
    before = hub.files(ours) if ours and ours != log[0][0] else files if ours else {}
    edited = sorted(n for n in {*files, *before} - KEPT if files.get(n) != before.get(n))
    if not edited:
        return
    who = sorted({authors for commit, _, authors in log if commit != ours and authors})[:3]
    shown = f"{', '.join(edited[:3])}{f' and {len(edited) - 3} more' if len(edited) > 3 else ''}"
    said = redact(one_line(f"{', '.join(who) or 'someone'}: {shown}", 200))
    saw = f"{len(edited)} files there were put or changed by others ({said})"
    if not yes:
        do = "take over what you need, then add --yes to replace them"
        raise UserError(str(hub), f"{saw}; nothing was published", do)
    note(f"{hub}: {saw}; replaced as --yes says")


def refuse_version(hub: Hub, artifact: Artifact, head: str, tags: Mapping[str, str], manifest: bytes) -> None:
    """Refuse another dataset's place, an older version, and a step smaller than what changed calls for."""
    about = _content(manifest)
    if not about:
        return
    kind, name = about.get("kind"), about.get("name")
    if (kind, name) != (artifact.kind, artifact.name):
        saw = f"holds the {kind} '{one_line(redact(str(name)))}', and this is the {artifact.kind} '{artifact.name}'"
        raise UserError(str(hub), f"{saw}; nothing was published", "give it a repository of its own")
    versions = sorted(parse_version(t, t) for t in tags if VERSION.fullmatch(t.removeprefix("v")))
    before = str(about.get("version") or ".".join(map(str, versions[-1])) if about.get("version") or versions else "")
    if not before:
        return
    parse_version(before, f"{hub}: {MANIFEST}")
    if artifact.kind == "model":
        changed = [n for n, f in artifact.files.items() if f.sha256 != about["files"].get(n, {}).get("sha256")]
        inner = [n for n in changed if n != MANIFEST and not n.startswith(AROUND)]
        bump, why = ("major", f"{inner[0]} differs") if inner else ("patch", "words around it differ")
    else:
        bump, why = _compare(hub, artifact, head, before, manifest)
    refuse_small_step(artifact.folder, before, artifact.version, bump, why)


def _content(manifest: bytes) -> dict[str, Any]:
    """A manifest as read from the Hub; empty where it is none."""
    try:
        found = json.loads(manifest)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else {}


def _compare(hub: Hub, artifact: Artifact, head: str, before: str, manifest: bytes) -> tuple[str, str]:
    """The step that the changes since the published release call for, and what they are."""
    neighbour = artifact.folder.resolve().parent / before
    at_hand = (neighbour / MANIFEST).is_file() and file_digest(neighbour / MANIFEST) == sha256(manifest).hexdigest()
    with TemporaryDirectory(prefix="zhiling-") as folder:
        previous = neighbour if at_hand else Path(folder)
        if not at_hand:
            write_bytes(previous / MANIFEST, manifest)
            _fetch_tables(hub, artifact, head, _content(manifest)["files"], previous)
        found = diff(previous, artifact.folder)
    ways = {"removed": "removed", "changed": "changed", "moved": "moved", "added": "added"}
    said = [f"{found.rows(kind):,} rows were {word}" for kind, word in ways.items() if found.rows(kind)]  # type: ignore[arg-type]
    said += ["columns changed"] if found.columns else []
    return found.bump, " and ".join(said) or "words around the data changed"


def _fetch_tables(hub: Hub, artifact: Artifact, head: str, files: Mapping[str, Any], folder: Path) -> None:
    """Fetch the tables that changed: where any of its shards differs, all of a table's."""
    shards = {n for n in {**files, **artifact.files} if n.startswith(("data/", "corpus/"))}
    mine = {n: f.sha256 for n, f in artifact.files.items()}
    changed = {n.rpartition("/")[0] for n in shards if files.get(n, {}).get("sha256") != mine.get(n)}
    wanted = [n for n in files if n in shards and n.rpartition("/")[0] in changed]
    if wanted:
        note(f"{hub}: fetching {len(wanted)} shards of the published release, to compare")
        asked: dict[str, Any] = {**hub.place, "revision": head, "allow_patterns": wanted, "local_dir": folder}
        hub.ask("fetching the published release", lambda: hub.api.snapshot_download(**asked), tries=3)
