"""What a run was started with: enough to start it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit import __version__
from agentkit.errors import CassetteError
from agentkit.events import Action, Step

SETTINGS = (
    *("model", "tools", "prompt", "max_iterations", "timeout", "max_tokens"),
    *("max_cost", "mode", "fallbacks", "docs", "mcp", "allow"),
)
_LISTS = ("tools", "fallbacks", "mcp", "allow")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "inputs": (Mapping,),
    "model": (str,),
    "options": (Mapping,),
    "tools": (list, tuple),
    "prompt": (str,),
    "prompt_text": (str, type(None)),
    "max_iterations": (int, type(None)),
    "timeout": (int, float, type(None)),
    "max_tokens": (int, type(None)),
    "max_cost": (int, float, type(None)),
    "mode": (str,),
    "fallbacks": (list, tuple),
    "docs": (str, type(None)),
    "mcp": (list, tuple),
    "allow": (list, tuple),
    "forked_from": (str, type(None)),
    "steps": (list, tuple),
    "version": (str,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run: `inputs` of the executor, a model's spec and options, names of tools and of a prompt, limits.

    `prompt_text` holds the prompt where it is no bundled one; `timeout` is in seconds. `steps` are those that the run
    begins with, kept from the cassette it was `forked_from`: mappings of tool, tool_input, log and observation.
    """

    inputs: Mapping[str, Any]
    model: str = "builtin"
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ("search", "calculator")
    prompt: str = "react-json"
    prompt_text: str | None = None
    max_iterations: int | None = 15
    timeout: float | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    mode: str = "auto"
    fallbacks: tuple[str, ...] = ()
    docs: str | None = None
    mcp: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    forked_from: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    version: str = __version__

    @classmethod
    def of(cls, inputs: Mapping[str, Any], *, prompt: str = "react-json", **settings: Any) -> RunSpec:
        """The description of a run; a prompt that is no bundled one is kept as text."""
        settings.setdefault("prompt_text", None if is_bundled(prompt) else _text_of(prompt))
        return cls(inputs=dict(inputs), prompt=prompt, **settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What `agentkit.settings.Settings` takes."""
        return {name: getattr(self, name) for name in SETTINGS}

    def to_mapping(self) -> dict[str, Any]:
        """For the file; what says nothing is left out."""
        values = {name: getattr(self, name) for name in _TYPES if name != "version"}
        values |= {"inputs": dict(self.inputs), "options": dict(self.options)}
        values |= {name: list(values[name]) for name in (*_LISTS, "steps")}
        if self.mode == "auto":
            del values["mode"]
        always = ("max_iterations", "tools")
        return {name: value for name, value in values.items() if value not in (None, {}, []) or name in always}

    @classmethod
    def from_mapping(cls, value: Any, *, version: str) -> RunSpec:
        """Read what `to_mapping` wrote; raises `CassetteError`."""
        if not isinstance(value, Mapping) or "inputs" not in value:
            raise CassetteError("expected agentkit.run to be a mapping with inputs")
        known = {name: value[name] for name in _TYPES if name in value}
        for name, found in known.items():
            if not isinstance(found, _TYPES[name]) or isinstance(found, bool) or not _finite(found):
                raise CassetteError(f"expected agentkit.run.{name} of another type, saw {type(found).__name__}")
        for name in _LISTS:
            known[name] = tuple(known.get(name, ()))
            if not all(isinstance(item, str) for item in known[name]):
                raise CassetteError(f"expected agentkit.run.{name} to be names")
        known["steps"] = tuple(known.get("steps", ()))
        if not all(isinstance(step, Mapping) and isinstance(step.get("tool"), str) for step in known["steps"]):
            raise CassetteError("expected agentkit.run.steps to hold mappings with a tool")
        return cls(**{**known, "version": version})

    @property
    def given_steps(self) -> tuple[Step, ...]:
        """The steps as the loop has them."""
        return tuple(
            Step(
                Action(step["tool"], step.get("tool_input", ""), str(step.get("log", ""))),
                step.get("observation", ""),
            )
            for step in self.steps
        )

    def read_prompt(self) -> Any:
        """The prompt: the bundled one, the file if it is still there, else the text that was kept."""
        from agentkit.react_json.prompt import Prompt, read_prompt

        if self.prompt_text is None or (not self.prompt.startswith("hub:") and Path(self.prompt).is_file()):
            return read_prompt(self.prompt)
        return Prompt.parse(self.prompt_text, name=self.prompt)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def is_bundled(prompt: str) -> bool:
    """Whether a prompt of this name ships with agentkit."""
    from agentkit import prompts
    from agentkit.react_json.prompt import BUNDLED

    return prompt in prompts.names() or prompt.removeprefix("hub:") in BUNDLED


def _text_of(name: str) -> str:
    """A prompt in the file format."""
    from agentkit.react_json.prompt import read_prompt

    sections = read_prompt(name).sections
    headings = ((f"messages {s.text}", "") if s.role == "messages" else (s.role, s.text) for s in sections)
    return "\n".join(f"[{heading}]\n{text}" for heading, text in headings)
