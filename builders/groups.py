"""Rows that must stay on one side, as groups: near duplicates of one another, and rows of one user or document.

In: the view `keys` and the pairs found among them. Out: for each key that is not alone, the id of its group. An id
is the smallest key (or tie) of its group, so it hangs on content alone. Where a previous release is given, its rows
keep their side: a new text that would tie texts of two sides together is marked, and stands in no group.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zhiling.builders.near_duplicates import Candidates, NearSettings, connected, find_pairs, read_candidates
from zhiling.builders.shingles import Offsets

GROUP_SCHEMA = pa.schema([("key", pa.string()), ("group_id", pa.string()), ("tied", pa.bool_())])
PAIR_SCHEMA = pa.schema([("a", pa.string()), ("b", pa.string()), ("similarity", pa.float64())])
TIES = "SELECT DISTINCT key, unnest(ties) AS tie FROM keys ORDER BY ALL"
OLD_SIDES = """
SELECT key, min(side) FROM (SELECT key, side FROM keys JOIN old USING (id) UNION ALL SELECT key, side FROM told)
GROUP BY key HAVING min(side) = max(side)
"""


@dataclass
class Graph:
    """Keys and ties as nodes, what connects them as edges, and the side of those that had one before."""

    names: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    edges: list[tuple[int, int]] = field(default_factory=list)
    ties: set[int] = field(default_factory=set)
    sides: dict[int, str] = field(default_factory=dict)

    def node(self, name: str) -> int:
        """The number of a name's node."""
        if name not in self.numbers:
            self.numbers[name] = len(self.names)
            self.names.append(name)
        return self.numbers[name]

    def components(self, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
        """The nodes of each component that `edges` make, alone ones left out."""
        if not edges:
            return []
        pairs = np.array(edges, np.int64).reshape(-1, 2)
        labels = connected(len(self.names), [(pairs[:, 0], pairs[:, 1])])
        members: dict[int, list[int]] = defaultdict(list)
        for node in np.unique(pairs).tolist():
            members[int(labels[node])].append(node)
        return list(members.values())

    def rows_of(self, members: Sequence[int]) -> list[tuple[str, str, bool]]:
        """The keys of a group with the group's id: its smallest tie, else its smallest key."""
        if not members:
            return []
        name = min((n not in self.ties, self.names[n]) for n in members)[1]
        return [(self.names[n], name, False) for n in members if n not in self.ties]


def find_groups(db: Any, near: NearSettings | None, previous: Path | None) -> pa.Table:
    """The group of every key of the view `keys` that shares one, and the pairs in the table `pairs`."""
    graph, candidates = Graph(), None
    found: list[tuple[str, str, float]] = []
    if near is not None:
        candidates = read_candidates(db, near)
        for a, b, similarity in find_pairs(db, candidates, near.threshold):
            names = [[candidates.keys[i] for i in side.tolist()] for side in (a, b)]
            found += zip(*names, similarity.tolist(), strict=True)
    graph.edges = [(graph.node(a), graph.node(b)) for a, b, _ in found]
    for key, tie in db.execute(TIES).fetchall():
        graph.ties.add(graph.node(tie))
        graph.edges.append((graph.node(key), graph.node(tie)))
    if previous is not None:
        _read_sides(db, graph)
    rows: list[tuple[str, str, bool]] = []
    for members in graph.components(graph.edges):
        sides = {graph.sides[n] for n in members if n in graph.sides}
        if len(sides) > 1:
            rows += _parted(graph, members, candidates, near)
        else:
            rows += graph.rows_of(members)
    db.register("pairs", _table(found, PAIR_SCHEMA))
    return _table(rows, GROUP_SCHEMA)


def _table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Rows in order; an empty table is made without an array, at whose first sight pyarrow imports pandas."""
    if not rows:
        return pa.Table.from_batches([], schema)
    return pa.table([list(column) for column in zip(*sorted(rows), strict=True)], schema=schema)


def _read_sides(db: Any, graph: Graph) -> None:
    """Mark the nodes that had a side in the previous release; a tie has its old rows' side, if they have but one."""
    for key, side in db.execute(OLD_SIDES).fetchall():
        if key in graph.numbers:
            graph.sides[graph.numbers[key]] = side
    tied: dict[int, set[str]] = defaultdict(set)
    for a, b in graph.edges:
        if b in graph.ties and a in graph.sides:
            tied[b].add(graph.sides[a])
    graph.sides |= {tie: min(sides) for tie, sides in tied.items() if len(sides) == 1}


def _parted(
    graph: Graph, members: Sequence[int], candidates: Candidates | None, near: NearSettings | None
) -> list[tuple[str, str, bool]]:
    """A component that holds old rows of several sides, in parts: each side's, and the new texts that tie them."""
    inside = set(members)
    edges = [(a, b) for a, b in graph.edges if a in inside] + _all_pairs(graph, members, candidates, near)
    touched: dict[int, set[str]] = defaultdict(set)
    for a, b in edges:
        for new, other in ((a, b), (b, a)):
            if new not in graph.sides and other in graph.sides:
                touched[new].add(graph.sides[other])
    among_new = [(a, b) for a, b in edges if a not in graph.sides and b not in graph.sides]
    alone = [(n, n) for n in members if n not in graph.sides]
    parts: dict[str, list[int]] = defaultdict(list)
    for n, side in graph.sides.items():
        if n in inside:
            parts[side].append(n)
    tied: list[int] = []
    for joined in graph.components([*among_new, *alone]):
        sides = set().union(*(touched[n] for n in joined))
        if len(sides) > 1:
            tied += joined
        else:
            parts[sides.pop()] += joined
    rows = [(graph.names[n], graph.names[n], True) for n in tied if n not in graph.ties]
    for part in parts.values():
        rows += graph.rows_of(part)
    return rows


def _all_pairs(
    graph: Graph, members: Sequence[int], candidates: Candidates | None, near: NearSettings | None
) -> list[tuple[int, int]]:
    """Every near-duplicate pair of a component, those included that connecting it did not need."""
    if candidates is None or near is None:
        return []
    numbers: Mapping[str, int] = {key: i for i, key in enumerate(candidates.keys)}
    own = np.array(sorted(numbers[graph.names[n]] for n in members if graph.names[n] in numbers), np.int64)
    pairs: list[tuple[int, int]] = []
    for i in range(len(own) - 1):
        rest: Offsets = own[i + 1 :]
        a, b, _ = candidates.near(np.full(len(rest), own[i]), rest, near.threshold)
        pairs += [(graph.node(candidates.keys[x]), graph.node(candidates.keys[y])) for x, y in zip(a, b, strict=True)]
    return pairs
