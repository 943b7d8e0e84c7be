"""Tools between the two worlds: agentkit's `Tool` values as LangChain tools, and LangChain's as the loop's."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial, update_wrapper
from keyword import iskeyword
from typing import Any, get_type_hints

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import (
    BaseTool,
    BaseToolkit,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    ToolException,
)
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import tool as as_tool
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import ValidationError as ValidationErrorV1

from agentkit.errors import AgentkitError, ConfigurationError, ToolError, described, said
from agentkit.events import ToolInput
from agentkit.langchain.results import kept_results, plain, whole
from agentkit.tool import STRING, Arguments, Lines, Tool, Written, does_not_fit, lines_of, unknown
from agentkit.toolbox.calling import in_daemon_thread
from agentkit.toolbox.run_scope import call_id

DETERMINISTIC = "deterministic"  # in a LangChain tool's metadata: executed again when a cassette is replayed
IDEMPOTENT = "idempotent"  # in a LangChain tool's metadata: may be tried again
TIMEOUT_S = "timeout_s"  # in a LangChain tool's metadata: its own time limit
SIDE_EFFECTS = "side_effects"  # in a LangChain tool's tags: it changes something
HandleToolError = bool | str | Callable[[Exception], str] | None
"""What the model is told of a tool that raises: see `AgentExecutor`."""
READ_ONLY = ("read_only", "readOnlyHint")  # in its tags, or true in its metadata, as of MCP's adapters: it does not


def as_langchain(tool: Any) -> BaseTool:
    """A LangChain tool of one of ours, a typed function, or a LangChain tool (as it is)."""
    if isinstance(tool, BaseTool):
        return tool
    if isinstance(tool, Tool):
        return _of_ours(tool)
    if callable(tool) and not isinstance(tool, type | Runnable):
        return _of_function(tool)
    if isinstance(tool, Runnable):
        advice = "its as_tool(name=…, description=…) makes one"
    elif isinstance(tool, Mapping):
        advice = "a schema alone runs nothing; give the function, or StructuredTool.from_function(…, args_schema=…)"
    elif isinstance(tool, str):
        advice = f"load_tools([{tool!r}]) gives tools by their names"
    elif isinstance(tool, type):
        advice = f"make one: {tool.__name__}(…)"
    else:
        advice = "see `agentkit.load_tools`"
    raise ConfigurationError(f"expected a tool or a typed function, saw {described(tool)}; {advice}")


def listed(tools: Any, what: str = "tools") -> list[Any]:
    """What an option that is a list was given, with a toolkit's tools; raises `ConfigurationError` for what is none."""
    if isinstance(tools, BaseToolkit):
        return list(tools.get_tools())
    if isinstance(tools, Iterable) and not isinstance(tools, str | bytes | Mapping | BaseTool | type):
        each = ((one.get_tools() if isinstance(one, BaseToolkit) else [one]) for one in tools)
        return [tool for some in each for tool in some]
    example = repr(tools) if isinstance(tools, str) else getattr(tools, "__name__", "…")
    advice = "[] is none" if tools is None else f"write {what}=[{example}]"
    raise ConfigurationError(f"{what}: expected a list, saw {described(tools)}; {advice}")


def _of_ours(tool: Tool) -> BaseTool:
    def run(tool_input: Any) -> Any:
        return plain(tool.call(tool_input))

    async def arun(tool_input: Any) -> Any:
        return plain(await tool.acall(tool_input))

    vars(run)["__signature__"] = _signature(tool)
    said = {DETERMINISTIC: tool.deterministic, IDEMPOTENT: tool.idempotent, TIMEOUT_S: tool.timeout_s}
    return _SingleInput(
        ours=tool,
        name=tool.name,
        description=tool.description,
        func=run,
        coroutine=arun if tool.arun is not None else None,
        args_schema=None if tool.takes_one_string else dict(tool.schema),
        return_direct=tool.return_direct,
        metadata={name: value for name, value in said.items() if value},
        tags={True: [SIDE_EFFECTS], False: [READ_ONLY[0]], None: None}[tool.side_effects],
    )


def _signature(tool: Tool) -> inspect.Signature:
    """What LangChain's descriptions show of a tool."""
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    fields = {"tool_input": tool.schema} if tool.takes_one_string else tool.schema.get("properties", {})
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY if len(fields) > 1 else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=kinds.get(str(field.get("type")), Any),
            default=field.get("default", inspect.Parameter.empty),
        )
        for name, one in fields.items()
        if name.isidentifier() and not iskeyword(name)
        for field in [one if isinstance(one, Mapping) else {}]  # True: whatever it is
    ]
    return inspect.Signature(parameters, return_annotation=str)


def _of_function(function: Callable[..., Any]) -> BaseTool:
    """A typed function as a tool: its docstring describes it and, in Google's form, its arguments."""
    function = _plain(function)
    name = function.__name__
    try:
        if not name.isidentifier():
            raise ValueError("it has no name")
        description = None if inspect.getdoc(function) else f"{name}{inspect.signature(function)}"
        decorate = partial(as_tool, name, description=description)
        try:
            made: BaseTool = decorate(parse_docstring=True, error_on_invalid_docstring=False)(function)
        except ValueError:  # its docstring describes an argument that is bound
            made = decorate()(function)
        schema_of(made)
    except (TypeError, ValueError, NameError, AttributeError, PydanticUserError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"expected a function with typed arguments as a tool, saw {name!r} ({reason}); name and annotate it"
        ) from error
    return made


def _plain(function: Any) -> Callable[..., Any]:
    """A function that shows what a model may give: nothing that is bound by a partial one; of an object, its call."""
    if inspect.isroutine(function):
        return function
    inner = function
    bound: dict[str, Any] = {}
    while isinstance(inner, partial):
        bound = {**inner.keywords, **bound}
        inner = inner.func
    called = inner if inspect.isroutine(inner) else type(inner).__call__

    def plain(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**kwargs, **bound})

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **{**kwargs, **bound})

    wrapper: Any = awaited if inspect.iscoroutinefunction(called) else plain
    wrapper.__name__ = getattr(inner, "__name__", type(inner).__name__)
    wrapper.__doc__ = called.__doc__ or (None if called is inner else type(inner).__doc__)
    wrapper.bound = tuple(bound)
    hints = _hints(called)
    with suppress(TypeError, ValueError):
        signature = inspect.signature(function)
        shown = [
            one.replace(annotation=hints.get(name, one.annotation))
            for name, one in signature.parameters.items()
            if name not in bound
        ]
        wrapper.__signature__ = signature.replace(parameters=shown)
        wrapper.__annotations__ = {one.name: one.annotation for one in shown if one.annotation is not one.empty}
    named: Callable[..., Any] = wrapper
    return named


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _spread(function: Callable[..., Any], names: Iterable[str]) -> Callable[..., Any]:
    """The function for LangChain, which gives all by name: its `*args` and `**kwargs`, too, if they are in `names`."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one written in C
        return function
    parameters = signature.parameters
    variadic = [name for name, one in parameters.items() if one.kind in _VARIADIC and name in names]
    if not variadic and not any(one.kind is one.POSITIONAL_ONLY for one in parameters.values()):
        return function
    own = {*parameters, *getattr(function, "bound", ())} - set(variadic)

    def spread(*args: Any, **kwargs: Any) -> Any:
        if args:
            return function(*args, **kwargs)
        given = {name: kwargs.get(name) or () for name in variadic}
        if taken := [key for value in given.values() if isinstance(value, Mapping) for key in value if key in own]:
            raise ToolException(f"{', '.join(taken)} cannot be given among {', '.join(variadic)}")
        bound = signature.bind_partial()
        for name in parameters:
            if given.get(name):
                bound.arguments[name] = given[name]
            elif name in kwargs and name not in given:
                bound.arguments[name] = kwargs[name]
        bound.apply_defaults()
        return function(*bound.args, **bound.kwargs)

    return update_wrapper(spread, function)


class _SingleInput(SingleInputTool):
    """One of our tools, `ours`, which is given the input as it is: our tools mend and refuse it themselves."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    ours: Tool = Field(exclude=True, repr=False)

    def _to_args_and_kwargs(self, tool_input: Any, tool_call_id: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(tool_input, dict) and list(tool_input) in (["__arg1"], ["tool_input"]):
            (tool_input,) = tool_input.values()
        return (tool_input,), {}


def from_langchain(
    tool: BaseTool,
    *,
    config: RunnableConfig | None = None,
    verbose: bool = False,
    color: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    handle: HandleToolError = None,
    shown: Counter[str] | None = None,
) -> Tool:
    """A LangChain tool as the loop runs it, by its public methods.

    `inputs` are the run's, from which arguments come that the model must not set; `handle` as in `AgentExecutor`;
    `shown` counts the results that callbacks were told of.
    Without `config` nobody watches, and one that was made of ours is that again.
    """
    is_watched = config is not None or verbose or tool.callbacks or tool.verbose
    if isinstance(tool, _SingleInput) and not is_watched and handle is None:
        return tool.ours
    metadata = tool.metadata or {}
    running = _Running(tool, config or RunnableConfig(), verbose, color, inputs or {}, handle, shown)
    return Tool(
        name=tool.name,
        description=tool.description,
        run=running.run,
        arun=running.arun if _has_coroutine(tool) else None,
        schema=running.schema,
        return_direct=tool.return_direct,
        deterministic=bool(metadata.get(DETERMINISTIC)),
        idempotent=bool(metadata.get(IDEMPOTENT)),
        side_effects=_side_effects(tool),
        timeout_s=metadata.get(TIMEOUT_S),
        parse=running.parse if running.reads else None,
    )


@dataclass
class _Running:
    """A LangChain tool in one run. What is asked about it is found out when it is called."""

    tool: BaseTool
    config: RunnableConfig
    verbose: bool
    color: str | None
    inputs: Mapping[str, Any]
    handle: HandleToolError
    shown: Counter[str] | None

    def run(self, tool_input: Any) -> Any:
        (tool, given), options = self._ready(tool_input), self._options()
        with _errors_told(tool, self.handle), kept_results() as results:
            if _is_only_async(tool):
                value = in_daemon_thread(asyncio.run, tool.arun(given, **options)).result()
            else:
                try:
                    value = tool.run(given, **options)
                except NotImplementedError as error:
                    if not _declines(error, tool._run) or type(tool)._arun is BaseTool._arun:
                        raise
                    value = in_daemon_thread(asyncio.run, tool.arun(given, **options)).result()
            self._show()
            return whole(_read(value), results)

    async def arun(self, tool_input: Any) -> Any:
        (tool, given), options = self._ready(tool_input), self._options()
        with _errors_told(tool, self.handle), kept_results() as results:
            try:
                value = await tool.arun(given, **options)
            except NotImplementedError as error:
                if not _declines(error, tool._arun):
                    raise
                value = await asyncio.wrap_future(in_daemon_thread(partial(tool.run, given, **options)))
            self._show()
            return whole(await _aread(value), results)

    def _show(self) -> None:
        if self.shown is not None:
            self.shown[self.tool.name.strip().casefold()] += 1

    @property
    def reads(self) -> bool:
        """Whether the tool makes something else of what it is given."""
        if isinstance(self.tool, _SingleInput):
            return self.tool.ours.takes_one_string or self.tool.ours.parse is not None
        return not isinstance(self.tool.args_schema, dict)

    def parse(self, tool_input: ToolInput) -> ToolInput:
        """The arguments as the tool's function gets them, with those that the model leaves out."""
        if isinstance(self.tool, _SingleInput):
            return self.tool.ours.arguments(tool_input)
        given = self._filled(tool_input)
        if isinstance(given, str):
            return given
        with _errors_told(self.tool, self.handle):
            read = self._called._parse_input(given, call_id())
        if not isinstance(read, dict):
            return read
        arguments = Arguments({name: value for name, value in read.items() if name not in self._kept})
        arguments.hidden = {name: value for name, value in read.items() if name in self._kept}
        return arguments

    def _ready(self, tool_input: ToolInput) -> tuple[BaseTool, ToolInput]:
        """The tool, and what it is given: what was read already is not read again."""
        if isinstance(self.tool, _SingleInput) and isinstance(tool_input, Arguments):
            return self.tool, tool_input
        if not isinstance(tool_input, Arguments) or isinstance(self.tool.args_schema, dict):
            filled = self._filled(tool_input)
            if isinstance(tool_input, Written) and not isinstance(self.tool, _SingleInput):
                return _unread(self._called), _Text(tool_input.text, filled)
            return self._called, filled
        return _unread(self._called), {**tool_input.hidden, **tool_input}

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of what the model gives."""
        return schema_of(self.tool)

    @cached_property
    def _called(self) -> BaseTool:
        """The tool with functions that take `*args` and `**kwargs` as the schema has them: each by its own name."""
        if type(self.tool) is not StructuredTool:
            return self.tool
        functions = {"func": self.tool.func, "coroutine": self.tool.coroutine}
        names = self.schema.get("properties", ())
        spread = {key: _spread(one, names) for key, one in functions.items() if one is not None}
        changed = {key: one for key, one in spread.items() if one is not functions[key]}
        return self.tool.model_copy(update=changed) if changed else self.tool

    def _options(self) -> dict[str, Any]:
        """What a call is run with. Where there are callbacks, they hand tags and metadata down."""
        callbacks = self.config.get("callbacks")
        options: dict[str, Any] = {"verbose": self.verbose, "callbacks": callbacks, "color": self.color}
        options["config"] = self.config
        if callbacks is None:
            options |= {"tags": self.config.get("tags"), "metadata": self.config.get("metadata")}
        if self.tool.response_format == "content_and_artifact" or any(map(_takes_the_id, self._kept.values())):
            options["tool_call_id"] = call_id() or self.tool.name
        if self.tool.return_direct:
            options["llm_prefix"] = ""  # as LangChain has it for who prints
        return options

    # -- what is not for the model to give ---------------------------------------------------------------------------

    @cached_property
    def _kept(self) -> dict[str, inspect.Parameter]:
        """The arguments that the model is not shown, by their names."""
        if self.schema.get("type") == "string":
            return {}
        shown = {*self.schema.get("properties", ()), *_fields(_call_schema(self.tool))} - _hidden(self.tool)
        kept: dict[str, inspect.Parameter] = {}
        for one in _parameters(self.tool):
            if one.name in shown or one.kind in _VARIADIC:
                continue
            before = kept.setdefault(one.name, one)
            default = one.default if before.default is one.empty else before.default
            annotation = before.annotation if [*_marks(before.annotation)] else one.annotation
            kept[one.name] = before.replace(default=default, annotation=annotation)
        return kept

    def _check(self, tool_input: ToolInput) -> None:
        """Raise `ToolError` for what the model gives and must not."""
        # Without a schema of its own nothing else stands between the model and the tool's function.
        required = self.schema.get("required", ()) if self.tool.args_schema is None else ()
        if isinstance(tool_input, str):
            wrong = ["it is no object"] if self._kept or len(required) > 1 else []
        else:
            kept = {*_with_aliases(self.tool, self._kept), *self._own}
            wrong = [f"{name}: missing" for name in required if name not in tool_input]
            wrong += [f"{name}: not yours to give, leave it out" for name in sorted(kept.intersection(tool_input))]
            if self._names is not None:
                wrong += unknown([name for name in tool_input if name not in kept], self._names)
        if wrong:
            raise does_not_fit(self.tool.name, "; ".join(wrong), self.schema)

    @cached_property
    def _own(self) -> set[str]:
        """What LangChain gives the tool's method by name: an argument of that name is lost, or breaks the call."""
        parameters = inspect.signature(type(self.tool)._run).parameters.values()
        named = {one.name for one in parameters if one.kind not in _VARIADIC}
        return named - {*self.schema.get("properties", ()), *_fields(self.tool.args_schema)}

    @cached_property
    def _names(self) -> Collection[str] | None:
        """The names of all arguments that the model may give; `None` where the tool may take others, too."""
        if isinstance(self.tool.args_schema, dict) or isinstance(self.tool, SingleInputTool) or _takes_more(self.tool):
            return None
        shown = _fields(self.tool.args_schema).keys() - self._kept.keys()
        taken = (one for name in shown for one in _names_of(self.tool, name))
        return {*self.schema.get("properties", ()), *taken}

    def _filled(self, tool_input: ToolInput) -> ToolInput:
        """The arguments, with those that come from the run's inputs: by their names, or all of them as the state."""
        self._check(tool_input)
        if isinstance(tool_input, str):
            return tool_input
        given = dict(tool_input)  # LangChain writes the id of the call into it
        for name, one in self._kept.items():
            marks = [*_marks(one.annotation)]
            if _takes_the_id(one) or (not marks and _is_langchains(one)):
                continue
            is_state = any(_kind(mark).__name__ == "InjectedState" for mark in marks)
            field = next(filter(None, (getattr(mark, "field", None) for mark in marks)), None)
            key = field or name
            if is_state and field is None:
                given[name] = dict(self.inputs)
            elif marks and key in self.inputs:
                given[name] = self.inputs[key]
            elif one.default is one.empty:
                advice = f'give it with the question, as invoke({{"input": …, "{key}": …}}), or ' if marks else ""
                raise ConfigurationError(
                    f"Tool {self.tool.name}: nobody gives {name}, which the model must not; {advice}give it a default"
                )
        return given


class _Text(str):
    """What callbacks are told that a tool is given, and the arguments that were meant."""

    arguments: Any

    def __new__(cls, text: str, arguments: Any) -> _Text:
        made = super().__new__(cls, text)
        made.arguments = arguments
        return made


def _unread(tool: BaseTool) -> BaseTool:
    """The tool itself, in a class that takes its arguments as they are: a schema may make others of them each time.

    Of a `_Text` it takes those that were meant.
    """
    same = object.__new__(_as_given(type(tool)))
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(same, name, getattr(tool, name))
    return same


@cache
def _as_given(kind: type[BaseTool]) -> type[BaseTool]:
    def as_it_is(self: BaseTool, tool_input: Any, tool_call_id: str | None) -> Any:
        if isinstance(tool_input, _Text):
            return kind._parse_input(self, tool_input.arguments, tool_call_id)
        return tool_input

    made: Any = type(kind)
    same: type[BaseTool] = made(kind.__name__, (kind,), {"__module__": kind.__module__, "_parse_input": as_it_is})
    return same


def _fields(schema: Any) -> Mapping[str, Any]:
    """The fields of a pydantic class, of either version; none of a JSON schema."""
    name = "model_fields" if isinstance(schema, type) and issubclass(schema, BaseModel) else "__fields__"
    return getattr(schema, name, {})


def _kind(mark: Any) -> type:
    return mark if isinstance(mark, type) else type(mark)


def _marks(annotation: Any) -> Iterator[Any]:
    """What an annotation says of being injected: LangChain takes the class and an instance of it."""
    marks = getattr(annotation, "__metadata__", (annotation,))
    return (mark for mark in marks if issubclass(_kind(mark), InjectedToolArg))


def _is_langchains(parameter: inspect.Parameter) -> bool:
    """Whether LangChain gives a parameter without a mark."""
    return parameter.name in ("config", "run_manager", "callbacks") or "RunnableConfig" in str(parameter.annotation)


def _takes_the_id(parameter: inspect.Parameter) -> bool:
    return any(issubclass(_kind(mark), InjectedToolCallId) for mark in _marks(parameter.annotation))


def _declines(error: NotImplementedError, method: Any) -> bool:
    """Whether a method itself said that it is none, and not what it called."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_code is getattr(method, "__code__", None)


def _read(value: Any) -> Any:
    """What a tool gave, awaited and read where it gave a promise of it."""
    if inspect.isawaitable(value) or isinstance(value, AsyncIterator):
        return in_daemon_thread(asyncio.run, _aread(value)).result()
    return lines_of(value)


async def _aread(value: Any) -> Any:
    while inspect.isawaitable(value):
        value = await value
    if not isinstance(value, AsyncIterator):
        return lines_of(value)
    lines = Lines()
    async for piece in value:
        if not lines.add(piece):
            break
    return str(lines)


def _parameters(tool: BaseTool) -> Iterator[inspect.Parameter]:
    """What the functions and the schema of a tool take, with their annotations in full."""
    functions = [one for name in ("func", "coroutine") if (one := getattr(tool, name, None)) is not None]
    for function in functions or [tool._run, tool._arun]:
        hints = _hints(getattr(function, "func", function))
        with suppress(TypeError, ValueError):
            for name, one in inspect.signature(function).parameters.items():
                yield one.replace(annotation=hints.get(name, one.annotation))
        for name in getattr(function, "bound", ()):
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
    hints = _hints(tool.args_schema)
    for name, field in _fields(tool.args_schema).items():
        is_required = field.is_required() if hasattr(field, "is_required") else field.required
        default = inspect.Parameter.empty if is_required else None
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints.get(name, Any))


def _hints(of: Any) -> dict[str, Any]:
    with suppress(TypeError, NameError, AttributeError, ValueError):
        return get_type_hints(of, include_extras=True)
    return {}


def _aliases(tool: BaseTool, name: str) -> Iterator[str]:
    """The names that a schema gives an argument, beside that of its field."""
    field = _fields(tool.args_schema).get(name)
    alias = getattr(field, "validation_alias", None) or getattr(field, "alias", None)
    for one in getattr(alias, "choices", [alias]):
        first = one.path[0] if hasattr(one, "path") else one
        if isinstance(first, str):
            yield first


def _with_aliases(tool: BaseTool, names: Iterable[str]) -> Iterator[str]:
    return (each for name in names for each in (name, *_aliases(tool, name)))


def _names_of(tool: BaseTool, name: str) -> list[str]:
    """The names under which a schema takes an argument: by its field's only where it has no other, or says so."""
    schema: Any = tool.args_schema
    aliases = [*_aliases(tool, name)]
    if issubclass(schema, BaseModelV1):
        is_by_name = bool(schema.__config__.allow_population_by_field_name)
    else:
        is_by_name = any(schema.model_config.get(key) for key in ("populate_by_name", "validate_by_name"))
    return [name, *aliases] if is_by_name or not aliases else aliases


def _by_aliases(tool: BaseTool, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that LangChain made by the names of fields, with the names under which they are taken."""
    fields = {name: _names_of(tool, name) for name in _fields(tool.args_schema)}
    taken = {name: names[0] for name, names in fields.items() if name not in names}
    if not taken:
        return schema
    properties = {taken.get(name, name): one for name, one in schema.get("properties", {}).items()}
    return {**schema, "properties": properties, "required": [taken.get(n, n) for n in schema.get("required", ())]}


def _takes_more(tool: BaseTool) -> bool:
    """Whether a tool may make something of arguments that its schema does not list."""
    schema: Any = tool.args_schema
    if type(tool)._parse_input is not BaseTool._parse_input:
        return True
    if schema is None:
        return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(tool._run).parameters.values())
    if issubclass(schema, BaseModelV1):
        return schema.__config__.extra == "allow" or bool(schema.__pre_root_validators__)
    validators = schema.__pydantic_decorators__.model_validators.values()
    return schema.model_config.get("extra") == "allow" or any(one.info.mode != "after" for one in validators)


def _side_effects(tool: BaseTool) -> bool | None:
    """Whether a tool changes anything, as far as it says."""
    tags, metadata = tool.tags or (), tool.metadata or {}
    if SIDE_EFFECTS in tags or metadata.get(SIDE_EFFECTS) is True:
        return True
    reads = any(name in tags or metadata.get(name) is True for name in READ_ONLY)
    return False if reads or metadata.get(SIDE_EFFECTS) is False else None


def _call_schema(tool: BaseTool) -> Any:
    """The schema of what the model gives. LangChain makes none where a field of pydantic 1 is held to a range."""
    try:
        return tool.tool_call_schema
    except ValueError:
        if not _is_v1(tool.args_schema):
            raise
        return tool.args_schema


def _hidden(tool: BaseTool) -> set[str]:
    """The fields of a schema that it marks as not the model's to give."""
    return {name for name, annotation in _hints(tool.args_schema).items() if [*_marks(annotation)]}


def _is_v1(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModelV1)


def schema_of(tool: BaseTool) -> dict[str, Any]:
    """JSON schema of the tool's `action_input`."""
    if isinstance(tool.args_schema, dict):
        return tool.args_schema
    if isinstance(tool, SingleInputTool):
        return dict(STRING)
    schema = _call_schema(tool)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _by_aliases(tool, schema.model_json_schema())
    if _is_v1(schema):
        described = {**schema.schema(ref_template="#/$defs/{model}")}
        hidden = {*_with_aliases(tool, _hidden(tool))}
        described |= {
            "properties": {name: one for name, one in described.get("properties", {}).items() if name not in hidden},
            "required": [name for name in described.get("required", ()) if name not in hidden],
        }
        return {"$defs" if name == "definitions" else name: value for name, value in described.items()}
    return {"type": "object", "properties": tool.args}


@contextmanager
def _errors_told(tool: BaseTool, handle: HandleToolError) -> Iterator[None]:
    """A tool's own error, and arguments that do not fit, are for the model to read; anything else is a bug.

    `handle` may say otherwise: that what it raises is raised, or what is made of anything that it raises.
    """
    try:
        yield
    except (ToolException, ToolError) as error:
        if handle is False:
            raise error if isinstance(error, ToolException) else ToolException(said(error)) from error
        if isinstance(error, ToolError) and not (isinstance(handle, str) or callable(handle)):
            raise
        raise ToolError(_handled(error, handle)) from error
    except (ValidationError, ValidationErrorV1) as error:
        if not _is_of_arguments(error, tool.args_schema):
            raise
        raise _misfit(tool, error) from error
    except Exception as error:
        if handle in (None, False) or isinstance(error, AgentkitError):
            raise
        raise ToolError(_handled(error, handle)) from error


def _is_of_arguments(error: ValidationError | ValidationErrorV1, schema: Any) -> bool:
    """Whether an error is that of a tool's schema; the title may be one of its own."""
    if isinstance(error, ValidationErrorV1):
        return error.model is schema
    validator = getattr(schema, "__pydantic_validator__", None)
    return validator is not None and error.title == validator.title


def _handled(error: Exception, handle: HandleToolError) -> str:
    if isinstance(handle, str):
        return handle
    if callable(handle):
        return str(handle(error))
    kind = "" if isinstance(error, ToolException) else f"{type(error).__name__}: "
    return f"Error: {kind}{said(error)}"


def _misfit(tool: BaseTool, error: ValidationError | ValidationErrorV1) -> ToolError:
    wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return does_not_fit(tool.name, wrong, schema_of(tool))


def _is_only_async(tool: BaseTool) -> bool:
    return isinstance(tool, SingleInputTool | StructuredTool) and tool.func is None


def _has_coroutine(tool: BaseTool) -> bool:
    if isinstance(tool, SingleInputTool | StructuredTool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun
