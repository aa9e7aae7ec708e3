"""What a push would do: files to add, replace and delete, the bytes they take, how the card changes.

In: an artifact and what stands on the Hub. Out: a plan to show, to confirm, or to carry out.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zhiling.builders.publish_artifact import Artifact, File
from zhiling.builders.publish_client import RemoteFile
from zhiling.console import table
from zhiling.errors import one_line

KEPT = frozenset({".gitattributes"})  # the Hub's own file: says what is large


@dataclass(frozen=True)
class Options:
    """How to push."""

    private: bool = False            # make a new repository private
    pr: bool = False                 # as a pull request
    revision: str = "main"           # the branch
    dry_run: bool = False            # show, change nothing
    yes: bool = False                # replace what others changed there, ask nothing
    collection: str | None = None    # title or slug of a collection to put it in
    version: str | None = None       # of a model
    confirm: Callable[[str], bool] | None = None  # asks the person, where there is one


@dataclass(frozen=True)
class Operation:
    """What happens to one path."""

    what: Literal["add", "replace", "delete"]
    path: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """All operations of one commit."""

    operations: tuple[Operation, ...]
    kept: int                        # files that are there already, byte for byte

    @property
    def bytes(self) -> int:
        """Bytes to send at most."""
        return sum(o.bytes for o in self.operations if o.what != "delete")

    def __str__(self) -> str:
        counts = {what: sum(o.what == what for o in self.operations) for what in ("add", "replace", "delete")}
        said = ", ".join(f"{what} {count}" for what, count in counts.items() if count) or "change nothing"
        return f"{said}; keep {self.kept}; {self.bytes:,} bytes to send"


def is_same(there: RemoteFile | None, here: File) -> bool:
    """Whether the Hub holds these very bytes."""
    if there is None or there.bytes != here.bytes:
        return False
    return there.sha256 == here.sha256 if there.sha256 else there.git_oid == here.git_oid


def differences(there: Mapping[str, RemoteFile], artifact: Artifact) -> list[str]:
    """How a commit's files differ from the artifact, one line each; empty where every byte is the same."""
    lines = [f"{name}: missing" for name in sorted(artifact.files) if name not in there]
    lines += [f"{name}: not in the manifest" for name in sorted(there.keys() - artifact.files.keys() - KEPT)]
    both = [name for name in sorted(artifact.files) if name in there]
    return lines + [f"{name}: changed" for name in both if not is_same(there[name], artifact.files[name])]


def make_plan(there: Mapping[str, RemoteFile], artifact: Artifact) -> Plan:
    """The operations that turn a commit's files into the artifact's, and no others."""
    operations = []
    for name, here in sorted(artifact.files.items()):
        if not is_same(there.get(name), here):
            operations.append(Operation("replace" if name in there else "add", name, here.bytes))
    gone = sorted(there.keys() - artifact.files.keys() - KEPT)
    operations += [Operation("delete", name, there[name].bytes) for name in gone]
    return Plan(tuple(operations), len(artifact.files) - sum(o.what != "delete" for o in operations))


def show(plan: Plan, artifact: Artifact, where: str, card: bytes, about: Mapping[str, Any]) -> None:
    """Print the plan in full, and how the card changes."""
    rows = [[o.what, o.path, o.bytes] for o in plan.operations]
    if rows:
        table(f"push {artifact.title} to {where}", ["what", "file", "bytes"], rows)
    for key, value in about.items():
        print(f"{key}: {value}")
    print(f"{where}: would {plan}")
    mine = (artifact.folder / "README.md").read_text(encoding="utf-8").splitlines()
    theirs = card.decode("utf-8", "replace").splitlines()
    for line in difflib.unified_diff(theirs, mine, "README.md there", "README.md here", lineterm="", n=1):
        print(one_line(line, 160) if line.strip() else line)
