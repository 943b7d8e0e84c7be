"""What a run was started with: enough to start it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from agentkit import __version__, prompts
from agentkit.errors import CassetteError, ConfigurationError
from agentkit.events import Action, Called, Step
from agentkit.react_json.prompt import AUTO, BUNDLED, Prompt, read_prompt
from agentkit.secrets import is_address, public_address, public_command, public_options
from agentkit.settings import SETTINGS, RunSettings, default_of

UNWRITTEN: Mapping[str, Any] = {
    "model": "builtin",
    "tools": ("search", "calculator"),
    "prompt": "react-json",
    "mode": "auto",
    "max_iterations": 15,
    "max_repeats": 3,
    "max_observation_tokens": 8_000,
    "early_stopping_method": "force",
    "trim_intermediate_steps": -1,
    "compaction": "drop",
}
"""What a cassette means that does not say it, whatever the defaults are by now."""
MADE_IN_PYTHON = "python:"
"""Begins the name of a model that only the program has that made it."""
ALWAYS = ("model", "tools", "prompt", "max_iterations")
"""What stands in every cassette, for its readers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run: `inputs` of the executor and its settings.

    `prompt_text` holds the prompt where it is no bundled one. `steps` are those that the run begins with, kept from the
    cassette it was `forked_from`: mappings of tool, tool_input, log and observation, and of how it was called.
    """

    inputs: Mapping[str, Any]
    settings: RunSettings = field(default_factory=RunSettings)
    prompt_text: str | None = None
    forked_from: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    version: str = __version__

    @classmethod
    def of(
        cls, inputs: Mapping[str, Any], settings: RunSettings | None = None, *, text: Prompt | None = None, **named: Any
    ) -> RunSpec:
        """The description of a run, by `settings` or by their names.

        A prompt that is no bundled one is kept as text; `text` is it as it was read.
        """
        return cls(inputs=dict(inputs)).with_settings(replace(settings or RunSettings(), **named), text=text)

    def with_settings(self, settings: RunSettings, *, text: Prompt | None = None) -> RunSpec:
        """The same run with other settings."""
        own = None if is_bundled(settings.prompt) else _to_file(text or read_prompt(settings.prompt))
        return replace(self, settings=settings, prompt_text=own)

    def scrubbed(self, scrub: Callable[[Any], Any]) -> RunSpec:
        """The run without the secrets in what a user wrote."""
        settings, public = self.settings, partial(public_address, query=True)
        told: dict[str, Any] = {
            "fallbacks": [*map(public, settings.fallbacks)],
            "mcp": [public(one) if is_address(one) else public_command(one) for one in settings.mcp],
        }
        told |= {
            "model": public(settings.model),
            "options": public_options(settings.options),
            "prompt": settings.prompt,
        }
        told |= {"schema": settings.schema}
        settings = replace(settings, **scrub(told))
        inputs, text, steps = scrub((self.inputs, self.prompt_text, self.steps))
        return replace(self, settings=settings, inputs=inputs, prompt_text=text, steps=tuple(steps))

    def to_mapping(self) -> dict[str, Any]:
        """For the file; what goes without saying is left out."""
        settings = {name: getattr(self.settings, name) for name in SETTINGS}
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if name in ALWAYS or value != UNWRITTEN.get(name, default_of(name))
        }
        more = {"prompt_text": self.prompt_text, "forked_from": self.forked_from, "steps": list(self.steps)}
        return {"inputs": dict(self.inputs), **values, **{name: value for name, value in more.items() if value}}

    @classmethod
    def from_mapping(cls, value: Any, *, version: str) -> RunSpec:
        """Read what `to_mapping` wrote; raises `CassetteError`."""
        if not isinstance(value, Mapping) or not isinstance(value.get("inputs"), Mapping):
            raise CassetteError("expected agentkit.run to be a mapping with inputs")
        texts = {name: value.get(name) for name in ("prompt_text", "forked_from")}
        for name, text in texts.items():
            if not isinstance(text, str | None):
                raise CassetteError(f"agentkit.run.{name}: expected text, saw {text!r}")
        steps = value.get("steps") or ()
        if not isinstance(steps, list | tuple) or not all(map(_is_step, steps)):
            raise CassetteError("expected agentkit.run.steps to hold mappings with a tool")
        try:
            settings = RunSettings.from_mapping({**UNWRITTEN, **value})
        except ConfigurationError as error:
            raise CassetteError(f"agentkit.run.{error}") from error
        if isinstance(settings.schema, str):
            raise CassetteError("expected agentkit.run.schema to be the schema itself, and no file")
        return cls(inputs=value["inputs"], settings=settings, steps=tuple(steps), version=version, **texts)

    @property
    def given_steps(self) -> tuple[Step, ...]:
        """The steps as the loop has them."""
        return tuple(
            Step(
                Action(step["tool"], step.get("tool_input", ""), str(step.get("log", "")), _called(step.get("called"))),
                step.get("observation", ""),
            )
            for step in self.steps
        )

    @property
    def kept_prompt(self) -> Prompt | None:
        """The prompt for a replay: the text that was kept, or the bundled one; no file is read."""
        name = self.settings.prompt
        if self.prompt_text is not None:
            return Prompt.parse(self.prompt_text, name=name)
        return read_prompt(name) if is_bundled(name) and name != AUTO else None

    def read_prompt(self) -> Prompt | None:
        """The prompt for a live run: the bundled one, the file if it is still there, else the text that was kept.

        None where the model says which one.
        """
        name = self.settings.prompt
        if name == AUTO:
            return None
        if self.prompt_text is None or (not name.startswith("hub:") and Path(name).is_file()):
            return read_prompt(name)
        return Prompt.parse(self.prompt_text, name=name)


def _is_step(step: Any) -> bool:
    return isinstance(step, Mapping) and isinstance(step.get("tool"), str)


def _called(value: Any) -> Called | None:
    """How a step was called, which says what was called together."""
    match value:
        case {"id": str(id_), "turn": int(turn), "text": str(text)}:
            fields = value.get("provider_fields")
            return Called(
                id_, turn, text, str(value.get("thinking", "")), fields if isinstance(fields, Mapping) else {}
            )
    return None


def is_bundled(prompt: str) -> bool:
    """Whether a prompt of this name ships with agentkit."""
    return prompt == AUTO or prompt in prompts.names() or prompt.removeprefix("hub:") in BUNDLED


def _to_file(prompt: Prompt) -> str:
    """A prompt in the file format."""
    headings = (
        (f"messages {section.text}{'?' * section.optional}", "")
        if section.role == "messages"
        else (section.role, section.text)
        for section in prompt.sections
    )
    return "\n".join(f"[{heading}]\n{text}" for heading, text in headings)
