"""A tool as the loop sees it: a name, a description, a JSON schema and a function. No framework needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentkit.arguments import as_arguments
from agentkit.errors import ToolError
from agentkit.events import Source
from agentkit.react_json.turn import ToolInput

STRING: Mapping[str, Any] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Result:
    """An observation with what a run keeps of it: its sources, and readings of the input that could surprise."""

    text: str
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    `schema` is the JSON schema of `action_input`: `{"type": "string"}` for a tool of one string, else an object schema.
    `run` takes the action's input, a string or a dict, and returns the observation, bare or as a `Result`; it raises
    `ToolError` for what the model can mend. `deterministic` tools are executed again when a cassette is replayed,
    `idempotent` ones after a failure; `side_effects` are asked for with `approve`. `timeout_s` is the
    tool's own limit, `reads` names the environment variables of its keys.
    """

    name: str
    description: str
    run: Callable[[Any], Any]
    arun: Callable[[Any], Awaitable[Any]] | None = None
    schema: Mapping[str, Any] = field(default_factory=lambda: STRING)
    return_direct: bool = False
    deterministic: bool = False
    side_effects: bool = False
    idempotent: bool = False
    timeout_s: float | None = None
    reads: tuple[str, ...] = ()

    @property
    def takes_one_string(self) -> bool:
        """Whether `action_input` is a single string."""
        return self.schema.get("type") == "string"

    def call(self, tool_input: ToolInput) -> Any:
        """The observation."""
        return self.run(self.fitted(tool_input))

    async def acall(self, tool_input: ToolInput) -> Any:
        """The observation; only for a tool that has `arun`."""
        assert self.arun is not None
        return await self.arun(self.fitted(tool_input))

    def fitted(self, tool_input: ToolInput) -> ToolInput:
        """A tool of one string is often given `{"query": "…"}`, one of an object the text of it, or its one value."""
        if self.takes_one_string and isinstance(tool_input, dict):
            values = list(tool_input.values())
            if len(values) != 1 or not isinstance(values[0], str | int | float):
                raise ToolError(f"{self.name} takes one string as action_input, got an object; give a string.")
            return str(values[0])
        if not self.takes_one_string and isinstance(tool_input, str):
            return as_arguments(tool_input, self.schema)
        return tool_input
