"""What is published: a release or a model folder, checked before anything leaves this machine.

In: a folder with a manifest. Out: its name, version and files with their digests. Refuses a folder that does not
agree with its manifest, a card that the Hub would not take, a name or version that is none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import Any, Literal

from zhiling.builders.licenses import Obstacle, obstacles
from zhiling.errors import UserError, one_line
from zhiling.store import MANIFEST, differences, file_digest, read_json, read_manifest

Kind = Literal["release", "model"]
NAME = re.compile(r"\w[\w .-]*")  # a folder of that name stands where it is meant to
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
STEPS = ("none", "patch", "minor", "major")


@dataclass(frozen=True)
class File:
    """One file: where it stands, its size and digest."""

    path: Path
    bytes: int
    sha256: str

    @cached_property
    def git_oid(self) -> str:
        """Git's id of its bytes, by which the Hub names files that are not large."""
        found = sha1(b"blob %d\0" % self.bytes, usedforsecurity=False)
        with self.path.open("rb") as f:
            while chunk := f.read(1 << 20):
                found.update(chunk)
        return found.hexdigest()


@dataclass(frozen=True)
class Artifact:
    """A folder to publish."""

    folder: Path
    kind: Kind
    name: str
    version: str
    files: Mapping[str, File]   # by path in the folder, the manifest among them
    about: Mapping[str, Any]    # the manifest

    @property
    def tag(self) -> str:
        """The tag that names this version for ever."""
        return f"v{self.version}"

    @property
    def digest(self) -> str:
        """sha256 of the manifest, which holds every other digest."""
        return self.files[MANIFEST].sha256

    @property
    def title(self) -> str:
        """The title of the commit that publishes this, by which a later push finds it again."""
        return f"{self.name} {self.version} ({self.digest[:16]})"

    def obstacles(self) -> list[Obstacle]:
        """Sources whose licence forbids sharing; none where the recipe says why it is shared anyway."""
        licence = self.about.get("license")
        if isinstance(licence, dict) and licence.get("share_anyway"):
            return []
        corpora = self.about.get("corpora", {})
        return obstacles({name: str(corpus.get("license", "")) for name, corpus in corpora.items()})


def read_artifact(folder: Path, version: str | None = None) -> Artifact:
    """A release or a model, whole and as its manifest says. `version` is for models, whose manifest has none.

    Raises UserError where the folder is neither, is damaged, states no usable version or has a card that is none.
    """
    found = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
    kind: Kind = "model" if isinstance(found, dict) and found.get("kind") == "model" else "release"
    about = read_manifest(folder, kind)
    broken = differences(folder, kind)
    if broken:
        more = "" if len(broken) < 4 else f" and {len(broken) - 3} more"
        saw = f"does not agree with its manifest ({'; '.join(broken[:3])}{more}); nothing was published"
        raise UserError(str(folder), saw, "build it anew")
    if version and kind == "release" and version != about.get("version"):
        raise UserError(str(folder), f"is version {about.get('version')}, not {version}", "set `version` in the recipe")
    stated = str(about.get("version") or version or "")
    if not stated and kind == "model":
        raise UserError(str(folder), "a model folder states no version", "add --version 1.0.0")
    parse_version(stated, str(folder))
    name = about.get("name")
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise UserError(str(folder), f"its name is {one_line(repr(name))}", "name it in letters, digits and hyphens")
    files = {name: File(folder / name, entry["bytes"], entry["sha256"]) for name, entry in about["files"].items()}
    manifest = folder / MANIFEST
    files[MANIFEST] = File(manifest, manifest.stat().st_size, file_digest(manifest))
    return Artifact(folder, kind, name, stated, files, about)


def check_card(artifact: Artifact) -> None:
    """Refuse a card that the Hub's own card classes do not read, or a model's whose `model-index` is none."""
    from huggingface_hub import DatasetCard, ModelCard

    path = artifact.folder / "README.md"
    if not path.is_file():
        raise UserError(str(path), "no such file", "a published folder needs a card; build it anew")
    text = path.read_text(encoding="utf-8")
    try:
        card = (ModelCard if artifact.kind == "model" else DatasetCard)(text, ignore_metadata_errors=False)
    except Exception as error:  # yaml's errors, ValueError, TypeError: whatever the classes raise
        raise UserError(str(path), f"its front matter is no card ({one_line(str(error), 120)})", "mend it") from None
    if not isinstance(card.data.get("license"), str | list):
        raise UserError(str(path), "its front matter names no licence", "add `license:`")


def parse_version(text: str, where: str) -> tuple[int, int, int]:
    """`1.2.0` as numbers. Raises UserError."""
    found = VERSION.fullmatch(text.removeprefix("v"))
    if not found:
        raise UserError(where, f"version {text!r} is not of the form 1.2.0", "write three numbers with dots")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


def step(before: str, after: str) -> str:
    """Which part of the version rises from `before` to `after`: major, minor, patch; none where it does not."""
    old, new = parse_version(before, "version"), parse_version(after, "version")
    if new <= old:
        return "none"
    return next(name for i, name in enumerate(("major", "minor", "patch")) if new[i] != old[i])


def next_version(before: str, bump: str) -> str:
    """The smallest version after `before` that makes this step."""
    major, minor, patch = parse_version(before, "version")
    steps = {"major": (major + 1, 0, 0), "minor": (major, minor + 1, 0)}
    return ".".join(map(str, steps.get(bump, (major, minor, patch + 1))))


def refuse_small_step(folder: Path, before: str, after: str, bump: str, why: str) -> None:
    """Raise UserError where `after` rises above `before` by less than what changed calls for.

    Below 1.0.0 a minor step may change anything, as semver has it.
    """
    made = step(before, after)
    if made == "none" and after != before:
        saw = f"version {after} is older than {before}"
        raise UserError(str(folder), saw, f"raise it to {next_version(before, bump)}")
    wanted = "minor" if bump == "major" and before.startswith("0.") else bump
    if STEPS.index(made) < STEPS.index(wanted):
        saw = f"{before} -> {after} is a {made} step, but {why}, a {bump} change"
        raise UserError(str(folder), saw, f"set the version to {next_version(before, wanted)} or later")
