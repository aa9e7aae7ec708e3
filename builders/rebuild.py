"""A release built again from what it holds, and compared byte for byte.

In: a release folder, and the folder that its recipe's paths start from. Out: how the new files differ. The packs
are the release's own; the sources must be where the recipe says, Hub datasets are read at the commits of then. Nothing
of the release is touched.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from zhiling.builders.hub import COMMIT
from zhiling.builders.pipeline import build_plan
from zhiling.builders.plan import make_plan, versions
from zhiling.builders.recipe import read_recipe
from zhiling.errors import UserError
from zhiling.store import MANIFEST, read_manifest

COMPARED_APART = {"files", "made_with", "made_from", "notes"}  # the commits of Hub datasets are part of `made_from`


def rebuild(release: Path, base: Path, workers: int = 1) -> list[str]:
    """How a fresh build of `release` differs from it, one line a file; empty where every byte is the same.

    Raises UserError where a source is absent or the recipe cannot be read.
    """
    about = read_manifest(release, "release", "corpora", "made_with", "files")
    recipe, _ = read_recipe(release / "recipe.yaml")
    built = [c for c in recipe.corpora if c.name in about["corpora"]]
    packs = {c.pack: release.resolve() / "packs" / about["corpora"][c.name]["pack"] for c in built}
    commits = {name: source["sha256"].removeprefix(COMMIT) for name, corpus in about["corpora"].items()
               for source in corpus["sources"].values() if source["sha256"].startswith(COMMIT)}
    try:
        plan = make_plan(release / "recipe.yaml", base, packs, commits, about.get("left_out"))
    except UserError as error:  # of a path: the recipe, a copy of it, stands elsewhere now
        do = error.do.replace("relative to the recipe", f"relative to --base, {base.resolve()}")
        raise UserError(error.where, error.saw, do) from None
    with TemporaryDirectory(prefix="zhiling-rebuild-") as scratch:
        again = read_manifest(build_plan(plan, Path(scratch), workers), "release")
    lines = [f"{what}: was {about['made_with'].get(what)}, is {found}" for what, found in versions().items()
             if about["made_with"].get(what) != found]
    said = {key for key in about.keys() | again.keys() if about.get(key) != again.get(key)} - COMPARED_APART
    lines += [f"{MANIFEST}: other `{key}`" for key in sorted(said)]
    noted = about.get("notes", {}).get("files", [])  # written after the build, by `zhiling diff --write`
    before, after = ({n: f for n, f in found["files"].items() if n not in noted} for found in (about, again))
    lines += [f"{name}: other bytes" for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    lines += [f"{name}: only in the release" for name in sorted(before.keys() - after.keys() - {MANIFEST})]
    return lines + [f"{name}: only in the new build" for name in sorted(after.keys() - before.keys())]
