"""A run's tasks asked of a model: in this process, or in several side by side, each with a model of its own.

In: a subject, settings, the parts that are to be asked. Out: lm-eval's results of each part. A part is asked whole by
one process, so its scores are the same however many there are. Where there are several GPUs, each process takes one.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from zhiling.errors import UserError
from zhiling.eval_tasks.config import EvalSettings
from zhiling.eval_tasks.loading import load_model
from zhiling.eval_tasks.models import Subject
from zhiling.eval_tasks.record import Part, Results

_place = 0          # a worker's, among the others
_model: Any = None  # and its model


def ask_part(model: Any, part: Part, settings: EvalSettings) -> Results:
    """Ask one part, prompts made to fit the model's context as the settings say."""
    from zhiling.eval_tasks.engine import ask
    from zhiling.eval_tasks.fitting import fit

    documents, too_long = fit(model, part.task, part.documents, settings.too_long)
    return ask(model, part.task, documents) | {"too_long": too_long}


@contextmanager
def side_by_side(
    subject: Subject, settings: EvalSettings, parts: Sequence[Part]
) -> Iterator[Callable[[Part], Results] | None]:
    """What gives a part's results, all parts being asked from its first call on; None where one process is enough."""
    count = min(settings.processes, len(parts))
    if count < 2:
        yield None
        return
    spawn = get_context("spawn")  # a forked process cannot use a GPU, nor the threads that its parent had
    places = spawn.SimpleQueue()
    for place in range(count):
        places.put((place, max(1, (os.cpu_count() or 1) // count)))
    with ProcessPoolExecutor(count, spawn, _start, (places,)) as pool:  # its processes start with the first part
        coming: dict[str, Future[Results]] = {}

        def result(part: Part) -> Results:
            if not coming:
                coming.update({p.digest: pool.submit(_ask_here, subject, settings, p) for p in parts})
            try:
                return coming[part.digest].result()
            except BrokenProcessPool:
                saw = "one of the processes ended before its time, perhaps for want of memory"
                raise UserError(f"--processes {settings.processes}", saw, "ask with fewer of them") from None

        try:
            yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(places: Any) -> None:
    """Take a place among the workers, and a share of the processor."""
    import torch

    from zhiling.eval_tasks.run import quiet_libraries

    global _place
    _place, threads = places.get()
    torch.set_num_threads(threads)
    quiet_libraries()


def _ask_here(subject: Subject, settings: EvalSettings, part: Part) -> Results:
    """Ask a part of this worker's model, which the first part loads."""
    global _model
    if _model is None:
        _model = load_model(subject, settings, _place)
    return ask_part(_model, part, settings)
