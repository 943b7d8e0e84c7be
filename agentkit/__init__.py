"""ReAct agents on open chat models: the format never breaks, and the same run replays without a key or a network."""

from importlib import import_module

__version__ = "0.1.0"

# What `python -m agentkit` imports here, the current folder may have: nothing but what Python has loaded by then.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agentkit.cassette import Cassette as Cassette
    from agentkit.errors import Ask as Ask
    from agentkit.langchain.community import load_tools as load_tools
    from agentkit.langchain.executor import AgentExecutor as AgentExecutor
    from agentkit.langchain.hub import load_prompt as load_prompt
    from agentkit.langchain.output_parser import ReActJsonSingleInputOutputParser as ReActJsonSingleInputOutputParser
    from agentkit.langchain.prompt import render_text_description as render_text_description
    from agentkit.langchain.react_agent import create_react_json_agent as create_react_json_agent
    from agentkit.langchain.steps import format_log_to_messages as format_log_to_messages
    from agentkit.models import chat_model as chat_model
    from agentkit.react_json.scratchpad import format_log_to_str as format_log_to_str
    from agentkit.sessions.session import Session as Session
    from agentkit.sessions.store import Store as Store

_HOME = {
    "AgentExecutor": "agentkit.langchain.executor",
    "Ask": "agentkit.errors",
    "Cassette": "agentkit.cassette",
    "ReActJsonSingleInputOutputParser": "agentkit.langchain.output_parser",
    "Session": "agentkit.sessions.session",
    "Store": "agentkit.sessions.store",
    "chat_model": "agentkit.models",
    "create_react_json_agent": "agentkit.langchain.react_agent",
    "format_log_to_messages": "agentkit.langchain.steps",
    "format_log_to_str": "agentkit.react_json.scratchpad",
    "hub": "agentkit.langchain",
    "load_prompt": "agentkit.langchain.hub",
    "load_tools": "agentkit.langchain.community",
    "render_text_description": "agentkit.langchain.prompt",
}

__all__ = sorted(_HOME.keys() - {"hub"})


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        raise AttributeError(f"module 'agentkit' has no attribute {name!r}")
    home = import_module(_HOME[name])
    return getattr(home, name, None) or import_module(f"{home.__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
