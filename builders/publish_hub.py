"""A release or a model onto the Hugging Face Hub: one commit, then its tag, then all of it read back.

Large files are uploaded first, where no reader sees them; one commit, guarded by its parent, then adds, replaces and
deletes; the version tag comes last and never moves. Cut off anywhere, the same push again finds what is there and
does the rest, or nothing. Refuses: a version that exists with other bytes, a step of the version smaller than what
changed, sources that forbid sharing, files that someone else changed there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from itertools import takewhile
from time import sleep
from typing import TYPE_CHECKING, Any

from zhiling.builders import publish_client
from zhiling.builders.publish_artifact import Artifact, check_card
from zhiling.builders.publish_check import refuse_edits, refuse_obstacles, refuse_version
from zhiling.builders.publish_client import Hub, NotDoneError, connection, plainly, redact
from zhiling.builders.publish_plan import Options, differences, make_plan, show
from zhiling.builders.publish_shelf import Shelf, look, look_before_push
from zhiling.console import note
from zhiling.errors import UserError, one_line

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

BUFFERED = 10 * 2**20  # smaller files are read once, so that what is checked is what is sent


def push_to_hub(artifact: Artifact, name: str, options: Options) -> str:
    """Publish and return `hub:ORG/NAME@vX.Y.Z`, or `hub:ORG/NAME#N` of a pull request. Raises UserError."""
    check_card(artifact)
    with connection() as api:
        hub = Hub(api, "model" if artifact.kind == "model" else "dataset", name)
        with _telling("nothing was published"):
            me = str(hub.ask("asking whose token it is", api.whoami)["name"])
            shelf = look_before_push(hub, artifact, options.revision)
            commit = _find(hub, artifact, shelf)
            tagged = artifact.tag in shelf.tags
            if not commit:
                _check(hub, artifact, shelf, options)
        if options.dry_run:
            return _rehearse(hub, artifact, shelf, options, commit)
        if commit and tagged:
            note(f"{hub}@{artifact.tag} is there already, with the same bytes")
        elif options.pr and not commit:
            return _as_pull_request(hub, artifact, options, me)
        else:
            commit = commit or _publish(hub, artifact, shelf, options)
            with _telling(f"it is published as commit {commit[:8]}, but without its tag"):
                _tag(hub, artifact, commit)
        with _telling(f"it is published as {artifact.tag}"):
            _read_back(hub, artifact, commit)
            if options.collection:
                _collect(hub, options.collection)
    return f"hub:{name}@{artifact.tag}"


@contextmanager
def _telling(state: str) -> Iterator[None]:
    """Add to an error what was and was not done when it came."""
    try:
        yield
    except UserError as error:
        if "published" in error.saw:
            raise
        raise UserError(error.where, f"{error.saw}; {state}", error.do) from None


def _find(hub: Hub, artifact: Artifact, shelf: Shelf) -> str:
    """The commit that holds this very artifact, by tag, at the head or in the history; "" where there is none."""
    if artifact.tag in shelf.tags:
        commit = shelf.tags[artifact.tag]
        differ = differences(hub.files(commit), artifact)
        if differ:
            saw = f"{artifact.tag} is published with other bytes ({'; '.join(differ[:3])})"
            raise UserError(str(hub), saw, "raise `version` and build again: a published version never changes")
        return commit
    if shelf.exists and not differences(shelf.files, artifact):
        return shelf.head
    for commit, title, _ in shelf.log:
        if f"({artifact.digest[:16]})" in title and not differences(hub.files(commit), artifact):
            return commit
    return ""


def _check(hub: Hub, artifact: Artifact, shelf: Shelf, options: Options) -> None:
    """Refuse what must not be published. Raises UserError."""
    private = shelf.private if shelf.exists else options.private
    refuse_obstacles(hub, artifact, private, shelf.exists)
    if shelf.exists and options.private and not shelf.private:
        raise UserError(str(hub), "is public, and --private was asked for", "make it private on its page, or drop it")
    if not shelf.exists:
        other = replace(hub, kind="model" if hub.kind == "dataset" else "dataset")
        if hub.ask("looking for a namesake", lambda: other.api.repo_exists(**other.place)):
            raise UserError(str(hub), f"is the name of a {other.kind}, and this is a {hub.kind}", "choose another name")
        if options.pr:
            raise UserError(str(hub), "no such repository", "push without --pr to make it")
        return
    refuse_edits(hub, shelf.files, shelf.log, shelf.manifest, shelf.tags, options.yes)
    refuse_version(hub, artifact, shelf.head, shelf.tags, shelf.manifest)


def _rehearse(hub: Hub, artifact: Artifact, shelf: Shelf, options: Options, commit: str) -> str:
    """Print what a push would do."""
    if commit:
        state = "nothing to do" if artifact.tag in shelf.tags else f"would set the tag {artifact.tag} to {commit[:8]}"
        print(f"{hub}: {artifact.title} is there, {state}")
        return f"hub:{hub.name}"
    card = hub.read("README.md", shelf.head) if "README.md" in shelf.files else b""
    about = {
        "repository": f"{'private' if shelf.private else 'public'}" if shelf.exists
        else f"would be made, {'private' if options.private else 'public'}",
        "branch": "a pull request" if options.pr else options.revision,
        "tag": "none before it is merged" if options.pr else artifact.tag,
    }
    show(make_plan(shelf.files, artifact), artifact, str(hub), card, about)
    return f"hub:{hub.name}"


def _publish(hub: Hub, artifact: Artifact, shelf: Shelf, options: Options) -> str:
    """Make the repository and the branch where they are missing; upload; commit. Returns the commit."""
    with _telling("nothing was published"):
        if options.confirm and not options.yes:
            where = f"{hub}{'' if shelf.exists else ', a new ' + ('private' if options.private else 'public') + ' one'}"
            if not options.confirm(f"{where}: {make_plan(shelf.files, artifact)}. Publish {artifact.title}?"):
                raise UserError(str(hub), "not confirmed", "run it again when it is right")
        if not shelf.exists:
            made: dict[str, Any] = {"private": options.private, "exist_ok": True}
            hub.ask("making the repository", lambda: hub.api.create_repo(**hub.place, **made))
            shelf = look(hub, options.revision)
            refuse_obstacles(hub, artifact, shelf.private, True)  # someone may have been faster, and made it public
            refuse_edits(hub, shelf.files, shelf.log, shelf.manifest, shelf.tags, options.yes)
        if not shelf.branch:
            _branch(hub, options.revision, shelf.head)
    return _commit(hub, artifact, shelf, options.revision)


def _branch(hub: Hub, name: str, commit: str) -> None:
    """Make a branch that starts at a commit."""
    def is_there() -> bool:
        return name in {b.name for b in hub.api.list_repo_refs(**hub.place).branches}

    def make() -> None:
        if is_there():
            return
        hub.api.create_branch(**hub.place, branch=name, revision=commit, exist_ok=True)
        if not is_there():
            raise NotDoneError("the branch is not there, though the answer said so")

    hub.ask("making the branch", make)


def _commit(hub: Hub, artifact: Artifact, shelf: Shelf, revision: str) -> str:
    """Upload what is new and make it one commit on `revision`, whose head must still be `shelf.head`."""
    with _telling("nothing was published"):
        adds, deletes = _operations(artifact, shelf)
        place = {**hub.place, "revision": revision}
        if adds:
            note(f"{hub}: {make_plan(shelf.files, artifact)}")
            upload: dict[str, Any] = {"additions": adds, "gitignore_content": "", "free_memory": False}
            hub.ask("uploading", lambda: hub.api.preupload_lfs_files(**place, **upload), tries=3)
    said = f"manifest.json sha256 {artifact.digest}"
    about: dict[str, Any] = {"commit_message": artifact.title, "commit_description": said}
    patience = publish_client.PATIENCE
    wait = patience.first_wait
    for attempt in range(patience.retries + 1):
        try:
            made = hub.api.create_commit(**place, **about, operations=[*adds, *deletes], parent_commit=shelf.head)
            return str(made.oid)
        except Exception as error:  # whether it was done is not known before the history was read
            landed = _landed(hub, artifact, revision, shelf.head)
            if landed:
                return landed
            last = attempt == patience.retries
            if last or not (publish_client.may_pass(error) or publish_client.status(error) == 412):
                with _telling("nothing is published so far"):
                    hub.fail("committing", error)
            pause = min(patience.longest_wait, publish_client.retry_after(error) or wait)
            note(f"{hub}: committing: {plainly(error)}; trying again in {pause:g} s")
        sleep(pause)
        wait *= 2
    raise AssertionError("unreachable")


def _operations(artifact: Artifact, shelf: Shelf) -> tuple[list["CommitOperationAdd"], list["CommitOperationDelete"]]:
    """What changes, as the client wants it, with the manifest's digests: other bytes than those are not accepted."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    adds, deletes = [], []
    for operation in make_plan(shelf.files, artifact).operations:
        if operation.what == "delete":
            deletes.append(CommitOperationDelete(operation.path))
            continue
        file = artifact.files[operation.path]
        if file.bytes <= BUFFERED:
            data = file.path.read_bytes()
            if sha256(data).hexdigest() != file.sha256:
                raise UserError(str(file.path), "was changed while it was being pushed", "leave it alone and run again")
            adds.append(CommitOperationAdd(operation.path, data))
        else:
            adds.append(CommitOperationAdd(operation.path, file.path))
            adds[-1].upload_info.sha256 = bytes.fromhex(file.sha256)
    return adds, deletes


def _landed(hub: Hub, artifact: Artifact, revision: str, parent: str) -> str:
    """The commit, made since `parent`, that holds the artifact; "" where nothing was made. Raises where others won."""
    with _telling("whether the commit was made is not known; no reader sees a part of it"):
        shelf = look(hub, revision)
    if shelf.head == parent:
        return ""
    for commit, title, _ in takewhile(lambda entry: entry[0] != parent, shelf.log):
        if f"({artifact.digest[:16]})" in title and not differences(hub.files(commit), artifact):
            return commit
    commit, title, authors = shelf.log[0]
    saw = f"{authors or 'someone'} published '{redact(one_line(title, 80))}' meanwhile (commit {commit[:8]})"
    do = f"look at it with `zhiling pull {hub}`, compare with `zhiling diff`, raise `version` if need be and push again"
    raise UserError(str(hub), f"{saw}; nothing of yours was published", do)


def _tag(hub: Hub, artifact: Artifact, commit: str) -> None:
    """Set the version's tag, once and for ever."""
    def is_there() -> bool:
        return artifact.tag in {t.name for t in hub.api.list_repo_refs(**hub.place).tags}

    def put() -> None:
        if is_there():  # whose it is, is read back later
            return
        hub.api.create_tag(**hub.place, tag=artifact.tag, revision=commit, exist_ok=True)
        if not is_there():
            raise NotDoneError("the tag is not there, though the answer said so")

    hub.ask(f"setting the tag {artifact.tag}", put)


def _read_back(hub: Hub, artifact: Artifact, commit: str) -> None:
    """Compare what the Hub now says with the manifest: the tag's commit, every size and digest."""
    refs = hub.ask("reading the tag back", lambda: hub.api.list_repo_refs(**hub.place))
    tagged = {t.name: t.target_commit for t in refs.tags}.get(artifact.tag)
    if tagged != commit:
        saw = f"{artifact.tag} names commit {str(tagged)[:8]}, which someone set meanwhile, not {commit[:8]}"
        raise UserError(str(hub), saw, "raise `version` and push again")
    differ = differences(hub.files(commit), artifact)
    if differ:
        saw = f"{artifact.tag} does not hold what was sent ({'; '.join(differ[:3])})"
        raise UserError(str(hub), saw, "report it, with the commit")
    note(f"{hub}@{artifact.tag}: commit {commit[:8]}, {len(artifact.files)} files, read back as the manifest says")


def _as_pull_request(hub: Hub, artifact: Artifact, options: Options, me: str) -> str:
    """Publish as a pull request, one for each artifact however often it is tried."""
    def open_pull() -> int:
        found = hub.api.get_repo_discussions(**hub.place, discussion_type="pull_request")
        for pull in found:
            if pull.title == artifact.title and pull.author == me and pull.status in ("draft", "open"):
                return pull.num
        return hub.api.create_pull_request(**hub.place, title=artifact.title, description="Made by `zhiling push`.").num

    with _telling("nothing was published"):
        number = hub.ask("opening a pull request", open_pull)
        ref = f"refs/pr/{number}"
        shelf = look(hub, ref)
        if differences(shelf.files, artifact):
            _commit(hub, artifact, shelf, ref)
            shelf = look(hub, ref)
        differ = differences(shelf.files, artifact)
        if differ:
            raise UserError(str(hub), f"pull request {number} does not hold what was sent ({differ[0]})", "close it")

        def ready() -> None:
            if hub.api.get_discussion_details(**hub.place, discussion_num=number).status == "draft":
                hub.api.change_discussion_status(**hub.place, discussion_num=number, new_status="open")

        hub.ask("marking the pull request as ready", ready)
    note(f"{hub}: pull request {number}. When it is merged, push again without --pr: that sets {artifact.tag}")
    return f"hub:{hub.name}#{number}"


def _collect(hub: Hub, collection: str) -> None:
    """Put the repository into a collection, by slug or by title; make it where it is missing."""
    def add() -> None:
        slug = collection
        if "/" not in slug:
            slug = hub.api.create_collection(collection, namespace=hub.name.split("/")[0], exists_ok=True).slug
        hub.api.add_collection_item(slug, hub.name, hub.kind, exists_ok=True)

    hub.ask(f"adding to the collection '{collection}'", add)
