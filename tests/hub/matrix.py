"""Every request of a push × everything that can go wrong with it: what comes out, in one word.

A cell publishes 1.0.0, then pushes 1.1.0 while one request goes wrong, once or for good; then the trouble ends and the
same push runs again. Nothing may be lost, nothing mixed: every commit that main or a tag ever named is checked, tags
must not have moved, and the release must be there exactly once. The long
tests write the table of docs/publishing.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hub.faults import Fault
from tests.hub.history import MAIN, Repo
from tests.hub.server import Hub
from zhiling.builders.publish import push
from zhiling.builders.publish_artifact import Artifact, read_artifact
from zhiling.builders.publish_client import RemoteFile
from zhiling.builders.publish_plan import KEPT, Options, differences
from zhiling.errors import UserError

REQUESTS = {  # request -> the push that makes it
    "whoami": "next", "repo_info": "next", "refs": "next", "tree": "next", "resolve": "next", "storage_get": "next",
    "commits": "next", "create_repo": "first", "branch": "branch", "preupload": "next", "lfs_batch": "next",
    "lfs_put": "next", "lfs_verify": "next", "validate_yaml": "next", "commit": "next", "tag": "next",
    "pull_list": "pr", "pull_create": "pr", "pull_show": "pr", "pull_status": "pr",
    "collection_create": "collection", "collection_add": "collection",
}
FAULTS = {
    "cut before": {"kind": "cut_head"}, "cut in request": {"kind": "cut_body"}, "cut in answer": {"kind": "cut_answer"},
    "answer lost": {"kind": "lost_answer"}, "done, then 500": {"kind": "late_500"},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503, "headers": {"Retry-After": "0"}},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "0"}},
    "412": {"kind": "status", "status": 412, "error": "A commit has happened since. Please refresh and try again."},
    "403": {"kind": "status", "status": 403, "error": "Forbidden"},
    "507": {"kind": "status", "status": 507, "error": "Insufficient Storage"},
    "proxy's page": {"kind": "html"}, "slow": {"kind": "slow"}, "no answer": {"kind": "hang", "seconds": 1.3},
}
LASTING = ("cut before", "cut in answer", "answer lost", "500", "503", "403", "507", "proxy's page")
DONE, AGAIN = "done", "refused; done by the next push"


@dataclass(frozen=True)
class Cell:
    """One request, one fault, once or for good."""

    request: str
    fault: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.request}-{self.fault.replace(' ', '_')}{'-lasting' if self.lasting else ''}"

    def planned(self) -> Fault:
        """The fault, to be planned."""
        return Fault(self.request, times=10_000 if self.lasting else 1, **FAULTS[self.fault])  # type: ignore[arg-type]


def cells() -> list[Cell]:
    """The whole matrix."""
    once = [Cell(request, fault) for request in REQUESTS for fault in FAULTS]
    return once + [Cell(request, fault, True) for request in REQUESTS for fault in LASTING]


def run(cell: Cell, hub: Hub, one: Path, two: Path) -> str:
    """Run one cell and return its outcome. Raises AssertionError where something was lost or mixed."""
    scenario = REQUESTS[cell.request]
    options = Options(
        pr=scenario == "pr", revision="next" if scenario == "branch" else "main",
        collection="Ours" if scenario == "collection" else None,
    )
    wanted = read_artifact(one if scenario == "first" else two)
    if scenario != "first":
        push(one, "hub:org/tiny")
    hub.faults.plan(cell.planned())
    outcome = DONE
    try:
        push(wanted.folder, "hub:org/tiny", options)
    except UserError as error:
        assert "\n" not in str(error) and ("published" in error.saw or "not known" in error.saw), error
        outcome = AGAIN
    assert hub.faults.struck, f"{cell.request} was never asked for"
    hub.faults.clear()
    push(wanted.folder, "hub:org/tiny", options)
    check(hub, [read_artifact(one), wanted], pr=options.pr)
    if options.collection:
        (collection,) = hub.history.collections.values()
        assert len(collection["items"]) == 1
    return outcome


def check(hub: Hub, artifacts: list[Artifact], pr: bool = False) -> None:
    """Whole, single, unmoved: every state that main or a tag ever had, and the last one."""
    repo = hub.history.find("dataset", "org/tiny")
    tags: dict[str, str] = {}
    for ref, oid in hub.history.moves:
        files = tree(repo, oid)
        if not ref.startswith("refs/pr/"):
            whole = [a for a in artifacts if not differences(files, a)]
            assert whole or files.keys() <= KEPT, f"{ref} named a mixture"
            assert not ref.startswith("refs/tags/") or whole[0].tag == ref.removeprefix("refs/tags/")
        if ref.startswith("refs/tags/"):
            assert tags.setdefault(ref, oid) == oid, f"{ref} moved"
    titles = [c.title for ref in {*repo.refs.values()} for _, c in repo.log(ref)]
    last = artifacts[-1]
    made = {oid for ref in repo.refs for oid, c in repo.log(ref) if c.title == last.title}
    assert len(made) == 1, f"{len(made)} commits of one release, of {titles}"
    if pr:
        assert len(repo.pulls) == 1 and repo.pulls[0]["status"] == "open" and last.tag not in tags
        assert not differences(tree(repo, repo.refs["refs/pr/1"]), last)
    else:
        assert repo.refs[f"refs/tags/{last.tag}"] in made
        assert not differences(tree(repo, repo.refs[f"refs/tags/{last.tag}"]), last)
    if len(artifacts) > 1 and artifacts[0].tag != last.tag:
        assert not differences(tree(repo, repo.refs[f"refs/tags/{artifacts[0].tag}"]), artifacts[0])
    assert repo.refs[MAIN]


def tree(repo: Repo, oid: str) -> dict[str, RemoteFile]:
    """A commit's files, as the client sees them."""
    return {path: RemoteFile(f["size"], f["oid"], f["lfs"]) for path, f in repo.tree(oid).items()}


def table(outcomes: dict[str, str]) -> Iterator[str]:
    """The matrix in Markdown, a row a request and a column a fault: once, and for as long as the first push runs."""
    for title, faults, lasting in (("Once", FAULTS, False), ("For as long as the push runs", LASTING, True)):
        yield f"\n**{title}**\n"
        yield f"| request | {' | '.join(faults)} |"
        yield "|---|" + ":-:|" * len(faults)
        for request in REQUESTS:
            found = [outcomes[str(Cell(request, fault, lasting))] for fault in faults]
            yield f"| `{request}` | {' | '.join('●' if outcome == DONE else '○' for outcome in found)} |"
