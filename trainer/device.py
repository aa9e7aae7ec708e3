"""Where training runs and in which precision: the GPU where there is one, bf16 where the processor multiplies it."""

from typing import Any


def pick_device() -> Any:
    """The device to train on."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bf16_wanted(precision: str, device: Any) -> bool:
    """Whether to train under bf16 autocast: as told, or where the device has bf16 products in hardware."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
