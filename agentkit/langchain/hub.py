"""Prompts as LangChain's templates, those of LangSmith's hub too.

`hwchase17/react-json` is answered with our wording and without the network.
"""

from __future__ import annotations

from typing import Any

from langchain_core.prompts import BasePromptTemplate

from agentkit.errors import ConfigurationError, described
from agentkit.langchain.prompt import as_template, from_template
from agentkit.react_json.prompt import BUNDLED, DEFAULT_PROMPT, Prompt, read_prompt


def load_prompt(name: str = DEFAULT_PROMPT) -> BasePromptTemplate[Any]:
    """A prompt by name, file or `hub:OWNER/NAME`, as LangChain's template."""
    if name.startswith("hub:"):
        return pull(name.removeprefix("hub:"))
    return as_template(read_prompt(name))


def pull(owner_repo: str) -> BasePromptTemplate[Any]:
    """A prompt as LangChain's template, as `langchain.hub.pull` gives it."""
    if owner_repo in BUNDLED:
        return as_template(read_prompt(f"hub:{owner_repo}"))
    from langsmith import Client

    try:
        # Without the thread that sends traces: it writes to the log where there is no network.
        template = Client(auto_batch_tracing=False).pull_prompt(owner_repo)
    except Exception as error:
        raise ConfigurationError(
            f"prompt hub:{owner_repo} could not be pulled ({type(error).__name__}); "
            "check the name and the network, or give a file"
        ) from error
    if not isinstance(template, BasePromptTemplate):
        raise ConfigurationError(f"hub:{owner_repo} is no prompt but {described(template)}; give a file")
    return template


def read(owner_repo: str) -> Prompt:
    """A prompt as a `Prompt`; raises `ConfigurationError` when the hub has none, or none that a file can hold."""
    prompt = from_template(pull(owner_repo))
    if prompt is None:
        raise ConfigurationError(
            f"prompt hub:{owner_repo}: expected f-string messages, saw a richer template; "
            "create_react_json_agent and AgentExecutor.from_model take it"
        )
    return prompt
