"""One line for a package that is not there: what it is for, and the command that installs it."""

from __future__ import annotations

from agentkit.errors import ConfigurationError

LOCAL = "'agentkit-react[local]'"
MEDIA = "'agentkit-react[media]'"
INSTALL = {
    "torchcodec": "torchcodec",
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "soundfile": MEDIA,
    "soxr": MEDIA,
    "pillow": MEDIA,
    "pil": MEDIA,
    "accelerate": LOCAL,
    "bitsandbytes": LOCAL,
    "llguidance": LOCAL,
    "pytorch": LOCAL,
    "torch": LOCAL,
    "transformers": LOCAL,
    "sentencepiece": "sentencepiece",
    "protobuf": "protobuf",
    "tiktoken": "tiktoken",
    "mistral-common": "mistral-common",
    "timm": "timm",
}
"""By the names that libraries call each other in their errors; the longer one first."""


def missing_package(error: BaseException, purpose: str) -> ConfigurationError:
    """What to tell the user about an ImportError, ours or a library's own."""
    seen = f"{getattr(error, 'name', None) or ''} {error}".lower()
    name = next((name for name in INSTALL if name in seen), None)
    if name is None:
        return ConfigurationError(f"expected a package {purpose}, it is missing: {' '.join(str(error).split())[:200]}")
    return ConfigurationError(f"expected the package {name} {purpose}, it is missing; run pip install {INSTALL[name]}")
