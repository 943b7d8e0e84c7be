"""LangChain's own test suites for chat models, on a tiny random model and on the built-in one.

What these models cannot be asked for is marked below, with the reason. Skipped by the suites themselves: inputs of
images, sound and documents, which they fetch from the web (test_media.py has them), and another model's name at a call,
for a model in this process is the one that was loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="LangChain's standard tests are not installed")

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps, loads
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from agentkit.models import ChatHuggingFace, HuggingFacePipeline, chat_model

_LOADED: dict[str, HuggingFacePipeline] = {}


@pytest.fixture(autouse=True, scope="module")
def _loaded(model_folder: Path) -> Iterator[None]:
    """Both models; the random one by a relative name, so that its serialised form is the same everywhere."""
    here = Path.cwd()
    os.chdir(model_folder.parent)
    _LOADED["random"] = HuggingFacePipeline.from_model_id(
        f"./{model_folder.name}", pipeline_kwargs={"max_new_tokens": 60}
    )
    _LOADED["builtin"] = chat_model("builtin").llm  # type: ignore[attr-defined]
    yield
    os.chdir(here)


class _Local:
    name: str

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _LOADED[self.name]}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 300, "stop": []}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True


def _cannot(reason: str) -> Any:
    return pytest.mark.xfail(reason=reason, strict=True)


class _Random(_Local):
    name = "random"


class _Builtin(_Local):
    name = "builtin"


class _Unit(ChatModelUnitTests):
    @_cannot("langchain_core.load allows other packages' classes by name only, not with allowed_objects='all'")
    def test_serdes(self, *args: Any, **kwargs: Any) -> None:
        super().test_serdes(*args, **kwargs)


class _Integration(ChatModelIntegrationTests):
    """The grammar makes every call a well-formed one; what stands in it is up to the model."""

    @_cannot("with tool_choice left to it, a model trained on no tool calls makes none")
    def test_agent_loop(self, *args: Any, **kwargs: Any) -> None:
        super().test_agent_loop(*args, **kwargs)

    @_cannot("a model trained on no tool calls calls the tool, but not with the number 3")
    def test_tool_calling(self, *args: Any, **kwargs: Any) -> None:
        super().test_tool_calling(*args, **kwargs)

    @_cannot("a model trained on no tool calls calls the tool, but not with the number 3")
    async def test_tool_calling_async(self, *args: Any, **kwargs: Any) -> None:
        await super().test_tool_calling_async(*args, **kwargs)

    @_cannot("a model trained on no tool calls does not repeat the Chinese name it was given")
    def test_unicode_tool_call_integration(self, *args: Any, **kwargs: Any) -> None:
        super().test_unicode_tool_call_integration(*args, **kwargs)


class TestRandomUnit(_Random, _Unit):
    pass


@pytest.mark.slow
class TestRandomIntegration(_Random, _Integration):
    pass


class TestBuiltinUnit(_Builtin, _Unit):
    pass


@pytest.mark.slow
class TestBuiltinIntegration(_Builtin, _Integration):
    pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*in beta")
@pytest.mark.parametrize("name", ["random", "builtin"])
def test_a_model_is_saved_and_loaded_by_name(name: str) -> None:
    model = ChatHuggingFace(llm=_LOADED[name], temperature=0.5, constrain="copy")
    again = loads(dumps(model), valid_namespaces=["agentkit"], allowed_objects=[ChatHuggingFace, HuggingFacePipeline])
    assert again.asdict() == model.asdict()
    assert again.invoke("Hello", seed=1).content == model.invoke("Hello", seed=1).content
