"""On a Ray cluster of several nodes a release has the same bytes as on one machine, though a node dies half-way."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from zhiling.builders.engines import Piece, Shard
from zhiling.builders.engines_ray import RayEngine
from zhiling.builders.pipeline import build
from zhiling.errors import UserError
from zhiling.store import files_below

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of a head without cores and two nodes of one core."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    made.shutdown()


def slow(job: int) -> Iterator[Piece]:
    """A shard that takes long enough to be killed in."""
    time.sleep(0.5)
    yield Piece(pa.table({"n": [job]}))


def complain(job: str) -> Iterator[Piece]:
    raise UserError(job, "something odd", "mend it")
    yield


def test_a_release_has_the_same_bytes_on_one_worker_two_and_a_cluster(
    reviews: list[dict[str, str]], make: Any, tmp_path: Path, cluster: Any
) -> None:
    make.corpus(reviews)
    one = data(build(make.recipe(), tmp_path / "one", workers=1))
    assert data(build(make.recipe(), tmp_path / "two", workers=2)) == one
    ray = build(make.recipe(engine="ray", ray_address=cluster.address), tmp_path / "ray")
    assert data(ray) == one


def data(release: Path) -> dict[str, Any]:
    """Digests of all files; the recipe names the engine."""
    return {name: found for name, found in files_below(release).items() if name != "recipe.yaml"}


def test_shards_of_a_node_that_dies_are_done_elsewhere(tmp_path: Path, cluster: Any) -> None:
    shards = [Shard(tmp_path / f"{i}.parquet", i) for i in range(12)]
    killer = threading.Timer(2.0, lambda: cluster.remove_node(cluster.nodes[0], allow_graceful=False))
    killer.start()
    with closing(RayEngine(cluster.address)) as engine:
        engine.map(slow, shards, "slow")
    killer.join()
    import pyarrow.parquet as pq

    assert [pq.read_table(s.output)["n"].to_pylist() for s in shards] == [[i] for i in range(12)]
    assert len([n for n in cluster.list_all_nodes() if n.all_processes]) == 2  # the head and the node that is left


def test_a_complaint_comes_home_from_a_node(tmp_path: Path, cluster: Any) -> None:
    with closing(RayEngine(cluster.address)) as engine, pytest.raises(UserError, match="file:3: something odd"):
        engine.map(complain, [Shard(tmp_path / "a.parquet", "file:3")], "complain")


def test_an_address_without_a_cluster_is_said(tmp_path: Path) -> None:
    with closing(RayEngine("127.0.0.1:1")) as engine, pytest.raises(UserError, match="engine: ray: no cluster at"):
        engine.map(slow, [Shard(tmp_path / "a.parquet", 1)], "slow")
