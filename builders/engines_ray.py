"""Shards on a Ray cluster: the same work, the same files, the same bytes as on one machine.

Every node has to see the work folder under the same path (a shared file system) and to have zhiling installed.
A shard whose node dies is run again elsewhere by Ray; what a dead worker left half-written was never renamed.
Refused: no Ray, no cluster at the address.
"""

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zhiling.builders.engines import Shard, Work, run_shard, unfinished
from zhiling.console import progress
from zhiling.errors import UserError, one_line

PER_CORE = 4  # shards under way for each core of the cluster, so that a million of them are not queued at once


@dataclass
class RayEngine:
    """The cluster at `address`, at `RAY_ADDRESS`, or else one that is started on this machine."""

    address: str | None = None
    _started: bool = False

    def map(self, work: Work, shards: Sequence[Shard], label: str) -> None:
        """Run `work` on every shard whose output is not there yet."""
        ray = self._ray()
        task = ray.remote(num_cpus=1, max_retries=-1, retry_exceptions=False)(run_shard)
        todo = unfinished(shards)
        with progress(label, len(shards)) as bar:
            bar(len(shards) - len(todo))
            running: list[Any] = []
            try:
                for shard in todo:
                    if len(running) >= PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1))):
                        running = self._finish_one(running, bar)
                    running.append(task.remote(work, shard))
                while running:
                    running = self._finish_one(running, bar)
            finally:
                for left in running:
                    ray.cancel(left, force=True)

    def _finish_one(self, running: list[Any], bar: Any) -> list[Any]:
        """Wait for a shard; raise what it raised."""
        import ray

        ready: tuple[list[Any], list[Any]] = ray.wait(running, num_returns=1)
        (done,), others = ready
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        bar()
        return others

    def _ray(self) -> Any:
        """Ray, connected."""
        try:
            import ray
        except ImportError:
            raise UserError("engine: ray", "Ray is not installed", "pip install 'zhiling[ray]'") from None
        if not ray.is_initialized():
            address = self.address or os.environ.get("RAY_ADDRESS")
            if address:
                _knock(address)
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
            self._started = True
        return ray

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False


def _knock(address: str) -> None:
    """Raise UserError where nobody answers at `address`; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():  # as `auto`
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError):
        do = "start it (`ray start --head`), or correct `ray_address:` or RAY_ADDRESS"
        raise UserError("engine: ray", f"no cluster at {one_line(address)}", do) from None
