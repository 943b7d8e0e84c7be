"""Prompts from LangSmith's hub. `hwchase17/react-json` is answered here, with our wording and without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.prompts import ChatPromptTemplate

    from agentkit.react_json.prompt import Prompt


def pull(owner_repo: str) -> ChatPromptTemplate:
    """A prompt as LangChain's template, as `langchain.hub.pull` gives it."""
    from agentkit.langchain.prompt import as_template

    return as_template(read(owner_repo))


def read(owner_repo: str) -> Prompt:
    """A prompt as a `Prompt`; raises `ConfigurationError` when the hub has none, or none that can be used."""
    from agentkit.react_json.prompt import BUNDLED, read_prompt

    if owner_repo in BUNDLED:
        return read_prompt(f"hub:{owner_repo}")
    from langsmith import Client

    from agentkit.langchain.prompt import from_template

    try:
        template = Client().pull_prompt(owner_repo)
    except Exception as error:
        raise ConfigurationError(
            f"prompt hub:{owner_repo} could not be pulled ({type(error).__name__}); "
            "check the name and the network, or give a file"
        ) from error
    prompt = from_template(template)
    if prompt is None:
        raise ConfigurationError(f"prompt hub:{owner_repo}: expected f-string messages, saw a richer template")
    return prompt
