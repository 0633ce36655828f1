"""Several processes that train one network together, as torchrun starts them; one process otherwise. Imports torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn

from dfmobile.errors import InputError


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them.

    Attributes:
        rank: of this one, from 0.
        count: of all.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return what is called in place of a module so that its gradients are those of all processes."""
        if self.count == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def normalised_together(self, module: nn.Module) -> nn.Module:
        """Return the module with batch norms over the images of all processes; torch has them for GPUs only."""
        if self.count == 1 or self.device.type != "cuda":
            return module
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)

    def total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the sum of integer counts over all processes."""
        if self.count == 1:
            return counts
        tensor = torch.from_numpy(counts).to(self.device)
        distributed.all_reduce(tensor)
        summed: npt.NDArray[np.int64] = tensor.cpu().numpy()
        return summed

    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the batch norm statistics of the first."""
        if self.count == 1:
            return
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that torchrun has started; alone where it has not.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: if there is no GPU and one is asked for.
    """
    on_gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise InputError("device is 'cuda', and torch finds no GPU here", hint="device=cpu, or device=auto")
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield Processes(0, 1, torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu"))
        return
    place = torch.device("cpu")
    if on_gpu:
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), place)
    finally:
        distributed.destroy_process_group()
