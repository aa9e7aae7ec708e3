"""Split a promptsource source at its `|||` into the prompt and the completion of a pack's template.

In: Jinja2 source as promptsource renders it. Out: two sources (or an expression for the choices) in which
statements stand on each side that needs them, columns have new names where zhiling takes the old ones, and
`choice` and `random` use the row's keyed `draw`. Refused with the reason: sources whose separator cannot be
told before rendering, lists changed in place, and helpers that packs do not have.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import jinja2

SEPARATOR = "|||"
MULTIPLIER, MODULUS = 48271, 2**31 - 1  # the k-th draw of a row is draw * 48271^k mod 2^31-1
ENDS = {"if": ("elif", "else", "endif"), "for": ("else", "endfor")}
NOT_IN_PACKS = {"zip", "most_frequent", "namespace", "cycler", "joiner", "lipsum", "highlight"}
_MUTATING = re.compile(r"\.\s*(append|extend|insert|pop|update|remove|clear|setdefault|popitem|reverse)\s*\(")
_CLOSE = {")": "(", "]": "[", "}": "{"}
_CALLED = {"name", "string", "drawn"}  # tokens that a bracket behind them belongs to
_KEYWORDS = {"and", "or", "not", "in", "is", "if", "else", "elif", "set", "for"}


class Unsplittable(Exception):  # noqa: N818 - what the source is
    """Why a source has no prompt and completion of its own."""


@dataclass
class Tag:
    """A stretch of text, or `{{ ... }}` or `{% ... %}` with the tokens inside."""

    kind: str  # text, variable, block
    text: str = ""
    tokens: list[tuple[str, str]] = field(default_factory=list)

    @property
    def word(self) -> str:
        """The first name inside: a statement's keyword."""
        return next((value for token, value in self.tokens if token == "name"), "")


@dataclass
class Piece:
    """Part of a source and the side it writes on; a block holds its branches, each with the tag that opens it."""

    source: str
    side: int
    kind: str  # text, variable, set, block
    branches: list[tuple[str, list["Piece"]]] = field(default_factory=list)


@dataclass
class _Walk:
    """Where the walk through a source stands."""

    names: Mapping[str, str]
    side: int = 0
    draws: int = 0
    loops: int = 0
    ragged: bool = False    # some ways met the separator, others did not
    uneven: bool = False    # some ways made more draws than others


def split_source(source: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Prompt and completion of `source`, its variables renamed by `names`. Raises Unsplittable."""
    pieces = _pieces(_tags(source), _Walk(names), ())
    if not any(_writes(piece, 1) for piece in pieces):
        raise Unsplittable("nothing stands behind a |||")
    return _trimmed(pieces, 0), _trimmed(pieces, 1)


def choices_expression(source: str, names: Mapping[str, str]) -> str:
    """An expression for the list that the answer choices `source` writes. Raises Unsplittable."""
    walk, parts, current = _Walk(names), [], []
    tags = list(_tags(source))
    joined = [tag for tag in tags if tag.kind != "text" or tag.text.strip()]
    if len(joined) == 1 and (whole := _joined_list(joined[0], walk)):
        return whole
    for tag in tags:
        if tag.kind == "block":
            raise Unsplittable("its answer choices are made by statements")
        if tag.kind == "variable":
            if SEPARATOR in "".join(value for _, value in tag.tokens):
                raise Unsplittable("its answer choices join more than one list")
            current.append(f"({_inside(tag, walk)})")
            continue
        for i, text in enumerate(tag.text.split(SEPARATOR)):
            if i:
                parts.append(current)
                current = []
            if text.strip() or (current and text):
                current.append(json.dumps(text, ensure_ascii=False))
    if walk.draws:
        raise Unsplittable("draws among its answer choices")
    return "[" + ", ".join(_word(part) for part in [*parts, current]) + "]"


def fixed_choices(expression: str) -> list[str] | None:
    """The words that a choices expression stands for where no row changes them."""
    try:
        words = json.loads(expression)
    except ValueError:
        return None
    return words if isinstance(words, list) else None


def _word(parts: list[str]) -> str:
    """One choice, from its literal and computed parts; what surrounds it is stripped."""
    if parts and parts[-1].startswith('"') and not json.loads(parts[-1]).strip():
        parts = parts[:-1]
    if not parts:
        return '""'
    if len(parts) == 1 and parts[0].startswith('"'):
        return json.dumps(json.loads(parts[0]).strip(), ensure_ascii=False)
    return f"{parts[0]} | trim" if len(parts) == 1 else f"({' ~ '.join(parts)}) | trim"


def _joined_list(tag: Tag, walk: _Walk) -> str | None:
    """The list E where `tag` is `{{ E | join('|||') }}`."""
    inside = _inside(tag, walk)
    match = re.fullmatch(r"(.*)\|\s*join\(\s*(['\"])\s*\|\|\|\s*\2\s*\)\s*", inside, re.DOTALL)
    if not match or tag.kind != "variable" or SEPARATOR in match[1]:
        return None
    if walk.draws:
        raise Unsplittable("draws among its answer choices")
    return f"{match[1].strip()} | list"


def _tags(source: str) -> Iterator[Tag]:
    """The tags of `source`, without comments; white space control has been applied by the lexer."""
    if found := _MUTATING.search(source):
        raise Unsplittable(f"changes a list or mapping in place (.{found[1]})")
    current = Tag("text")
    for _, token, value in jinja2.Environment().lex(source):
        if token == "data":
            yield Tag("text", value)
        elif token in ("variable_begin", "block_begin"):
            current = Tag(token.removesuffix("_begin"))
        elif token in ("variable_end", "block_end"):
            yield current
        elif token.startswith("raw"):
            raise Unsplittable("uses {% raw %}")
        elif not token.startswith("comment"):
            if token == "name" and value in NOT_IN_PACKS:
                raise Unsplittable(f"uses {value}")
            current.tokens.append((token, value))


def _pieces(tags: Iterator[Tag], walk: _Walk, ends: tuple[str, ...]) -> list[Piece]:
    """Pieces up to the end of the source."""
    pieces, end = _branch(tags, walk, ends)
    if end is not None:
        raise Unsplittable(f"{end.word} without its beginning")
    return pieces


def _branch(tags: Iterator[Tag], walk: _Walk, ends: tuple[str, ...]) -> tuple[list[Piece], Tag | None]:
    """Pieces up to a statement in `ends`, and that statement."""
    pieces: list[Piece] = []
    for tag in tags:
        if tag.kind == "text":
            pieces += _text(tag.text, walk)
        elif tag.kind == "variable":
            _refuse_ragged(walk)
            if any(SEPARATOR in value for _, value in tag.tokens):
                raise Unsplittable("writes ||| from an expression")
            pieces.append(Piece("{{ " + _inside(tag, walk) + " }}", walk.side, "variable"))
        elif tag.word in ends:
            return pieces, tag
        elif tag.word == "set" and ("operator", "=") in tag.tokens:
            pieces.append(Piece(_statement(tag, walk), walk.side, "set"))
        elif tag.word in ENDS:
            pieces.append(_block(tag, tags, walk))
        else:
            raise Unsplittable(f"uses {{% {tag.word} %}}")
    return pieces, None


def _text(text: str, walk: _Walk) -> Iterator[Piece]:
    for i, part in enumerate(text.split(SEPARATOR)):
        if i:
            walk.side += 1
            if walk.loops:
                raise Unsplittable("||| inside a loop")
            if walk.side > 1:
                raise Unsplittable("more than one ||| on one way through it")
        if part.strip():
            _refuse_ragged(walk)
        yield Piece(part, walk.side, "text")


def _refuse_ragged(walk: _Walk) -> None:
    if walk.ragged:
        raise Unsplittable("only some branches hold a |||, and more follows them")


def _block(tag: Tag, tags: Iterator[Tag], walk: _Walk) -> Piece:
    """An `if` or `for` with its branches; behind it, all ways should stand on one side with as many draws made."""
    word, start = tag.word, walk.side
    block = Piece("{% end" + word + " %}", start, "block")
    head: Tag | None = tag
    opening = _statement(tag, walk)
    draws, ways, final = walk.draws, [], False
    walk.loops += word == "for"
    while True:
        walk.side, walk.draws = start, draws
        pieces, head = _branch(tags, walk, ENDS[word])
        block.branches.append((opening, pieces))
        ways.append((walk.side, walk.draws))
        if head is None:
            raise Unsplittable(f"{word} without its end")
        if head.word == f"end{word}":
            break
        final = final or head.word == "else"
        walk.draws = draws
        opening = _statement(head, walk)
        if walk.draws != draws:
            raise Unsplittable("draws in an elif")
    walk.loops -= word == "for"
    ways += [] if final else [(start, draws)]
    walk.side, walk.draws = max(side for side, _ in ways), max(count for _, count in ways)
    walk.ragged |= len({side for side, _ in ways}) > 1
    walk.uneven |= len({count for _, count in ways}) > 1
    return block


def _statement(tag: Tag, walk: _Walk) -> str:
    return "{% " + _inside(tag, walk) + " %}"


def _inside(tag: Tag, walk: _Walk) -> str:
    """The source inside a tag: columns renamed, draws keyed."""
    tokens = _renamed(tag.tokens, walk.names)
    while (pipe := _first_draw(tokens)) is not None:
        if walk.loops or walk.uneven:
            raise Unsplittable("how many draws it makes depends on the row")
        start = _operand(tokens, pipe)
        operand = "".join(value for _, value in tokens[start:pipe]).strip()
        number = "draw" if not walk.draws else f"(draw * {pow(MULTIPLIER, walk.draws, MODULUS)} % {MODULUS})"
        end = next(i for i in range(pipe + 1, len(tokens)) if tokens[i][0] == "name") + 1
        tokens[start:end] = [("drawn", f"({operand})[{number} % (({operand}) | length)]")]
        walk.draws += 1
    return "".join(value for _, value in tokens).strip()


def _renamed(tokens: list[tuple[str, str]], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """`tokens` with variables renamed; attributes, filters, tests and keyword arguments are left alone."""
    told, depth = [i for i, (token, _) in enumerate(tokens) if token != "whitespace"], 0
    renamed = list(tokens)
    for at, i in enumerate(told):
        token, value = tokens[i]
        depth += (value in _CLOSE.values()) - (value in _CLOSE) if token == "operator" else 0
        before = tokens[told[at - 1]][1] if at else ""
        after = tokens[told[at + 1]][1] if at + 1 < len(told) else ""
        variable = before not in (".", "|", "is") and not (after == "=" and depth)
        if token == "name" and value in names and variable:
            renamed[i] = ("name", names[value])
    return renamed


def _first_draw(tokens: list[tuple[str, str]]) -> int | None:
    """Where the first `| choice` or `| random` stands."""
    told = [i for i, (token, _) in enumerate(tokens) if token != "whitespace"]
    for i, j in pairwise(told):
        if tokens[i] == ("operator", "|") and tokens[j] in (("name", "choice"), ("name", "random")):
            return i
    return None


def _operand(tokens: list[tuple[str, str]], pipe: int) -> int:
    """Where the expression that is filtered at `pipe` begins: back over names, brackets, dots and filters."""
    at = pipe
    while True:
        at = _before(tokens, at)
        closing = _CLOSE.get(tokens[at][1]) if tokens[at][0] == "operator" else None
        if closing:
            at = _opening(tokens, at)
        previous = _before(tokens, at)
        if previous < 0:
            return at
        token, value = tokens[previous]
        if token == "operator" and value in (".", "|"):
            at = previous
        elif closing not in ("(", "[") or value in _KEYWORDS or not (value in _CLOSE or token in _CALLED):
            return at


def _before(tokens: list[tuple[str, str]], at: int) -> int:
    at -= 1
    while at >= 0 and tokens[at][0] == "whitespace":
        at -= 1
    return at


def _opening(tokens: list[tuple[str, str]], at: int) -> int:
    """Where the bracket closed at `at` opens."""
    depth = 0
    for i in range(at, -1, -1):
        if tokens[i][0] == "operator":
            depth += (tokens[i][1] in _CLOSE) - (tokens[i][1] in _CLOSE.values())
        if depth == 0:
            return i
    raise Unsplittable("brackets do not match")


def _writes(piece: Piece, side: int) -> bool:
    """Whether a side needs `piece`: it writes there, or sets a name that may be read there."""
    if piece.kind == "block":
        return any(_writes(inner, side) for _, pieces in piece.branches for inner in pieces)
    return piece.side == side or (piece.kind == "set" and piece.side < side)


def _emit(pieces: list[Piece], side: int) -> str:
    parts = []
    for piece in pieces:
        if not _writes(piece, side):
            continue
        for opening, inner in piece.branches:
            parts += [opening, _emit(inner, side)]
        parts.append(piece.source)
    return "".join(parts)


def _trimmed(pieces: list[Piece], side: int) -> str:
    """The side's source, writing no white space first: promptsource strips both ends, a pack's prompt only the last."""
    written = [piece for piece in pieces if _writes(piece, side)]
    for i, piece in enumerate(written):
        if piece.kind == "text":
            written[i] = Piece(piece.source.lstrip(), side, "text")
        if piece.kind not in ("text", "set"):
            source = _emit(written, side).strip()
            return source if side else "{% filter trim %}" + source + "{% endfilter %}"
        if written[i].source and piece.kind == "text":
            break
    return _emit(written, side).strip()
