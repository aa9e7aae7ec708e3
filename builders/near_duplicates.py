"""Near duplicates: pairs of texts whose shingles overlap by a stated share, found without comparing all with all.

In: keys of rows with the text that each stands for. Out: the pairs, verified. MinHash (rensa) turns the shingles
of a text into a few band hashes; texts that share a band are candidates; each candidate pair is kept only if the
exact Jaccard similarity of the two sets of shingles reaches the threshold. Texts too short for that are compared
exactly, letters and digits only; a text that only says a few letters again and again is as short as they are.
Buckets are made in DuckDB, which spills to disk; texts are read for candidates only. Nothing hangs on rows' order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from zhiling.builders.shingles import Hashes, Offsets, Shingles, shingle
from zhiling.rows import is_unspaced
from zhiling.settings import Settings

Scores = NDArray[np.float64]
PERMUTATIONS = 60
RECALL = 0.99          # that the bands reach at the threshold itself; above it they reach more
SEED = 42              # of the permutations: candidates do not hang on the recipe's seed
CROWD = 1_000          # texts in one bucket from which on only neighbours in key order are compared
NEIGHBOURS = 50
PAIRS_AT_ONCE = 200_000
DIGESTS_AT_ONCE = 256
BUCKETS = """
CREATE OR REPLACE TEMP TABLE buckets AS
WITH banded AS (SELECT key, unnest(bands) AS band FROM sketches),
     met AS (SELECT band FROM banded GROUP BY band HAVING count(*) > 1),  -- again, by one key of several units too
     named AS (SELECT DISTINCT band, key FROM banded SEMI JOIN met USING (band)),
     shared AS (SELECT band FROM named GROUP BY band HAVING count(*) > 1),
     kept AS (SELECT band, key FROM named SEMI JOIN shared USING (band)),
     numbered AS (SELECT key, row_number() OVER (ORDER BY key) - 1 AS n FROM (SELECT DISTINCT key FROM kept))
SELECT band, key, n FROM kept JOIN numbered USING (key)
"""
TEXTS = """
SELECT k.key, arg_min(k.text, k.id) AS text, arg_min(k.language, k.id) AS language
FROM sketches k SEMI JOIN buckets USING (key) GROUP BY k.key ORDER BY k.key
"""
HUBS = """
SELECT DISTINCT hub AS a, n AS b FROM (SELECT n, min(n) OVER (PARTITION BY band) AS hub FROM buckets) WHERE hub < n
"""
REST = f"""
WITH sized AS (
    SELECT band, n, c, count(*) OVER (PARTITION BY band) AS size, min(c) OVER (PARTITION BY band) AS low,
           max(c) OVER (PARTITION BY band) AS high, row_number() OVER (PARTITION BY band ORDER BY n) AS place
    FROM buckets JOIN components USING (n)
), blocks AS (
    SELECT band, n, c, CASE WHEN size > {CROWD} THEN place // {NEIGHBOURS} ELSE 0 END AS block
    FROM sized WHERE low < high
)
SELECT DISTINCT x.n AS a, y.n AS b
FROM blocks x JOIN blocks y ON x.band = y.band AND x.block = y.block AND x.n < y.n AND x.c <> y.c
"""


class NearSettings(Settings):
    """What counts as a near duplicate, and what becomes of one."""

    threshold: float = Field(0.8, ge=0.5, le=1, description="Jaccard similarity of the shingles")
    characters: int = Field(3, ge=1, le=8, description="characters in a shingle, where words are not spaced")
    words: int = Field(1, ge=1, le=8, description="words in a shingle, where they are")
    shortest: int = Field(8, ge=1, description="texts of fewer shingles are compared exactly")
    keep: Literal["all", "one"] = Field("all", description="all rows of a group, on one side; or one of them")


def bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many permutations: the widest bands that still find a pair at the threshold."""
    for rows in range(PERMUTATIONS, 0, -1):
        count = PERMUTATIONS // rows
        if rows * count == PERMUTATIONS and 1 - (1 - threshold**rows) ** count >= RECALL:
            return count, rows
    return PERMUTATIONS, 1


def sketch(texts: Sequence[str], language: str, settings: NearSettings) -> pa.Array:
    """For each text the hashes that it shares with texts like it: one per band, or one of all of a short text."""
    made = _shingle(texts, language, settings)
    told, short = _told(made, language, settings)
    count, width = bands(settings.threshold)
    digests = _digests(made).reshape(-1, count, width)
    values = np.zeros(digests.shape[:2], np.uint64) + np.arange(1, count + 1, dtype=np.uint64)
    for place in range(width):
        values = (values ^ digests[:, :, place]) * np.uint64(0x9FB21C651E98DF25)
        values ^= values >> np.uint64(29)
    sizes = np.full(len(texts), count, np.int64)
    used = np.ones(values.shape, np.bool_)
    for i in np.flatnonzero(short).tolist():
        values[i, 0] = int.from_bytes(hashlib.blake2b(told[i].encode(), digest_size=8).digest(), "big")
        sizes[i] = 1 if told[i] else 0  # a text without a letter is like no other
        used[i, sizes[i] :] = False
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(ends, values[used])


def _digests(made: Shingles) -> Hashes:
    """MinHash signatures, a text a row. They come as Python's numbers, so few at once: those stay in the cache."""
    from rensa import RMinHash

    found = np.zeros((len(made.folded), PERMUTATIONS), np.uint64)
    for start in range(0, len(found), DIGESTS_AT_ONCE):
        ends = made.offsets[start : start + DIGESTS_AT_ONCE + 1]
        hashes = made.hashes[ends[0] : ends[-1]]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends - ends[0], PERMUTATIONS, SEED)
        found[start : start + DIGESTS_AT_ONCE] = matrix.to_rows()
    return found


def _shingle(texts: Sequence[str], language: str, settings: NearSettings) -> Shingles:
    return shingle(texts, settings.characters if is_unspaced(language) else None, settings.words)


def _told(made: Shingles, language: str, settings: NearSettings) -> tuple[list[str], NDArray[np.bool_]]:
    """What each text says, once where it only says that again and again; and whether that is too short for shingles."""
    short = np.diff(made.offsets) < settings.shortest
    if not is_unspaced(language):
        return made.folded, short
    told = [text[: (text + text).find(text, 1)] if text else "" for text in made.folded]
    fewest = settings.shortest + settings.characters - 1  # letters of a text that has enough shingles
    again = [len(own) < min(fewest, len(text)) for own, text in zip(told, made.folded, strict=True)]
    return told, short | np.array(again, np.bool_)


@dataclass(frozen=True)
class Candidates:
    """Texts that share a band with another, in key order, ready to be compared."""

    keys: list[str]
    sets: Any              # scipy CSR: text x shingle
    told: list[str]
    short: NDArray[np.bool_]

    def near(self, a: Offsets, b: Offsets, threshold: float) -> tuple[Offsets, Offsets, Scores]:
        """Those of the pairs (a[i], b[i]) that are near duplicates, with their Jaccard similarity.

        A pair with a short text in it has similarity 1 where both are equal, else 0.
        """
        common = np.asarray(self.sets[a].multiply(self.sets[b]).sum(axis=1)).ravel()
        sizes = np.diff(self.sets.indptr)
        found = common / np.maximum(1, sizes[a] + sizes[b] - common)
        for i in np.flatnonzero(self.short[a] | self.short[b]):
            found[i] = self.told[a[i]] == self.told[b[i]]
        near = found >= threshold
        return a[near], b[near], found[near]


def compare(keys: list[str], texts: Sequence[str], languages: Sequence[str], settings: NearSettings) -> Candidates:
    """Texts (each with its key, sorted) made ready to be compared with one another."""
    from scipy.sparse import csr_matrix

    told, short = [""] * len(texts), np.zeros(len(texts), np.bool_)
    hashes, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for language in sorted(set(languages)):
        here = [i for i, other in enumerate(languages) if other == language]
        made = _shingle([texts[i] for i in here], language, settings)
        own, short[here] = _told(made, language, settings)
        for n, i in enumerate(here):
            told[i] = own[n]
        hashes.append(made.hashes)
        owners.append(np.repeat(here, np.diff(made.offsets)))
    vocabulary, columns = np.unique(np.concatenate(hashes), return_inverse=True)
    places = np.concatenate(owners), columns
    sets = csr_matrix((np.ones(len(columns), np.int32), places), shape=(len(texts), max(1, len(vocabulary))))
    sets.data[:] = 1  # a shingle that a text repeats counts once
    return Candidates(keys, sets, told, short)


def read_candidates(db: Any, settings: NearSettings) -> Candidates:
    """The texts of the view `sketches` that share a band with another; their buckets in the table `buckets`."""
    db.execute(BUCKETS)
    found = db.sql(TEXTS).to_arrow_table()
    return compare(found["key"].to_pylist(), found["text"].to_pylist(), found["language"].to_pylist(), settings)


def find_pairs(db: Any, candidates: Candidates, threshold: float) -> Iterator[tuple[Offsets, Offsets, Scores]]:
    """Pairs of near duplicates with their similarity, enough of them to connect all that belong together.

    In two rounds: every text with the first of each of its buckets; then, in buckets that are not connected yet,
    all with all. What is connected already needs no more comparing, so a thousand copies cost a thousand pairs.
    """
    edges: list[tuple[Offsets, Offsets]] = []
    for query in (HUBS, REST):
        components = connected(len(candidates.keys), edges)
        db.register("components", pa.table({"n": np.arange(len(components)), "c": components}))
        for batch in db.sql(f"{query} ORDER BY a, b").to_arrow_reader(PAIRS_AT_ONCE):
            a, b = (batch[name].to_numpy() for name in ("a", "b"))
            near = candidates.near(a, b, threshold)
            edges.append(near[:2])
            yield near


def connected(count: int, edges: Sequence[tuple[Offsets, Offsets]]) -> NDArray[np.int32]:
    """The number of the connected component of each of `count` nodes."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = (np.concatenate([e[i] for e in edges]) if edges else np.zeros(0, np.int64) for i in (0, 1))
    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    labels: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return labels
