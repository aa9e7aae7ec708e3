"""A plan turns what is there into what is here, and does nothing that it need not."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zhiling.builders.publish_artifact import Artifact, File
from zhiling.builders.publish_client import RemoteFile
from zhiling.builders.publish_plan import KEPT, differences, make_plan

NAMES = ["README.md", "data/a", "data/b", "x", "manifest.json"]
CONTENTS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("abc"))


def artifact(contents: dict[str, str]) -> Artifact:
    files = {name: File(Path(name), 1, text * 64) for name, text in contents.items()}
    return Artifact(Path("here"), "release", "tiny", "1.0.0", files, {})


def remote(contents: dict[str, str]) -> dict[str, RemoteFile]:
    return {name: RemoteFile(1, "0" * 40, text * 64) for name, text in contents.items()}


@given(CONTENTS, CONTENTS)
def test_carried_out_it_leaves_no_difference_and_touches_no_file_that_is_the_same(
    there: dict[str, str], here: dict[str, str]
) -> None:
    plan = make_plan(remote(there) | remote(dict.fromkeys(KEPT, "k")), artifact(here))
    after = dict(there)
    for operation in plan.operations:
        assert (operation.what == "add") == (operation.path not in after)
        if operation.what == "delete":
            del after[operation.path]
        else:
            assert after.get(operation.path) != here[operation.path]
            after[operation.path] = here[operation.path]
    assert after == here and differences(remote(after), artifact(here)) == []
    assert plan.kept == sum(there.get(name) == text for name, text in here.items())
