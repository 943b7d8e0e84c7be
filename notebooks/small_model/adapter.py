"""Make the adapter's files of what a training brought: `python -m small_model.adapter PARTS OUT [--rank N]`.

OUT receives peft's folder at a rank that fits the package, and adapter.gguf for llama.cpp; the full rank is kept at 8
bits in the latter (--rank 0 leaves it as it is in both).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import base


def write(parts: Path, out: Path, rank: int, kind: str) -> dict[str, int]:
    """Write the files; their sizes in bytes."""
    from safetensors.torch import save_file

    tensors, scale = base.read_parts(parts)
    full = next(value.shape[0] for name, value in tensors.items() if "lora_A" in name)
    out.mkdir(parents=True, exist_ok=True)
    learned = json.loads((parts / "adapter_config.json").read_text(encoding="utf-8")).get("prompt_sha256", "")
    base.write_gguf(tensors, scale, out / "adapter.gguf", kind if full % 32 == 0 else "f16", learned)
    kept = (
        base.shrunk({name: value * scale if "lora_B" in name else value for name, value in tensors.items()}, rank)
        if rank and rank < full
        else tensors
    )
    save_file(kept, out / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = base.peft_configuration(rank or full, 1.0 if kept is not tensors else scale)
    (out / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return {path.name: path.stat().st_size for path in sorted(out.iterdir())}


def main() -> None:
    """Read the options and write the files."""
    parser = argparse.ArgumentParser(prog="python -m small_model.adapter", description=__doc__)
    parser.add_argument("parts", type=Path, help="the folder that the training wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rank", type=int, default=19, help="of peft's files: 19 makes 11.6 MB")
    parser.add_argument("--kind", choices=("q8_0", "f16"), default="q8_0")
    args = parser.parse_args()
    for name, size in write(args.parts, args.out, args.rank, args.kind).items():
        print(f"{name}: {size:,} bytes")


if __name__ == "__main__":
    main()
