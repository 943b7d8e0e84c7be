"""What decides a model's replies beside their prompts: its weights, its settings, and which of its adapters computes.

All are the user's to change at any time: trained, loaded, switched, merged, moved, set. What was computed before holds
no more then, and the change leaves no notice behind, so it is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from operator import attrgetter, itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any, NamedTuple

import torch
from torch import nn

from agentkit.errors import ConfigurationError
from agentkit.models.local.loading import BASE_MODEL

MOST_READ, MOST_READ_AFAR = 1024, 16
"""Of how many tensors a value is read, in this processor's memory and in another one's, which has to be waited for."""

SETTINGS = (int, float, complex, str, NoneType, torch.dtype, FunctionType, MethodType, BuiltinFunctionType, partial)
"""The kinds of attributes that are looked at, a `forward` that stands in for the class's own among them."""
OF_TORCH = frozenset(vars(nn.Module())) - {"training"}
"""The attributes that torch keeps of every module."""
GROWING = ("dynamic", "longrope")
"""Kinds of rotary embeddings that compute their buffers anew while the model runs."""

_version = attrgetter("_version")
_forward = attrgetter("forward")


class _Look(NamedTuple):
    """What was seen at one time; `settings` are those of each module and configuration."""

    settings: Sequence[Any]
    rest: tuple[Any, ...]


class Weights:
    """The weights and settings of one model, looked at without touching them.

    A look takes in the modules and their hooks, the numbers, texts and functions among their attributes and those of
    their configurations, where each tensor lies, torch's count of its changes, one of its values
    (`tensor.data.add_(…)` is not counted), and of adapters what PEFT keeps of them.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._walks = 0
        self._set_by_computing: dict[int, set[str]] = {}
        self._walk()
        self._seen: _Look | None = self._look()
        self._have_computed = False

    def computed(self) -> None:
        """They have computed. What that changes the first time is nobody's doing: libraries set hooks, and move weights
        that lie on disk. Settings that it changes are none, at any time."""
        if not self._have_computed or self._seen is None:
            self._have_computed, self._seen = True, self._look()
            return
        before, after = self._seen.settings, self._settings()
        if len(before) == len(after) and _differ(before, after):
            for place, pair in enumerate(zip(before, after, strict=True)):
                if _differ(*pair):
                    self._leave_out(place, *pair)
            self._seen = self._seen._replace(settings=self._settings())

    def changed(self) -> bool:
        """Whether anything has changed since this was last asked."""
        if (before := self._seen) is None:
            self._set_by_computing.clear()
            self._walk()
        self._seen = self._look()
        return before is None or _differ(before, self._seen)

    def forget(self) -> None:
        """Take everything for changed."""
        self._seen = None

    # -- adapters --------------------------------------------------------------------------------------------------

    @property
    def adapters(self) -> Sequence[str]:
        """The names of the adapters that PEFT has added."""
        names = getattr(self._model, "peft_config", None)
        return tuple(names) if isinstance(names, dict) else ()

    @property
    def has_virtual_tokens(self) -> bool:
        """Whether an adapter adds to the prompt instead of the layers; only `generate` knows how."""
        configs = getattr(self._model, "peft_config", None)
        return isinstance(configs, dict) and any(getattr(c, "is_prompt_learning", False) for c in configs.values())

    def check_adapter(self, name: object) -> None:
        """Refuse a name that no adapter has."""
        known = (*self.adapters, BASE_MODEL)
        if name not in known:
            there = f"Available: {', '.join(known)}." if self.adapters else "The model has none."
            raise ConfigurationError(f"No adapter named {name}. {there}")
        if self.has_virtual_tokens or any(getattr(layer, "merged_adapters", ()) for layer in self._adapted):
            raise ConfigurationError(
                f"the adapter {name} cannot be taken for one reply: prompts that were learned and adapters that were "
                "merged are part of the model; leave the option adapter out"
            )

    @contextmanager
    def adapter(self, name: str | None) -> Iterator[None]:
        """Let that adapter compute meanwhile; `None`: those that are active. What the user activated is put back."""
        if name is None:
            yield
            return
        before = [(layer, layer._active_adapter, layer._disable_adapters) for layer in self._adapted]
        try:
            for layer in self._adapted:  # PEFT's own `set_adapter` changes what is trained, too
                layer._active_adapter, layer._disable_adapters = [name], name == BASE_MODEL
            yield
        finally:
            for layer, active, disabled in before:
                layer._active_adapter, layer._disable_adapters = active, disabled

    # -- looking ---------------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        """Find the modules, and where each keeps its parts."""
        self._walks += 1
        self._modules = list(self._model.modules())
        self._places = [module._modules for module in self._modules]
        self._children = [*chain.from_iterable(map(dict.values, self._places))]
        self._parameters = [module._parameters for module in self._modules]
        self._hooks = [each for one in self._modules for each in (one._forward_hooks, one._forward_pre_hooks)]
        self._adapted = [one for one in self._modules if getattr(one, "_active_adapter", None) is not None]
        self._buffers = [
            (module._buffers, name)
            for module in self._modules
            for name in module._buffers
            if name not in module._non_persistent_buffers_set or getattr(module, "rope_type", "") not in GROWING
        ]
        self._classes = [*dict.fromkeys(map(type, self._modules))]
        configurations = [getattr(module, "config", None) for module in self._modules]
        owners = [*self._modules, *{id(each): each for each in configurations if hasattr(each, "__dict__")}.values()]
        self._attributes = [vars(owner) for owner in owners]
        self._counts = [*map(len, self._attributes)]
        self._names = [*map(self._names_of, self._attributes)]
        self._takers = [*map(_taker, self._names)]

    def _names_of(self, attributes: Mapping[str, Any]) -> Sequence[str]:
        """Which attributes are settings."""
        left_out = OF_TORCH | self._set_by_computing.get(id(attributes), set())
        return [name for name, value in attributes.items() if name not in left_out and isinstance(value, SETTINGS)]

    def _leave_out(self, place: int, before: Any, after: Any) -> None:
        """Look no more at those settings of a place that are not the same."""
        own = [name for name, *pair in zip(self._names[place], before, after, strict=False) if _differ(*pair)]
        self._set_by_computing.setdefault(id(self._attributes[place]), set()).update(own)
        self._names[place] = [name for name in self._names[place] if name not in own]
        self._takers[place] = _taker(self._names[place])

    def _settings(self) -> Sequence[Any]:
        try:
            return [take(attributes) for take, attributes in zip(self._takers, self._attributes, strict=True)]
        except KeyError:  # one has gone
            self._walk()
            return self._settings()

    def _look(self) -> _Look:
        children = [*chain.from_iterable(map(dict.values, self._places))]
        if children != self._children or [*map(len, self._attributes)] != self._counts:
            self._walk()
        tensors = [tensor for each in self._parameters for tensor in each.values() if tensor is not None]
        tensors += [buffer for each, name in self._buffers if (buffer := each.get(name)) is not None]
        try:
            lying = [*map(torch.Tensor.data_ptr, tensors)]
            changes = [*map(_version, tensors)]
        except RuntimeError:  # made in inference mode, or a kind of tensor that lies nowhere
            lying, changes = [], [*map(_place, tensors)]
        return _Look(
            self._settings(),
            (
                self._walks,
                lying,
                changes,
                _values([tensor for tensor, place in zip(tensors, lying, strict=False) if place]),
                [*map(type, self._modules)],
                [*map(_forward, self._classes)],
                [*chain.from_iterable(self._hooks)],
                [_of_adapters(layer) for layer in self._adapted],
            ),
        )


def _taker(names: Sequence[str]) -> Callable[[Any], Any]:
    """What takes the values of these names out of attributes, always as a tuple."""
    return itemgetter(*names, names[-1]) if names else lambda _: ()


def _differ(one: Any, other: Any) -> bool:
    """Whether two values are not the same; what cannot be compared is not."""
    try:
        return bool(one != other)
    except Exception:  # tensors, which are compared number by number
        return True


def _of_adapters(layer: Any) -> tuple[Any, ...]:
    """Which adapters compute in a layer, and how strongly."""
    active, scaling = layer._active_adapter, getattr(layer, "scaling", None)
    return (
        active if isinstance(active, str) else tuple(active),
        layer._disable_adapters,
        tuple(getattr(layer, "merged_adapters", ())),
        tuple(scaling.items()) if isinstance(scaling, dict) else None,
    )


def _place(tensor: Any) -> tuple[int, int]:
    try:
        return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
    except RuntimeError:
        return id(tensor), 0


def _values(tensors: Sequence[Any]) -> list[bytes]:
    """The value in the middle of each tensor."""
    devices = [tensor.device for tensor in tensors]
    found = []
    for device in dict.fromkeys(devices):
        here = tensors
        if len(tensors) != devices.count(device):
            here = [tensor for tensor, its in zip(tensors, devices, strict=True) if its == device]
        here = here[:: -(-len(here) // (MOST_READ if device.type == "cpu" else MOST_READ_AFAR))]
        try:
            found.append(_bytes(here))
        except (RuntimeError, TypeError):  # a kind of numbers that does not go with the others
            found += map(_bytes_alone, here)
    return found


def _bytes(tensors: Sequence[Any]) -> bytes:
    with torch.inference_mode():
        values = [torch.as_strided(one, (1,), (1,), one.storage_offset() + one.numel() // 2) for one in tensors]
        data: bytes = torch.cat(values).to("cpu", torch.float64).numpy().tobytes()
    return data


def _bytes_alone(tensor: Any) -> bytes:
    try:
        return _bytes([tensor])
    except (RuntimeError, TypeError):
        return b""
