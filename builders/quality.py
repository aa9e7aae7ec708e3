"""What is wrong with a text: too short, too long, repetitive, symbols, damaged encoding, another script.

In: a text. Out: a reason and the figure that gave it, or nothing. Every threshold is the recipe's; none is set
unless it says so.
"""

import re
import unicodedata

from pydantic import Field

from zhiling.rows import is_unspaced
from zhiling.settings import Settings

GRAM = 4
DAMAGE = re.compile(  # what decoding with the wrong encoding leaves behind
    "\ufffd|锟斤拷|烫烫烫|屯屯屯|ï¿½|Ã[\u0080-\u00bf]|â€[\u0080-\u00bf™œ]|[\u0000-\u0008\u000b\u000e-\u001f\u007f-\u009f]"
)
SCRIPTS = {
    "zh": ("CJK",), "yue": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA"), "ko": ("HANGUL",), "ru": ("CYRILLIC",),
    "ar": ("ARABIC",), "th": ("THAI",), "el": ("GREEK",), "he": ("HEBREW",), "hi": ("DEVANAGARI",),
}


class QualitySettings(Settings):
    """Thresholds on the text of a row, all its text columns together; what is not given is not checked."""

    min_characters: int | None = Field(None, ge=1)
    max_characters: int | None = Field(None, ge=1)
    max_repetition: float | None = Field(None, ge=0, le=1, description="share of its 4-character pieces seen before")
    max_symbols: float | None = Field(None, ge=0, le=1, description="share that is no letter, digit or white space")
    min_script: float | None = Field(None, ge=0, le=1, description="share of its letters in the language's own script")
    undamaged: bool = Field(False, description="refuse what decoding with a wrong encoding leaves behind")

    @property
    def checks_nothing(self) -> bool:
        """Whether no threshold is set."""
        return self == QualitySettings()


def fault(text: str, language: str, settings: QualitySettings) -> tuple[str, str] | None:
    """Why a text is refused, as a fixed word and the figure; None where it passes."""
    size = len(text.strip())
    if settings.min_characters is not None and size < settings.min_characters:
        return "too_short", f"{size} characters where {settings.min_characters} are asked for"
    if settings.max_characters is not None and size > settings.max_characters:
        return "too_long", f"{size} characters where {settings.max_characters} are allowed"
    if settings.undamaged and (damage := DAMAGE.search(text)):
        return "damaged_encoding", f"{damage.group()!a} at character {damage.start()}"
    for reason, limit, share in (
        ("repetitive", settings.max_repetition, repetition),
        ("symbols", settings.max_symbols, symbols),
    ):
        if limit is not None and (found := share(text)) > limit:
            return reason, f"{found:.2f} where {limit:g} is allowed"
    if settings.min_script is not None and (found := own_script(text, language)) < settings.min_script:
        return "other_script", f"{found:.2f} of the letters are {language} where {settings.min_script:g} is asked for"
    return None


def repetition(text: str) -> float:
    """Share of the 4-character pieces of a text that stood in it before."""
    pieces = [text[i : i + GRAM] for i in range(len(text) - GRAM + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def symbols(text: str) -> float:
    """Share of a text that is no letter, digit or white space."""
    odd = sum(not (c.isalnum() or c.isspace() or unicodedata.category(c).startswith("M")) for c in text)
    return odd / len(text) if text else 0.0


def own_script(text: str, language: str) -> float:
    """Share of the letters of a text in the script that its language is written in; 1 where it has no letter."""
    scripts = SCRIPTS.get(language.split("-")[0].lower(), ("CJK",) if is_unspaced(language) else ("LATIN",))
    letters = [c for c in text if c.isalpha()]
    own = sum(unicodedata.name(c, "").startswith(scripts) for c in letters)
    return own / len(letters) if letters else 1.0
