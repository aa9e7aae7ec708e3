"""How near texts are to a query: BM25 (`bm25s`) over pairs of characters, or over words where they are spaced.

In: texts, then queries. Out: a score for each text, and places in order of it. Compared are letters and digits,
width and case folded, as everywhere in the builders. Scores hang on the set of texts and the query alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhiling.builders.shingles import Hashes, shingle
from zhiling.errors import UserError
from zhiling.rows import is_unspaced

Scores = NDArray[np.float32]
HEAD = 32  # places that are put in order first


def bm25_version() -> str:
    """Which bm25s scores here. Raises UserError where it is not installed."""
    try:
        return version("bm25s")
    except PackageNotFoundError:
        raise UserError("bm25s", "not installed; retrieval needs it", "pip install 'zhiling[retrieve]'") from None


@dataclass(frozen=True)
class Index:
    """Texts made ready to be scored."""

    model: Any        # bm25s.BM25; None where no text holds a token
    tokens: Hashes    # sorted; a token's place is its number
    size: int         # texts
    characters: int | None


def make_index(texts: Sequence[str], language: str) -> Index:
    """An index of `texts`. Raises UserError where bm25s is not installed."""
    bm25_version()
    import bm25s

    characters = 2 if is_unspaced(language) else None
    pieces = shingle(texts, characters)
    tokens, numbers = np.unique(pieces.hashes, return_inverse=True)
    if not len(tokens):
        return Index(None, tokens, len(texts), characters)
    model = bm25s.BM25()
    by_text = [numbers[start:end].tolist() for start, end in pairwise(pieces.offsets.tolist())]
    vocabulary = {str(n): n for n in range(len(tokens))}
    model.index((by_text, vocabulary), create_empty_token=False, show_progress=False)
    return Index(model, tokens, len(texts), characters)


def score(index: Index, queries: Sequence[str]) -> Iterator[Scores]:
    """For each query the scores of all texts, in their order."""
    pieces = shingle(queries, index.characters)
    for start, end in pairwise(pieces.offsets.tolist()):
        asked = pieces.hashes[start:end]
        places = np.searchsorted(index.tokens, asked)
        places[places == len(index.tokens)] = 0
        known = places[index.tokens[places] == asked] if len(index.tokens) else places[:0]
        if index.model is None or not len(known):
            yield np.zeros(index.size, np.float32)
        else:
            yield index.model.get_scores_from_ids(known.tolist())


def ranked(scores: Scores) -> Iterator[int]:
    """Places by falling score, equal scores by place; the first few without putting all in order."""
    cut = np.partition(scores, -HEAD)[-HEAD] if len(scores) > HEAD else np.float32(-np.inf)
    for part in (np.flatnonzero(scores >= cut), np.flatnonzero(scores < cut)):
        yield from part[np.argsort(-scores[part], kind="stable")].tolist()
