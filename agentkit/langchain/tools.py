"""Tools between the two worlds: agentkit's `Tool` values as LangChain tools, and LangChain's as the loop's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import tool as as_tool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentkit.errors import ConfigurationError, ToolError, described
from agentkit.events import ToolInput
from agentkit.langchain.results import kept_results, plain, whole
from agentkit.tool import STRING, Tool, does_not_fit
from agentkit.toolbox.calling import in_daemon_thread

DETERMINISTIC = "deterministic"  # in a LangChain tool's metadata: executed again when a cassette is replayed
IDEMPOTENT = "idempotent"  # in a LangChain tool's metadata: may be tried again
TIMEOUT_S = "timeout_s"  # in a LangChain tool's metadata: its own time limit
SIDE_EFFECTS = "side_effects"  # in a LangChain tool's tags: it changes something
READ_ONLY = ("read_only", "readOnlyHint")  # in its tags, or true in its metadata, as of MCP's adapters: it does not


def as_langchain(tool: Any) -> BaseTool:
    """A LangChain tool of one of ours, a typed function, or a LangChain tool (as it is)."""
    if isinstance(tool, BaseTool):
        return tool
    if isinstance(tool, Tool):
        return _of_ours(tool)
    if callable(tool) and not isinstance(tool, type):
        return _of_function(tool)
    if isinstance(tool, str):
        advice = f"load_tools([{tool!r}]) gives tools by their names"
    elif isinstance(tool, type):
        advice = f"make one: {tool.__name__}(…)"
    else:
        advice = "see `agentkit.load_tools`"
    raise ConfigurationError(f"expected a tool or a typed function, saw {described(tool)}; {advice}")


def listed(tools: Any, what: str = "tools") -> list[Any]:
    """What an option that is a list was given; raises `ConfigurationError` for one thing alone, or none."""
    if isinstance(tools, Iterable) and not isinstance(tools, str | bytes | Mapping | BaseTool | type):
        return list(tools)
    example = repr(tools) if isinstance(tools, str) else getattr(tools, "__name__", "…")
    advice = "[] is none" if tools is None else f"write {what}=[{example}]"
    raise ConfigurationError(f"{what}: expected a list, saw {described(tools)}; {advice}")


def _of_ours(tool: Tool) -> BaseTool:
    def run(tool_input: Any) -> Any:
        return plain(tool.call(tool_input))

    async def arun(tool_input: Any) -> Any:
        return plain(await tool.acall(tool_input))

    said = {DETERMINISTIC: tool.deterministic, IDEMPOTENT: tool.idempotent, TIMEOUT_S: tool.timeout_s}
    return _SingleInput(
        ours=tool,
        name=tool.name,
        description=tool.description,
        func=run,
        coroutine=arun if tool.arun is not None else None,
        args_schema=None if tool.takes_one_string else dict(tool.schema),
        return_direct=tool.return_direct,
        metadata={name: value for name, value in said.items() if value},
        tags={True: [SIDE_EFFECTS], False: [READ_ONLY[0]], None: None}[tool.side_effects],
    )


def _of_function(function: Callable[..., Any]) -> BaseTool:
    """A typed function as a tool: its docstring describes it and, in Google's form, its arguments."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        if not name.isidentifier():
            raise ValueError("it has no name")
        described = inspect.getdoc(function) if inspect.isroutine(function) else None
        description = None if described else f"{name}{inspect.signature(function)}"
        decorate = as_tool(name, description=description, parse_docstring=True, error_on_invalid_docstring=False)
        return decorate(function)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        raise ConfigurationError(
            f"expected a function with typed arguments as a tool, saw {name!r} ({error}); name and annotate it"
        ) from error


class _SingleInput(SingleInputTool):
    """One of our tools, `ours`, which is given the input as it is: our tools mend and refuse it themselves."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    ours: Tool = Field(exclude=True, repr=False)

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(tool_input, dict) and list(tool_input) in (["__arg1"], ["tool_input"]):
            (tool_input,) = tool_input.values()
        return (tool_input,), {}


def from_langchain(tool: BaseTool, *, config: RunnableConfig | None = None, verbose: bool = False) -> Tool:
    """A LangChain tool as the loop runs it, by its public methods.

    Without `config` nobody watches, and one that was made of ours is that again.
    """
    if config is None and not verbose and isinstance(tool, _SingleInput) and not tool.callbacks and not tool.verbose:
        return tool.ours
    options = _run_options(config, verbose)
    if tool.response_format == "content_and_artifact":
        options["tool_call_id"] = tool.name  # without one LangChain drops the artifact
    schema, metadata = schema_of(tool), tool.metadata or {}

    def run(tool_input: Any) -> Any:
        with _errors_told(tool), kept_results() as kept:
            if _is_only_async(tool):
                return whole(in_daemon_thread(asyncio.run, tool.arun(tool_input, **options)).result(), kept)
            return whole(tool.run(tool_input, **options), kept)

    async def arun(tool_input: Any) -> Any:
        with _errors_told(tool), kept_results() as kept:
            return whole(await tool.arun(tool_input, **options), kept)

    return Tool(
        name=tool.name,
        description=tool.description,
        run=run,
        arun=arun if _has_coroutine(tool) else None,
        schema=schema,
        return_direct=tool.return_direct,
        deterministic=bool(metadata.get(DETERMINISTIC)),
        idempotent=bool(metadata.get(IDEMPOTENT)),
        side_effects=_side_effects(tool),
        timeout_s=metadata.get(TIMEOUT_S),
        parse=_parser(tool),
    )


def _side_effects(tool: BaseTool) -> bool | None:
    """Whether a tool changes anything, as far as it says."""
    tags, metadata = tool.tags or (), tool.metadata or {}
    if SIDE_EFFECTS in tags or metadata.get(SIDE_EFFECTS) is True:
        return True
    reads = any(name in tags or metadata.get(name) is True for name in READ_ONLY)
    return False if reads or metadata.get(SIDE_EFFECTS) is False else None


def _parser(tool: BaseTool) -> Callable[[ToolInput], ToolInput] | None:
    """Gives the arguments as LangChain hands them over; none where it hands over what it was given."""
    if isinstance(tool.args_schema, dict):
        return None

    def parse(tool_input: ToolInput) -> ToolInput:
        schema = tool.tool_call_schema
        if not isinstance(tool_input, dict) or not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            return tool_input
        try:
            read = schema.model_validate(tool_input)
        except ValidationError as error:
            raise _misfit(tool, error) from error
        if any(field.alias for field in schema.model_fields.values()):
            return tool_input
        return {name: getattr(read, name) for name in tool_input if name in read.model_fields_set}

    return parse


def schema_of(tool: BaseTool) -> dict[str, Any]:
    """JSON schema of the tool's `action_input`."""
    if isinstance(tool.args_schema, dict):
        return tool.args_schema
    if isinstance(tool, SingleInputTool):
        return dict(STRING)
    schema = tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    return {"type": "object", "properties": tool.args}


@contextmanager
def _errors_told(tool: BaseTool) -> Iterator[None]:
    """A tool's own error, and arguments that do not fit, are for the model to read; anything else is a bug."""
    try:
        yield
    except ToolException as error:
        raise ToolError(f"Error: {error}") from error
    except ValidationError as error:
        if error.title != getattr(tool.args_schema, "__name__", None):
            raise
        raise _misfit(tool, error) from error


def _misfit(tool: BaseTool, error: ValidationError) -> ToolError:
    wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return does_not_fit(tool.name, wrong, schema_of(tool))


def _run_options(config: RunnableConfig | None, verbose: bool) -> dict[str, Any]:
    config = config or RunnableConfig()
    return {
        "verbose": verbose,
        "callbacks": config.get("callbacks"),
        "tags": config.get("tags"),
        "metadata": config.get("metadata"),
        "config": config,
    }


def _is_only_async(tool: BaseTool) -> bool:
    return isinstance(tool, SingleInputTool | StructuredTool) and tool.func is None


def _has_coroutine(tool: BaseTool) -> bool:
    if isinstance(tool, SingleInputTool | StructuredTool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun
