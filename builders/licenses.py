"""What a release's sources allow: a licence for the whole, and whether it may be shared.

In: the licence that each corpus states. Out: the licence that a release carries, and for each source why it
stands in the way of publishing, if it does. Building is never refused, publishing is, unless a recipe overrides
it with a reason that the card then shows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Identifiers as the Hub's `license:` front matter knows them, from permissive to demanding.
# https://huggingface.co/docs/hub/repositories-licenses
OPEN = (
    "unlicense", "cc0-1.0", "pddl", "mit", "isc", "bsd-2-clause", "bsd-3-clause", "apache-2.0", "zlib",
    "odc-by", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
)
SHARE_ALIKE = ("odbl", "cc-by-sa-3.0", "cc-by-sa-4.0", "cdla-sharing-1.0", "gfdl", "gpl-3.0", "agpl-3.0", "lgpl-3.0")
NON_COMMERCIAL = ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0")
NO_DERIVATIVES = re.compile(r"cc-by-(nc-)?nd\b.*")  # of whatever version
SILENT = (
    "", "unknown", "none", "unspecified", "not-specified", "not-stated", "n/a", "no-license", "no-licence", "null",
    "undefined", "unlicensed", "-", "?",
)
FORBIDDING = ("all-rights-reserved", "proprietary", "no-redistribution", "research-only", "use-only")


@dataclass(frozen=True)
class Obstacle:
    """A source that stands in the way of publishing, and why."""

    corpus: str
    license: str
    why: str


def identifier(stated: str) -> str:
    """A stated licence as the Hub writes it: lower case, hyphens for spaces, `CC BY-SA 4.0` as `cc-by-sa-4.0`."""
    return re.sub(r"[\s_]+", "-", stated.strip().lower())


def derived(stated: Mapping[str, str]) -> str:
    """The licence of a release made of sources under these: the one they share, the most demanding that all
    others flow into, else `other` (each row then carries its own in the column `license`)."""
    found = {identifier(text) for text in stated.values()}
    if len(found) == 1:
        only = found.pop()
        return only if only in (*OPEN, *SHARE_ALIKE, *NON_COMMERCIAL) else "other"
    demanding = found - set(OPEN)
    if not demanding:
        return max(found, key=OPEN.index)
    return demanding.pop() if len(demanding) == 1 and demanding <= {*SHARE_ALIKE, *NON_COMMERCIAL} else "other"


def obstacles(stated: Mapping[str, str]) -> list[Obstacle]:
    """The sources whose licence forbids sharing what is made from them, or that state none."""
    found = []
    for corpus, text in sorted(stated.items()):
        name = identifier(text)
        if name in SILENT:
            found.append(Obstacle(corpus, text, "states no licence"))
        elif name in FORBIDDING:
            found.append(Obstacle(corpus, text, "forbids sharing"))
        elif NO_DERIVATIVES.fullmatch(name):
            found.append(Obstacle(corpus, text, "forbids sharing what is made from it"))
    return found
