"""What can go wrong between a client and a server, injected once (or more often) at a named request."""

import threading
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "cut_head",     # the connection is cut before anything is read
    "cut_body",     # ... in the middle of the request's body
    "cut_answer",   # ... in the middle of the answer: it was done, and the client cannot know
    "lost_answer",  # ... before the first byte of the answer: done, too
    "late_500",     # done, and answered with 500 by something in between
    "status",       # refused with a status, not done
    "html",         # a proxy answers with a page of its own, not done
    "slow",         # answered after a while
    "hang",         # done, and never answered: the client's own clock must end it
]


@dataclass
class Fault:
    """Let request number `nth` of operation `at` go wrong, `times` times in a row."""

    at: str
    kind: Kind
    status: int = 500
    error: str = "Internal Server Error"
    headers: dict[str, str] = field(default_factory=dict)
    nth: int = 1
    times: int = 1
    byte: int = 10          # where the connection is cut
    seconds: float = 0.2


class Faults:
    """The faults still to come; `strike` says which one hits a request, if any."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self.struck: list[Fault] = []
        self._seen: dict[int, int] = {}
        self._lock = threading.Lock()

    def plan(self, *faults: Fault) -> None:
        """Add faults."""
        self.planned += faults

    def clear(self) -> None:
        """Forget them all."""
        with self._lock:
            self.planned.clear()
            self._seen.clear()

    def strike(self, operation: str) -> Fault | None:
        """The fault that hits this request."""
        with self._lock:
            for fault in self.planned:
                if fault.at == operation:
                    count = self._seen[id(fault)] = self._seen.get(id(fault), 0) + 1
                    if fault.nth <= count < fault.nth + fault.times:
                        self.struck.append(fault)
                        return fault
        return None
