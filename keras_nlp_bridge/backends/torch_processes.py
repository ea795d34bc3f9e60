"""torch.distributed: the processes of a group, each with its part of the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from keras_nlp_bridge.backends.base import Backend, Tensor, Tree, alone

__all__ = ["Processes"]


class Processes(Backend):
    """The part of torch's backend that knows the default group of processes.

    Each process is one replica. Whoever has called
    `torch.distributed.init_process_group` has such a group.
    """

    def process(self) -> tuple[int, int]:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()

    def gathered(self, array: NDArray[Any]) -> NDArray[Any]:
        own = self.to_device(array)
        parts = [torch.empty_like(own) for _ in range(self.process()[1])]
        with _told():
            distributed.all_gather(parts, own)
        return np.stack([self.to_host(part) for part in parts])

    def check_optimizer(self, optimizer: keras.optimizers.Optimizer) -> None:
        count = self.process()[1]
        if count > 1:
            raise ValueError(
                "`method` must not be an optimizer of Keras in several processes of "
                "torch, where Keras would train a model of its own in each; got "
                f"{optimizer.name!r} in {count} processes."
            )

    def replicas(self, model: keras.Model) -> int:
        del model
        return self.process()[1]

    def replica(self) -> int:
        return self.process()[0]

    def check_own(self, model: keras.Model) -> None:
        del model
        launched = distributed.is_available() and distributed.is_torchelastic_launched()
        if launched and not distributed.is_initialized():
            raise ValueError(
                "`shard=None` needs torch.distributed.init_process_group, called "
                "before, where torchrun has started the processes; got none."
            )

    def chunked(self, tree: Tree, size: int, count: int) -> Tree:
        own, parts = self.process()
        each = count // parts * size
        return keras.tree.map_structure(
            lambda a: (
                None if a is None else self.to_device(a[own * each : (own + 1) * each])
            ),
            tree,
        )

    def summed(self, model: keras.Model, tree: Tree) -> Tree:
        del model
        leaves = keras.tree.flatten(tree)
        return keras.tree.pack_sequence_as(tree, self._reduced(leaves))

    def over_parts(
        self,
        model: keras.Model,
        part: Callable[[Tree, Tree, Any, int], Tree],
        held: Tree,
        common: Tree,
    ) -> Tree:
        own, count = self.process()
        found = part(held, common, own, count)
        return found if count == 1 else self.summed(model, found)

    @contextmanager
    def adding_up(self, variables: Sequence[keras.Variable]) -> Iterator[None]:
        if self.process()[1] == 1:
            yield
            return
        before = [self.read(v) for v in variables]
        yield
        pairs = zip(variables, before, strict=True)
        grown = self._reduced([self.read(v) - old for v, old in pairs])
        for variable, old, more in zip(variables, before, grown, strict=True):
            variable.assign(old + more)

    def _reduced(self, leaves: list[Tensor]) -> list[Tensor]:
        """Sum tensors over the processes, all of a dtype at once."""
        found = list(leaves)
        for dtype in dict.fromkeys(a.dtype for a in leaves):
            at = [i for i, a in enumerate(leaves) if a.dtype == dtype]
            joined = torch.cat([leaves[i].detach().reshape(-1) for i in at])
            with _told():
                distributed.all_reduce(joined)
            parts = joined.split([leaves[i].numel() for i in at])
            for i, part in zip(at, parts, strict=True):
                found[i] = part.reshape(leaves[i].shape)
        return found


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        rank, count = distributed.get_rank(), distributed.get_world_size()
        raise alone(rank, count, error) from error
