"""A context and all its continuations as one row of tokens under a tree mask.

In: a context's tokens and its continuations' tokens. Out: what the model reads (context, then the continuations'
tokens, each once, equal beginnings merged), at which positions, who sees whom, and which outputs score what. The
last token of a continuation is only predicted, never read, so it is not in the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[int]


@dataclass(frozen=True)
class Tree:
    """One row: `context + tails` is read; `steps[i]` says which outputs score continuation i and with which token."""

    context: tuple[int, ...]
    tails: tuple[int, ...]     # tokens after the context
    parents: tuple[int, ...]   # of each tail token, its place among the tails; -1 is the context's last token
    depths: tuple[int, ...]    # of each tail token, 1 for a first token
    steps: tuple[tuple[tuple[int, int], ...], ...]  # for each continuation: (place in the row, token to score)

    def __len__(self) -> int:
        return len(self.context) + len(self.tails)

    @property
    def positions(self) -> list[int]:
        """The position of each token of the row, counted from the context's first."""
        last = len(self.context) - 1
        return [*range(len(self.context)), *(last + depth for depth in self.depths)]

    def sight(self) -> np.ndarray:
        """Who sees whom: `sight[i, j]` where token i sees token j of the row."""
        c, n = len(self.context), len(self)
        seen = np.zeros((n, n), dtype=bool)
        seen[:c, :c] = np.tri(c, dtype=bool)
        seen[c:, :c] = True
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                seen[c + i, c:] = seen[c + parent, c:]
            seen[c + i, c + i] = True
        return seen


def plant(context: Tokens, continuations: Sequence[Tokens]) -> Tree:
    """The tree of a context (at least one token) and its continuations (at least one token each)."""
    last = len(context) - 1
    nodes: dict[tuple[int, int], int] = {}
    tails: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    steps = []
    for tokens in continuations:
        at, path = -1, []
        for depth, token in enumerate(tokens, 1):
            path.append((last + 1 + at if at >= 0 else last, token))
            if depth == len(tokens):
                break
            if (at, token) not in nodes:
                nodes[at, token] = len(tails)
                tails.append(token)
                parents.append(at)
                depths.append(depth)
            at = nodes[at, token]
        steps.append(tuple(path))
    return Tree(tuple(context), tuple(tails), tuple(parents), tuple(depths), tuple(steps))
