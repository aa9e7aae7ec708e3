"""What people score on public tasks, where their authors publish it.

FewCLUE's authors let annotators learn from 30 training texts, then took the majority vote on 100 validation texts of
each task (https://github.com/CLUEbenchmark/FewCLUE, "Human Performance"). A task's own metadata (`human`) goes first.
"""

from collections.abc import Mapping
from typing import Any

FEWCLUE = "FewCLUE's authors: a vote of several people on 100 validation texts"
PUBLISHED = {
    "fewclue/eprstmt": 0.900, "fewclue/bustm": 0.880, "fewclue/ocnli": 0.903, "fewclue/csldcp": 0.680,
    "fewclue/tnews": 0.710, "fewclue/cluewsc": 0.980, "fewclue/iflytek": 0.660, "fewclue/csl": 0.840,
    "fewclue/chid": 0.871,
}


def human_score(pack: str, metadata: Mapping[str, Any]) -> tuple[float, str] | None:
    """The published accuracy (0 to 1) and where it comes from; None where nobody published one."""
    told = metadata.get("human")
    if isinstance(told, int | float) and 0 <= told <= 1:
        return float(told), str(metadata.get("source", ""))
    return (PUBLISHED[pack], FEWCLUE) if pack in PUBLISHED else None
