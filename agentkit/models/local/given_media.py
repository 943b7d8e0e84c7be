"""Images, sound and video as a sequence's inputs, and when what was computed of them holds for another prompt."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PLACEHOLDER = re.compile(r"(image|video|audio|vision).*token(_id|_index)?$")


@dataclass(frozen=True, eq=False, slots=True)
class GivenMedia:
    """The model's inputs beyond tokens, for its first forward.

    Two prompts with the same `key` have the same pixels and waves; those end before the token number `end`. A key of
    None says that nothing is known of that: such a prompt is computed whole.
    """

    inputs: Mapping[str, Any]
    key: str | None = None
    end: int = 0


def given_media(config: Any, ids: Sequence[int], inputs: Mapping[str, Any]) -> GivenMedia:
    """`inputs` for a prompt of `ids`, where `config` is the model's."""
    placeholders = {value for name, value in vars(config).items() if PLACEHOLDER.search(name)}
    places = [number for number, token in enumerate(ids) if token in placeholders]
    return GivenMedia(inputs, _digest(inputs, len(ids)), places[-1] + 1) if places else GivenMedia(inputs)


def _digest(inputs: Mapping[str, Any], tokens: int) -> str | None:
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(inputs.items()):
        if not isinstance(value, torch.Tensor):
            return None
        if (
            tuple(value.shape) == (1, tokens) and not value.is_floating_point()
        ):  # the kind of each token: the ids say it
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
