"""LangChain's own test suites for chat models, on a tiny random model.

What a random model cannot be asked for is marked below, with the reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="LangChain's standard tests are not installed")

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from agentkit.models import ChatHuggingFace, HuggingFacePipeline

_LOADED: dict[str, HuggingFacePipeline] = {}


@pytest.fixture(autouse=True, scope="module")
def _in_the_models_folder(model_folder: Path) -> Any:
    """A relative name, so that the serialised form is the same everywhere."""
    here = Path.cwd()
    os.chdir(model_folder.parent)
    _LOADED["llm"] = HuggingFacePipeline.from_model_id(f"./{model_folder.name}", pipeline_kwargs={"max_new_tokens": 60})
    yield
    os.chdir(here)


class _TinyModel:
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _LOADED["llm"]}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 300, "stop": []}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True


_ALLOWED = "langchain_core.load allows other packages' classes by name only, not with allowed_objects='all'"
_INPUT = "a random model calls the tool as it should, but not with the number 3"
_RANDOM = "with tool_choice left to the model, a random model calls nothing; the grammar only makes calls well-formed"


class TestUnit(_TinyModel, ChatModelUnitTests):
    @pytest.mark.xfail(reason=_ALLOWED, strict=True)
    def test_serdes(self, *args: Any, **kwargs: Any) -> None:
        super().test_serdes(*args, **kwargs)


class TestIntegration(_TinyModel, ChatModelIntegrationTests):
    @pytest.mark.xfail(reason=_RANDOM, strict=True)
    def test_agent_loop(self, *args: Any, **kwargs: Any) -> None:
        super().test_agent_loop(*args, **kwargs)

    @pytest.mark.xfail(reason=_INPUT, strict=True)
    def test_tool_calling(self, *args: Any, **kwargs: Any) -> None:
        super().test_tool_calling(*args, **kwargs)

    @pytest.mark.xfail(reason=_INPUT, strict=True)
    async def test_tool_calling_async(self, *args: Any, **kwargs: Any) -> None:
        await super().test_tool_calling_async(*args, **kwargs)

    @pytest.mark.xfail(reason="a random model does not repeat the characters it was given", strict=True)
    def test_unicode_tool_call_integration(self, *args: Any, **kwargs: Any) -> None:
        super().test_unicode_tool_call_integration(*args, **kwargs)


@pytest.mark.filterwarnings("ignore:.*in beta")
def test_a_model_is_saved_and_loaded_by_name() -> None:
    from langchain_core.load import dumps, loads

    model = ChatHuggingFace(llm=_LOADED["llm"], temperature=0.5)
    again = loads(dumps(model), valid_namespaces=["agentkit"], allowed_objects=[ChatHuggingFace, HuggingFacePipeline])
    assert again.asdict() == model.asdict()
    assert again.invoke("Hello", seed=1).content == model.invoke("Hello", seed=1).content
