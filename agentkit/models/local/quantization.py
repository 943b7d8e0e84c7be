"""Fewer bits per weight: bitsandbytes configurations by name, or from the keywords transformers once took."""

from __future__ import annotations

import logging
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.local.missing_package import missing_package

BITS = {"nf4": {"load_in_4bit": True}, "int8": {"load_in_8bit": True}}
KEYWORDS = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")


def quantization_config(name: str | None, options: dict[str, Any]) -> Any:
    """`nf4` (4 bits, double quantization) or `int8` as a BitsAndBytesConfig; None where nothing is quantized.

    Keywords such as `load_in_4bit=True` among `options` are taken out of them and mean the same.
    """
    # its import warns on processors for which the package kernels would download faster code
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    given = {key: options.pop(key) for key in tuple(options) if key.startswith(KEYWORDS)}
    if name is None and not any(given.get(key) for key in ("load_in_4bit", "load_in_8bit")):
        return None
    if name is not None and name not in BITS:
        raise ConfigurationError(f"expected quantization 'nf4' or 'int8', saw {name!r}")
    if "quantization_config" in options:
        raise ConfigurationError(
            "expected quantization or model_kwargs['quantization_config'], saw both; leave one out"
        )
    wanted = {**(BITS[name] if name else {}), **given}
    try:
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        import bitsandbytes  # noqa: F401
        import torch
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise missing_package(error, "for quantization") from error
    if wanted.get("load_in_4bit"):
        # half-precision arithmetic is four times slower than float32 on a CPU
        compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        defaults = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": compute}
        wanted = {**defaults, **wanted}
    elif not torch.cuda.is_available():  # else it warns of every product of every token that it computes in float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(**wanted)  # type: ignore[no-untyped-call]
