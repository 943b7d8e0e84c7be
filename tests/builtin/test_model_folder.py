"""The shipped folder: small, loadable like any other, with a card whose numbers are those of the evaluation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.models.builtin import builtin_folder
from agentkit.models.builtin.copying import NO_TOOLS, OUT_OF_REACH, UNREADABLE
from agentkit.tools.calculator import calculate
from small_model.card import model_card
from small_model.chat import CHAT_TEMPLATE, SKELETONS

TURN = 'Thought: I need to look up x\nAction:\n```json\n{"action": "Search", "action_input": "x"}\n```'


def test_the_folder_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in builtin_folder().iterdir()}
    expected = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert expected | {
        "chat_template.jinja",
        "generation_config.json",
        "evaluation_fresh.json",
        "learning_curve.svg",
        "log.csv",
    } <= set(files)
    assert sum(files.values()) <= 12_000_000


def test_the_card_has_the_numbers_of_the_evaluation() -> None:
    assert (builtin_folder() / "README.md").read_text(encoding="utf-8") == model_card()


def test_the_chat_template_is_the_one_in_the_code(tokenizer: Any) -> None:
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_both_scratchpad_styles_give_one_text(tokenizer: Any) -> None:
    system, question = {"role": "system", "content": "Use tools."}, {"role": "user", "content": "Who?"}
    turns = [{"role": "assistant", "content": TURN}, {"role": "user", "content": "Observation: me"}]
    apart = tokenizer.apply_chat_template([system, question, *turns], tokenize=False, add_generation_prompt=True)
    scratchpad = f"Who?\n\n{TURN}\nObservation: me\nThought: "
    inside = tokenizer.apply_chat_template([system, {"role": "user", "content": scratchpad}], tokenize=False)
    assert apart == f"<s><|user|>\nWho?\n<|assistant|>\n{TURN}\nObservation: me\n"
    assert inside == f"{apart}Thought:"


def test_a_second_question_begins_a_new_part(tokenizer: Any) -> None:
    chat = [("user", "One?"), ("assistant", "Thought: x\nFinal Answer: 1"), ("user", "Two?")]
    text = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in chat], tokenize=False)
    assert text.endswith("Final Answer: 1<|end|>\n<|user|>\nTwo?\n<|assistant|>\n")


@pytest.mark.parametrize(
    "text", ["a  b\n\n c", "naïve Łódź 東京 😀", "1,234.50 €", '{"a": "b"}', "\t\r\n", "O’Neill's"]
)
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@pytest.mark.parametrize("word", ["Vittoria", "Ceretti", "Prejudice", "0.43", "3,412", "O'Brien", "Łódź"])
def test_a_word_has_the_same_tokens_everywhere(tokenizer: Any, word: str) -> None:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    alone = ids(word)
    for before, after in (
        ("who is ", "?"),
        ('"action_input": "', '"}'),
        (" I need to look up ", "\n"),
        ("(", ")"),
        ("\n", ", x"),
    ):
        assert ids(before + word + after) == ids(before) + alone + ids(after)


def test_skeletons_are_single_tokens(tokenizer: Any) -> None:
    assert all(len(tokenizer(text, add_special_tokens=False).input_ids) == 1 for text in SKELETONS)


def test_it_loads_as_a_plain_llama_in_float32() -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    model = AutoModelForCausalLM.from_pretrained(builtin_folder())
    assert type(model) is LlamaForCausalLM
    assert model.dtype == torch.float32
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 6e6


def test_the_evaluation_keeps_its_counts(heldout: list[dict[str, Any]]) -> None:
    measured = json.loads((builtin_folder() / "evaluation.json").read_text(encoding="utf-8"))
    for way in ("copy", "off"):
        assert sum(count for _, count in measured[way]["right"].values()) == len(heldout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "output"),
    [
        ("🙂🙂 ما هو 2+2؟", UNREADABLE),
        ("What is\x1b[31m 2+2\x07?", UNREADABLE),
        ("שלום", UNREADABLE),
        ("x" * 900, UNREADABLE),
        ("foo 12 bar 7 baz", UNREADABLE),
        ("What is ٢+٢?", UNREADABLE),
        ("Calculate 3,5 * 2", OUT_OF_REACH),
    ],
)
def test_what_it_cannot_read_is_declined(built_in: Any, question: str, output: str) -> None:
    result = AgentExecutor.from_model(built_in, ["calculator"], return_run=True).invoke(question)
    assert (result["output"], result["run"]["stop_reason"]) == (output, "declined")


def look_up(text: str) -> str:
    """Find facts about anything."""
    return "The capital of Osterland is Braska." if "Osterland" in text else "No good search result found"


def web(q: str, limit: int = 5) -> str:
    """Search the web."""
    return look_up(q)


def evaluate(formula: str) -> str:
    """Evaluate a formula."""
    return str(calculate(formula)).removeprefix("Answer: ")


def weather(city: str) -> str:
    """The weather of a city."""
    raise AssertionError("it is not to be called")


@pytest.mark.slow
@pytest.mark.parametrize("search", [look_up, web])
def test_it_uses_tools_of_other_names_and_signatures(built_in: Any, search: Any) -> None:
    executor = AgentExecutor.from_model(built_in, [weather, search, evaluate])
    assert executor.invoke("What is the capital of Osterland?")["output"] == "Braska"
    assert executor.invoke("What is 12 times 12?")["output"] == "144"


@pytest.mark.slow
def test_without_a_tool_it_can_use_it_declines(built_in: Any) -> None:
    result = AgentExecutor.from_model(built_in, [weather], return_run=True).invoke("What is the weather in Paris?")
    assert (result["output"], result["run"]["stop_reason"]) == (NO_TOOLS, "declined")


@pytest.fixture(scope="module")
def built_in() -> Any:
    return chat_model("builtin")
