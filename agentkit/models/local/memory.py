"""Memory that a model needs and memory that there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentkit.errors import ModelError

GIB = 2**30
ADVICE = "take a smaller model, quantization='nf4', or dtype='bfloat16'"


def weight_bytes(folder: Path) -> int:
    """The size of the weights in a model's folder."""
    kinds = [sorted(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")]
    return sum(path.stat().st_size for path in next(filter(None, kinds), []))


def free_bytes(device: str) -> int:
    """How much may still be taken on a device."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)  # type: ignore[no-untyped-call]


def check_room(model_id: str, needed: int, free: int) -> None:
    """Say so before a load that would end in the operating system's killing the process."""
    if needed > free:
        raise ModelError(
            f"expected room for {model_id}, whose weights take {needed / GIB:.1f} GiB, "
            f"saw {free / GIB:.1f} GiB free; {ADVICE}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a processor or a GPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


@contextmanager
def memory_errors(model_id: str, doing: str) -> Iterator[None]:
    """Turns running out of memory into one line with what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(f"expected room for {doing} {model_id}, memory ran out; {ADVICE}") from error
