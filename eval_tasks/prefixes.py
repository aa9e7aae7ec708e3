"""What prompts have in common: which of them share a prefix worth computing once.

In: contexts as token ids. Out: groups of contexts with the length of the prefix that each group shares. Contexts
are sorted, so that shared prefixes stand together; the longest common prefixes of neighbours make a tree, and the
best cut through it, the one that leaves the fewest tokens to compute, is found from the leaves up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

GROUP_COST = 256  # tokens that one more group must save: it is one more pass through the model


@dataclass(frozen=True)
class Group:
    """Contexts, by their places in what was given, that share their first `prefix` tokens."""

    prefix: int
    members: tuple[int, ...]


def group_contexts(contexts: Sequence[Sequence[int]]) -> list[Group]:
    """The contexts in groups; each context keeps at least its last token outside of the prefix."""
    order = sorted(range(len(contexts)), key=lambda i: tuple(contexts[i]))
    shared = [_common(contexts[a], contexts[b]) for a, b in pairwise(order)]
    alone: list[int] = []
    groups = []
    for prefix, start, end in _best_cut(shared):
        if prefix:
            groups.append(Group(prefix, tuple(order[start:end])))
        else:
            alone += order[start:end]
    return [*([Group(0, tuple(alone))] if alone else []), *groups]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    most = min(len(a), len(b)) - 1
    if a[:most] == b[:most]:
        return max(most, 0)
    low, high = 0, most  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass
class _Node:
    """A run of neighbours, `order[start:end]`, that share `prefix` tokens, and the best way to cut it."""

    prefix: int
    start: int
    end: int
    saved: int
    cut: list["_Node"]


def _best_cut(shared: Sequence[int]) -> list[tuple[int, int, int]]:
    """`(prefix, start, end)` of the best groups; `shared[i]` is what places i and i + 1 have in common."""
    stack: list[_Node] = [_Node(-1, 0, 1, 0, [])]  # runs that are open, by growing prefix; the last is a leaf
    for place, common in enumerate([*shared, -1], 1):
        done = stack.pop()
        while stack and stack[-1].prefix >= common and stack[-1].prefix >= 0:
            done = _close(stack.pop(), done)
        if common >= 0:
            parent = _Node(common, done.start, done.end, done.saved, [done])
            stack += [parent, _Node(-1, place, place + 1, 0, [])]
        else:
            stack.append(done)
    return [(node.prefix, node.start, node.end) for node in _leaves(stack[-1])]


def _close(open_: _Node, last: _Node) -> _Node:
    """The run with its last part: taken whole, or cut as its parts are, whichever saves more."""
    children = [*open_.cut, last]
    saved = sum(child.saved for child in children)
    whole = (last.end - open_.start - 1) * open_.prefix - GROUP_COST
    if whole > saved:
        return _Node(open_.prefix, open_.start, last.end, whole, [])
    return _Node(-1, open_.start, last.end, saved, children)


def _leaves(node: _Node) -> list[_Node]:
    found, stack = [], [node]
    while stack:
        at = stack.pop()
        if at.cut:
            stack += reversed(at.cut)
        else:
            found.append(_Node(max(at.prefix, 0), at.start, at.end, 0, []))
    return found
