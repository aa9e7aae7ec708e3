"""Errors a person can act on: where it was, what was found, what to do. Nothing else becomes exit code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something in the input, not in zhiling, stands in the way.

    `where` names the file, row or line and the field; `saw` says what was found there;
    `do` says what mends it. Printed as one line by the command line, exit code 2.
    """

    def __init__(self, where: str, saw: str, do: str) -> None:
        self.where, self.saw, self.do = where, saw, do
        super().__init__(f"{where}: {saw}; {do}")

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str, str]]:
        return type(self), (self.where, self.saw, self.do)  # so that it comes home from a worker


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to do about an unknown name: the nearest known one where one is near, else all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(names)}" if names else "none are known here"


def one_line(text: str, limit: int = 80) -> str:
    """`text` on one line and at most `limit` characters long, control characters made visible."""
    flat = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
