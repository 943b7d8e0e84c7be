"""Prompts as LangChain's templates, those of LangSmith's hub too.

`hwchase17/react-json` is answered with our wording and without the network.
"""

from __future__ import annotations

from langchain_core.prompts import ChatPromptTemplate

from agentkit.errors import ConfigurationError
from agentkit.langchain.prompt import as_template, from_template
from agentkit.react_json.prompt import BUNDLED, DEFAULT_PROMPT, Prompt, read_prompt


def load_prompt(name: str = DEFAULT_PROMPT) -> ChatPromptTemplate:
    """A prompt by name, file or `hub:OWNER/NAME`, as LangChain's template."""
    return as_template(read_prompt(name, pull=read))


def pull(owner_repo: str) -> ChatPromptTemplate:
    """A prompt as LangChain's template, as `langchain.hub.pull` gives it."""
    return as_template(read(owner_repo))


def read(owner_repo: str) -> Prompt:
    """A prompt as a `Prompt`; raises `ConfigurationError` when the hub has none, or none that can be used."""
    if owner_repo in BUNDLED:
        return read_prompt(f"hub:{owner_repo}")
    from langsmith import Client

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
