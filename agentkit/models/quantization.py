"""Fewer bits per weight: bitsandbytes configurations by name."""

from __future__ import annotations

from typing import Any

from agentkit.errors import ConfigurationError


def quantization_config(name: str) -> Any:
    """`nf4` (4 bits, double quantization) or `int8`, as a BitsAndBytesConfig."""
    try:
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        import bitsandbytes  # noqa: F401
        import torch
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise ConfigurationError(
            f"expected the package {error.name} for quantization; run pip install 'agentkit-react[local]'"
        ) from None
    if name == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    if name == "nf4":
        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            # half-precision arithmetic is four times slower than float32 on a CPU
            bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        )
    raise ConfigurationError(f"expected quantization 'nf4' or 'int8', saw {name!r}")
