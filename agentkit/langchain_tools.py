"""Tools between the two worlds: agentkit's `Tool` values as LangChain tools, and LangChain's as the loop's."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import tool as as_tool
from pydantic import BaseModel, ValidationError

from agentkit.errors import ConfigurationError, ToolError
from agentkit.langchain_quiet import quiet_tool
from agentkit.tool import STRING, Tool

DETERMINISTIC = "deterministic"  # in a LangChain tool's metadata: executed again when a cassette is replayed
SIDE_EFFECTS = "side_effects"  # in a LangChain tool's tags: ask before it runs


def as_langchain(tool: Any) -> BaseTool:
    """A LangChain tool of one of ours, a typed function, or a LangChain tool (as it is)."""
    if isinstance(tool, BaseTool):
        return tool
    if isinstance(tool, Tool):
        return _SingleInput(
            name=tool.name,
            description=tool.description,
            func=tool.call,
            coroutine=tool.acall if tool.arun is not None else None,
            return_direct=tool.return_direct,
            metadata={DETERMINISTIC: tool.deterministic},
            tags=[SIDE_EFFECTS] if tool.side_effects else None,
        )
    if callable(tool):
        return cast(BaseTool, as_tool(tool))
    raise ConfigurationError(
        f"expected a tool, a typed function or a tool's name, saw {type(tool).__name__}; see `agentkit.load_tools`"
    )


class _SingleInput(SingleInputTool):
    """Hands the input over as it is: our tools mend and refuse it themselves."""

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(tool_input, dict) and list(tool_input) in (["__arg1"], ["tool_input"]):
            (tool_input,) = tool_input.values()
        return (tool_input,), {}


def from_langchain(tool: BaseTool, *, config: RunnableConfig | None = None, verbose: bool = False) -> Tool:
    """A LangChain tool as the loop runs it. Without `config` nobody watches, and callbacks are not set up for it."""
    options = _run_options(config, verbose)
    quiet = quiet_tool(tool) if config is None else None

    def run(tool_input: Any) -> Any:
        with _TellTheModel(tool):
            return quiet(tool_input) if quiet is not None else tool.run(tool_input, **options)

    async def arun(tool_input: Any) -> Any:
        with _TellTheModel(tool):
            return await tool.arun(tool_input, **options)

    return Tool(
        name=tool.name,
        description=tool.description,
        run=run,
        arun=arun if _has_coroutine(tool) else None,
        schema=schema_of(tool),
        return_direct=tool.return_direct,
        deterministic=bool((tool.metadata or {}).get(DETERMINISTIC)),
        side_effects=SIDE_EFFECTS in (tool.tags or ()),
    )


def schema_of(tool: BaseTool) -> dict[str, Any]:
    """JSON schema of the tool's `action_input`."""
    if isinstance(tool, SingleInputTool):
        return dict(STRING)
    if isinstance(tool.args_schema, dict):
        return tool.args_schema
    schema = tool.tool_call_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()
    return {"type": "object", "properties": tool.args}


class _TellTheModel:
    """A tool's own error, and arguments that do not fit, are for the model to read; anything else is a bug."""

    def __init__(self, tool: BaseTool) -> None:
        self._tool = tool

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ToolException):
            raise ToolError(f"Error: {error}") from error
        if isinstance(error, ValidationError) and error.title == getattr(self._tool.args_schema, "__name__", None):
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ToolError(
                f"Error: action_input does not fit {self._tool.name} ({wrong}). It takes: {self._tool.args}"
            ) from error


def _run_options(config: RunnableConfig | None, verbose: bool) -> dict[str, Any]:
    config = config or RunnableConfig()
    return {
        "verbose": verbose,
        "callbacks": config.get("callbacks"),
        "tags": config.get("tags"),
        "metadata": config.get("metadata"),
        "config": config,
    }


def _has_coroutine(tool: BaseTool) -> bool:
    if isinstance(tool, SingleInputTool | StructuredTool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun
