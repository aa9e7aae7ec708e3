"""Several processes that train one model, as torchrun starts them: who they are, what each takes, how they add up.

In: torchrun's environment, a model with its loss, global batches. Out: this process's share of each micro-batch, and
a loss whose gradients are those of the whole batch on every rank (DDP), or each rank's part of them (FSDP2). The
batches do not change with the number of ranks. Refuses processes that would each train alone into one folder.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from zhiling.console import set_verbosity
from zhiling.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from zhiling.trainer.batches import Micro
    from zhiling.trainer.config import Parallel
    from zhiling.trainer.loss import Loss, OnDevice

PATIENCE = timedelta(hours=2)  # that ranks wait for one that tokenizes


@dataclass(frozen=True)
class Team:
    """The processes that train one model, seen from one of them."""

    rank: int = 0
    world: int = 1
    sharded: bool = False  # FSDP2: each holds a part of the weights; else DDP: each holds all of them

    @property
    def leads(self) -> bool:
        """Whether this process is the one that logs and writes."""
        return self.rank == 0

    def share(self, micro: "Micro") -> "Micro":
        """The rows of a micro-batch that are this rank's; where there are none, a row that weighs nothing."""
        if self.world == 1:
            return micro
        from zhiling.trainer.batches import deal

        mine = deal(micro.lengths, self.world)[self.rank]
        if mine:
            return micro.only(mine)
        last = micro.only([len(micro.starts) - 2])
        return replace(last, weights=last.weights * 0)

    def sum(self, values: "Tensor") -> "Tensor":
        """The sum over all ranks."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def agree(self, value: Any) -> Any:
        """The leader's value, on every rank."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box)
        return box[0]

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()


ALONE = Team()


def team(parallel: "Parallel" = "auto") -> Team:
    """This process's team, from torchrun's environment. Raises UserError where processes would not share the work."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if parallel == "none":
        raise UserError("train.parallel", f"'none' with {world} processes", "use ddp or fsdp, or start one process")
    return Team(int(os.environ["RANK"]), world, parallel == "fsdp")


def alone(what: str) -> None:
    """Raise UserError where torchrun started several processes for something that only one does."""
    if team().world > 1:
        raise UserError(what, f"started {team().world} times by torchrun", "start it once, without torchrun")


@contextmanager
def joined() -> Iterator[Team]:
    """The process group of a run; only the leader talks. Alone, nothing is done."""
    mine = team()
    if mine.world == 1:
        yield mine
        return
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not mine.leads:
        set_verbosity(0)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    yield mine
    mine.wait()
    dist.destroy_process_group()  # not after an error: others may be gone, and torchrun ends the rest


@contextmanager
def leader_first() -> Iterator[None]:
    """The block on the leader, then on the other ranks, which find there what it wrote."""
    mine = team()
    if not mine.leads:
        mine.wait()
    yield
    if mine.leads:
        mine.wait()


def share_model(
    mine: Team, model: Any, loss: "Loss", compiled: bool = False
) -> "tuple[Any, Callable[[OnDevice], Tensor]]":
    """The model whose parameters this rank trains, and its loss of a micro-batch, whose gradients add up over ranks.

    DDP trains `model` itself, FSDP a copy whose weights are parted; `model` then waits in the host's memory.
    """
    from zhiling.trainer.device import blocks_of, compile_blocks

    if compiled and not mine.sharded:
        compile_blocks(model)
    if mine.world == 1:
        return model, lambda micro: loss(model, micro)
    import copy

    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    if not mine.sharded:
        device = next(model.parameters()).device
        return model, DistributedDataParallel(
            _module(model, loss), [device] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )
    trained = copy.deepcopy(model)
    model.cpu()
    module = _module(trained, loss)
    if compiled:
        compile_blocks(trained)
    for block in blocks_of(trained):
        fully_shard(block)
    fully_shard(module)
    return trained, module


def _module(model: Any, loss: "Loss") -> Any:
    """A module whose forward pass is the loss: what DDP and FSDP put their hooks on."""
    from torch import nn

    class Losing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, micro: "OnDevice") -> "Tensor":
            return loss(self.model, micro)

    return Losing()


def unsynced(lose: Any, last: bool) -> AbstractContextManager[None]:
    """For all but the last micro-batch of a step: DDP adds up over ranks only once."""
    quiet: AbstractContextManager[None] = nullcontext()
    return lose.no_sync() if not last and hasattr(lose, "no_sync") else quiet


def whole(tensor: Any) -> Any:
    """A tensor with all its parts; what is not parted is given back as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
