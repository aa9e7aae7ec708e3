"""How worker processes are started: from a server that imports what they need once, while their parent still imports.

Threads do not survive a fork, and the parent may have some. The fork server has none of its own: it imports and forks.
Nothing heavy is imported here, so that it can begin first.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

PRELOADED = ["__main__", "zhiling.builders.stages"]  # what every worker needs


def context() -> ForkServerContext:
    """What starts processes."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


def expect_workers(workers: int) -> None:
    """Have the imports of workers made while this process imports and plans what they are to do."""
    if workers > 1:
        context()
        with interrupt_held():
            forkserver.ensure_running()


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit the hold, and the parent alone answers.

    A worker that is interrupted while it starts would leave the pool waiting for ever. The tracker of resources, which
    lets Ctrl-C through again once it has started, is started before.
    """
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
