"""The built-in model's tokenizer, and whether a grammar allows a text."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentkit.events import Action, Step
from agentkit.models.builtin import builtin_folder
from agentkit.tool import Tool

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]  # the model is computed with it

TOOLS = tuple(Tool(name=name, description="", run=str) for name in ("Search", "Calculator"))


def steps_of(*observations: str) -> list[Step]:
    """Steps that gave these observations: those of a calculator, which say so, and of a search."""
    tools = ("Calculator" if text.startswith("Answer:") else "Search" for text in observations)
    return [Step(Action(tool, ""), text) for tool, text in zip(tools, observations, strict=True)]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(builtin_folder())


@pytest.fixture(scope="session")
def matcher(tokenizer: Any) -> Callable[[str], Any]:
    """Make an llguidance matcher of a grammar."""
    import llguidance.hf
    from llguidance import LLMatcher

    vocabulary = llguidance.hf.from_tokenizer(tokenizer, eos_token=tokenizer.eos_token_id)

    def make(grammar: str) -> Any:
        made = LLMatcher(vocabulary, LLMatcher.grammar_from_lark(grammar), log_level=0)
        assert not made.is_error(), made.get_error()
        return made

    return make


@pytest.fixture(scope="session")
def accepts(matcher: Callable[[str], Any], tokenizer: Any) -> Callable[[str, str], bool]:
    """Whether a grammar allows a whole text."""

    def check(grammar: str, text: str) -> bool:
        made = matcher(grammar)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return made.validate_tokens(ids) == len(ids) and made.consume_tokens(ids) and made.is_accepting()

    return check


@pytest.fixture(scope="session")
def heldout() -> list[dict[str, Any]]:
    from small_model.quiz import load_questions

    return load_questions(Path(__file__).parent / "heldout.jsonl")
