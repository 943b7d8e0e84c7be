"""Tools by name, as LangChain's `load_tools` gives them: ours, and langchain-community's where it is installed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from langchain_core.tools import BaseTool

from agentkit.errors import ConfigurationError, import_failure, in_one_line
from agentkit.langchain.tools import READ_ONLY, SIDE_EFFECTS, as_langchain
from agentkit.toolbox.registry import find_tool

ACTING = frozenset(
    "awslambda graphql requests_delete requests_patch requests_post requests_put terminal twilio".split()
)  # these change something out there
READING = re.compile(  # these look something up; of the others it is not said
    "arxiv|golden-query|human|merriam-webster|open-meteo-api|openweathermap-api|pubmed|sleep|stackexchange|wikipedia"
    "|wolfram-alpha|(?:news|podcast|tmdb)-api|google-.*|reddit_search|search(?:api|x).*|.*-search(?:-json)?"
)


def community_names() -> list[str]:
    """Names of the tools, less those that run any command or request.

    Raises `ConfigurationError` where the package is missing or does not import.
    """
    try:
        with _quiet():
            from langchain_community.agent_toolkits import load_tools as home
    except ImportError as error:
        raise ConfigurationError(import_failure(error, "langchain-community")) from error
    return sorted({*home.get_all_tool_names()} - {*home.DANGEROUS_TOOLS, "requests", "llm-math", "serpapi"})


def load_tools(names: Sequence[str], llm: Any = None) -> list[BaseTool]:
    """Tools for an executor. Knows LangChain's names `serpapi` and `llm-math` too, and those of langchain-community.

    `llm` is for those of the last that ask a model themselves.
    """
    return [as_langchain(find_tool(name, partial(community_tool, llm=llm))) for name in names]


def community_tool(name: str, llm: Any = None) -> Any:
    """One of langchain-community's; raises `LookupError` for a strange name, else `ConfigurationError`."""
    try:
        names = community_names()
    except ConfigurationError as error:
        raise LookupError(str(error)) from error
    if name not in names:
        raise LookupError("`agentkit tools` lists those of langchain-community")
    try:
        with _quiet():
            from langchain_community.agent_toolkits.load_tools import load_tools

            (tool,) = load_tools([name], llm=llm)
    except Exception as error:  # each tool fails in its own way: a missing package, key or model
        reason = in_one_line(str(error).replace("`", ""), 300)
        raise ConfigurationError(f"Tool {name!r} of langchain-community could not be made: {reason}") from error
    if name in ACTING:
        tool.tags = [*(tool.tags or ()), SIDE_EFFECTS]
    elif READING.fullmatch(name):
        tool.tags = [*(tool.tags or ()), READ_ONLY[0]]
    return tool


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the notice that the package is being sunset: who names one of its tools has chosen it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
