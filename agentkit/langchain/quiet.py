"""What LangChain's models, tools and chains do, less the callbacks, for runs that nobody watches.

A run tree costs about 0.15 ms a model call, 0.25 ms a tool call and 1.5 ms a chain of four (langchain-core 1.7). Each
function here gives a shortcut that does the rest, or `None` where more hangs on the long way than callbacks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBinding, coerce_to_runnable
from langchain_core.runnables.passthrough import RunnableAssign
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SingleInputTool
from pydantic import BaseModel

Call = Callable[[Any], Any]


def quiet_model(model: BaseChatModel) -> Callable[..., BaseMessage] | None:
    """`(messages, **options) -> message`, without cache, rate limit or run tree."""
    kind = type(model)
    overridden = kind.invoke is not BaseChatModel.invoke or kind.generate is not BaseChatModel.generate
    cached = model.cache is not False and (model.cache is not None or get_llm_cache() is not None)
    if overridden or cached or model.rate_limiter or model.callbacks or model.verbose or model.custom_get_token_ids:
        return None
    if getattr(model, "streaming", False) or model.output_version == "v1":
        return None

    def call(messages: list[BaseMessage], **options: Any) -> BaseMessage:
        (generation,) = model._generate(messages, **options).generations
        message = generation.message
        if generation.generation_info:
            message.response_metadata = {**generation.generation_info, **message.response_metadata}
        return message

    return call


def quiet_tool(tool: BaseTool) -> Call | None:
    """`tool_input -> observation`: the tool's function behind its own validation."""
    if not isinstance(tool, SingleInputTool | StructuredTool) or type(tool)._run not in (
        SingleInputTool._run,
        StructuredTool._run,
    ):
        return None
    if tool.func is None or tool.callbacks or tool.verbose or tool.response_format != "content":
        return None
    if tool.handle_tool_error or tool.handle_validation_error or _wants_more_than_input(tool):
        return None
    function, validated = tool.func, _validation(tool)

    def call(tool_input: Any) -> Any:
        if validated is not None and isinstance(tool_input, dict):
            return function(**validated(tool_input))
        args, kwargs = tool._to_args_and_kwargs(tool_input, None)
        return function(*args, **kwargs)

    return call


def _validation(tool: SingleInputTool | StructuredTool) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
    """`BaseTool._parse_input` for a plain pydantic class; what LangChain looks up at every call is looked up once."""
    schema, kind = tool.args_schema, type(tool)
    own_way = (kind._parse_input, kind._to_args_and_kwargs) != (BaseTool._parse_input, BaseTool._to_args_and_kwargs)
    if own_way or not isinstance(schema, type) or not issubclass(schema, BaseModel):
        return None
    fields = schema.model_fields
    injected = fields.keys() != getattr(tool.tool_call_schema, "model_fields", {}).keys()
    variadic = {"args", "kwargs"} & fields.keys()
    renamed = any(field.alias or field.validation_alias for field in fields.values())
    if injected or variadic or renamed or schema.model_config.get("extra") == "allow":
        return None
    has_default = frozenset(name for name, field in fields.items() if not field.is_required())

    def validated(given: dict[str, Any]) -> dict[str, Any]:
        values = schema.model_validate(given)
        return {name: getattr(values, name) for name in fields if name in given or name in has_default}

    return validated


def _wants_more_than_input(tool: SingleInputTool | StructuredTool) -> bool:
    assert tool.func is not None
    parameters = inspect.signature(tool.func).parameters.values()
    named = any(p.name in ("callbacks", "config", "run_manager") for p in parameters)
    injected = any("RunnableConfig" in str(p.annotation) for p in parameters)
    return named or injected or bool(tool._injected_args_keys)


def quiet_chain(runnable: Runnable[Any, Any]) -> Call | None:
    """`input -> output` of a chain of lambdas, dicts, prompts, models and parsers, as people write agents."""
    match runnable:
        case RunnableSequence():
            return _composed([quiet_chain(step) or step.invoke for step in runnable.steps])
        case RunnableParallel():
            return _as_dict({key: quiet_chain(step) or step.invoke for key, step in runnable.steps__.items()})
        case RunnableAssign():
            mapper = _as_dict({key: quiet_chain(step) or step.invoke for key, step in runnable.mapper.steps__.items()})
            return lambda value: {**value, **mapper(value)}
        case RunnableLambda() if _is_plain_function(runnable):
            return _lambda(runnable.func)
        case RunnableBinding(bound=BaseChatModel() as model) if not runnable.config and not runnable.config_factories:
            return _model(model, runnable.kwargs)
        case BaseChatModel():
            return _model(runnable, {})
        case BasePromptTemplate():
            return lambda values: runnable.format_prompt(**values)
        case BaseOutputParser() if type(runnable).invoke is BaseOutputParser.invoke:
            return _parser(runnable)
    return None


def _composed(calls: list[Call]) -> Call:
    def call(value: Any) -> Any:
        for step in calls:
            value = step(value)
        return value

    return call


def _as_dict(calls: Mapping[str, Call]) -> Call:
    return lambda value: {key: step(value) for key, step in calls.items()}


def _is_plain_function(runnable: RunnableLambda[Any, Any]) -> bool:
    function = getattr(runnable, "func", None)
    if function is None or inspect.isgeneratorfunction(function):
        return False
    try:
        return len(inspect.signature(function).parameters) == 1
    except ValueError:  # builtins without a signature
        return False


def _lambda(function: Call) -> Call:
    def call(value: Any) -> Any:
        output = function(value)
        return coerce_to_runnable(output).invoke(value) if isinstance(output, Runnable) else output

    return call


def _model(model: BaseChatModel, options: Mapping[str, Any]) -> Call | None:
    quiet = quiet_model(model)
    if quiet is None:
        return None
    return lambda value: quiet(model._convert_input(value).to_messages(), **options)


def _parser(parser: BaseOutputParser[Any]) -> Call:
    def call(value: Any) -> Any:
        if isinstance(value, BaseMessage):
            return parser.parse_result([ChatGeneration(message=value)])
        return parser.parse_result([Generation(text=value)])

    return call
