"""Replies as values: a JSON schema for the model, the reader of what it wrote, and for servers that may not enforce
the schema a second try with the error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.messages.ai import add_usage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.function_calling import convert_to_json_schema

from agentkit.errors import in_one_line
from agentkit.langchain.messages import reason_of
from agentkit.models.finish_reasons import is_cut_off

Schema = dict[str, Any] | type
Read = Callable[[AIMessage], Any]

_AGAIN = "That was not what I need: {problem}\nAnswer again with {what} and nothing else."


def response_format(schema: Schema) -> dict[str, Any]:
    """OpenAI's `response_format` for a pydantic class, a TypedDict or a JSON schema."""
    wanted = convert_to_json_schema(schema)
    return {"type": "json_schema", "json_schema": {"name": wanted.get("title", "answer"), "schema": wanted}}


def reader(schema: Schema | None, *, of_call: bool = False) -> Read:
    """Reads the value of `schema` (`None`: any) that a reply holds in its text, or in its first tool call.

    Raises `OutputParserException` for none, and for one that does not fit.
    """

    def read(message: AIMessage) -> Any:
        try:
            if of_call and message.tool_calls:
                return _fitting(schema, message.tool_calls[0]["args"])
            return _fitting(schema, _json_of(message))
        except OutputParserException as error:
            if not _is_cut_off(message):
                raise
            raise OutputParserException(_cut_off(message), llm_output=error.llm_output) from error

    return read


def _is_cut_off(message: AIMessage) -> bool:
    return is_cut_off(reason_of(message))


def _cut_off(message: AIMessage) -> str:
    if (reason := reason_of(message)) != "length":
        return f"The reply was broken off ({reason}), before its JSON was whole; ask otherwise"
    tokens = message.usage_metadata["output_tokens"] if message.usage_metadata else 0
    at = f"at {tokens} tokens" if tokens else "at its token limit"
    return f"The reply was cut off {at}, before its JSON was whole; allow it more (max_new_tokens, max_tokens)"


def _json_of(message: AIMessage) -> Any:
    text = str(message.text).strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OutputParserException(f"expected JSON, saw {text[:200]!r}: {error}", llm_output=text) from error


def _fitting(schema: Schema | None, value: Any) -> Any:
    validate = getattr(schema, "model_validate", None) or getattr(schema, "parse_obj", None)  # pydantic 2, or 1
    if isinstance(schema, type) and validate:
        try:
            return validate(value)
        except ValueError as error:
            problem = f"expected {schema.__name__}: {in_one_line(error, 300)}"
            raise OutputParserException(problem, llm_output=str(value)) from error
    if schema is not None:
        _check(value, convert_to_json_schema(schema))
    return value


def _check(value: Any, schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(schema).iter_errors(value))  # type: ignore[no-untyped-call]
    if error is not None:
        raise OutputParserException(f"expected JSON that fits the schema: {error.json_path} {error.message[:300]}")


class Repaired(Runnable[Any, AIMessage]):
    """`asked`, asked once more where `read` finds no value of `schema` in the reply; the last reply is what it gives.

    Tokens of both replies are counted.
    """

    def __init__(self, asked: Runnable[Any, AIMessage], read: Read, schema: Schema | None) -> None:
        self._asked = asked
        self._read = read
        self._schema = schema

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """The reply, or the second one."""
        reply = self._asked.invoke(input, config, **kwargs)
        again = self._question(input, reply)
        return reply if again is None else _both(reply, self._asked.invoke(again, config, **kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """The same, awaiting."""
        reply = await self._asked.ainvoke(input, config, **kwargs)
        again = self._question(input, reply)
        return reply if again is None else _both(reply, await self._asked.ainvoke(again, config, **kwargs))

    def _question(self, asked: Any, reply: AIMessage) -> list[BaseMessage] | None:
        """What is asked the second time; `None` where the reply is good, or was cut off: there is less room still."""
        try:
            self._read(reply)
        except OutputParserException as error:
            if _is_cut_off(reply):
                return None
            problem = str(error)
        else:
            return None
        what = "one JSON object"
        if self._schema is not None:
            what = f"JSON that fits this schema: {json.dumps(convert_to_json_schema(self._schema), ensure_ascii=False)}"
        first = AIMessage(str(reply.text) or "(nothing)")
        question = HumanMessage(_AGAIN.format(problem=problem, what=what))
        return [*_messages(asked), first, question]


def _messages(asked: Any) -> list[BaseMessage]:
    if isinstance(asked, PromptValue):
        return asked.to_messages()
    return [HumanMessage(asked)] if isinstance(asked, str) else convert_to_messages(asked)


def _both(first: AIMessage, second: AIMessage) -> AIMessage:
    """The second reply with the tokens of both."""
    if first.usage_metadata is None:
        return second
    return second.model_copy(update={"usage_metadata": add_usage(first.usage_metadata, second.usage_metadata)})
