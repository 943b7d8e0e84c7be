"""THE table of marks: labels, think tags, ends of turns, and how models write tool calls.

Whatever reads, writes, constrains or defuses a mark derives it from here: the parser (`scan`, `calls`), the defuser
(`hostile`), the readers of replies (`agentkit.models.thinking`, `agentkit.models.tool_calls`), the grammar of calls and
the messages that go to a server. A mark that is added to the table is known to all of them.

    more = replace(TABLE, thinking={**TABLE.thinking, "<ponder>": "</ponder>"})     # or a table of one's own
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = [
    "BREAK",
    "CALL_ID",
    "CALL_NAME",
    "HERMES",
    "LONGEST_MARK",
    "RUN_ON",
    "TABLE",
    "CallSyntax",
    "Marks",
    "Pairs",
    "Tags",
    "alternation",
    "leading_letters",
    "literals",
    "loose",
    "pieces_of",
]

BREAK = "\u200b"
"""A zero-width space. It stands where foreign text would have begun something; people do not see it."""

CALL_ID = "call00000"
"""Stands where a call's id goes: nine letters and digits, which is what Mistral's template insists on."""

CALL_NAME = "name00000"
"""Stands in a syntax where a call's name goes besides the one in front of its arguments (Muse names it twice)."""

LONGEST_MARK = 400
"""Characters that stand together in a syntax: what a checkpoint says of its own may be made to be read forever."""

NAME = r"(?P<name>[\w.:/-]{1,128}?)"
"""A tool's name in a call."""


# -- how calls are written ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tags:
    """Arguments in tags: `opening` KEY `middle` VALUE `closing` for each. A string stands as it is, others as JSON.

    `is_python` says whether constants are Python's (None, True) or JSON's; None where that is not known.
    """

    opening: str
    middle: str
    closing: str
    is_python: bool | None = None

    def word(self, value: Any) -> str:
        """A value that is no string, as it is written."""
        return repr(value) if self.is_python and (value is None or isinstance(value, bool)) else _json(value)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Arguments as KEY `equals` VALUE, with commas between. `quote` is a string's: `"` or `'` as in Python, or a token.

    A string in a token stands as it is; one in quotes has escapes. Where an argument `is_bare` it has none itself, only
    what is in lists and objects has.
    """

    equals: str
    quote: str = '"'
    is_bare: bool = False

    @property
    def is_python(self) -> bool:
        """Whether values are written as in Python."""
        return self.quote in ('"', "'")

    @property
    def separator(self) -> str:
        """What stands between two arguments."""
        return ", " if self.is_python else ","


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """The text around calls: `opening` NAME `middle` ARGUMENTS (`between` NAME `middle` ARGUMENTS)* `closing`.

    `between` is None where a turn makes one call. `arguments` says how those are written; None: as a JSON object.
    """

    opening: str
    middle: str
    between: str | None
    closing: str
    arguments: Tags | Pairs | None = None

    @property
    def trigger(self) -> str:
        """What cannot stand in a reply unless a call follows; "" where a call is nothing but JSON or Python."""
        if CALL_NAME in self.opening:  # in front of it stands what begins any message
            return next(iter(self.tokens), "")
        opening = self.opening.lstrip()
        markup = MARKUP.match(opening)
        return markup[0] if markup else re.split(r"[{\[]", opening)[0].rstrip()

    @property
    def tokens(self) -> list[str]:
        """Tags and tokens in front of the first name, but those that open any message."""
        return [match[0] for match in MARKUP.finditer(self.opening) if match[0] not in _CHANNELS]

    @property
    def prefix(self) -> str:
        """What stands behind the last of the `tokens`, up to the name; "" where that is JSON, or the name itself."""
        rest = self.opening.rpartition(self.tokens[-1])[2] if self.tokens else self.opening
        if self.is_object:
            return _JSON_BEGINNING.split(rest)[0].strip()
        return "" if _BARE.match(rest) else rest.strip()

    @property
    def head(self) -> str:
        """A regular expression for what stands in front of a call's arguments: the prefix, its name, and the middle."""
        listed = isinstance(self.arguments, Pairs) and self.opening.rstrip().endswith("[")
        prefix = "[" if listed else self.prefix
        pieces = _MIDDLE.findall(self.middle)
        if self.middle.startswith('"') and isinstance(self.arguments, Tags):  # a tag may have more attributes
            middle = rf'"[^<>\n]{{0,80}}?{loose(self.middle[1:].rstrip())}'
            return (rf"{loose(prefix)}\s*" if prefix else "") + NAME + middle
        optional = [
            ("(?:(?<!\\w)" if piece[0].isalnum() else "(?:") + rf"{_piece(piece)}\s*)?" for piece in pieces[:-1]
        ]
        last = [rf"(?:{_piece(piece)}\s*)?" if piece.startswith("```") else _piece(piece) for piece in pieces[-1:]]
        begin = r"\s*(?=\{)" if self.arguments is None else ""
        return (rf"{loose(prefix)}\s*" if prefix else "") + NAME + r"\s*" + "".join([*optional, *last]) + begin

    @property
    def words(self) -> str:
        """A regular expression for the words that begin calls where no tag or token does; "" where one does.

        They are none of a call's unless it goes on as one: anybody may write them.
        """
        if CALL_NAME in self.opening:
            before, token, _ = self.opening.partition(self.trigger)
            return rf"{loose(before.strip())}(?=\s*{loose(token)})"
        if self.tokens or not self.prefix or self.prefix.startswith(("<", "[")):
            return ""
        begin = loose(self.prefix)
        following = r"\s*\[?\s*\{" if self.is_object else self.head.removeprefix(begin).replace("?P<name>", "?:")
        return f"{begin}(?={following})"

    @property
    def is_object(self) -> bool:
        """Whether a call is one JSON object, its name inside."""
        return self.arguments is None and _JSON_BEGINNING.search(self.opening) is not None

    def write(self, *calls: tuple[str, Mapping[str, Any]]) -> str:
        """The text of calls, each a name and its arguments."""
        text = ""
        for name, arguments in calls:
            before = (self.between or "") if text else self.opening
            text += before.replace(CALL_NAME, name) + name + self.middle + self.write_arguments(arguments)
        return text + self.closing

    def write_arguments(self, arguments: Mapping[str, Any]) -> str:
        """The text of one call's arguments."""
        style = self.arguments
        if style is None:
            return json.dumps(arguments, ensure_ascii=False)
        if isinstance(style, Pairs):
            return _pairs(style, arguments)
        texts = {key: value if isinstance(value, str) else style.word(value) for key, value in arguments.items()}
        return "".join(f"{style.opening}{key}{style.middle}{text}{style.closing}" for key, text in texts.items())


def _pairs(style: Pairs, arguments: Mapping[str, Any]) -> str:
    write = _python if style.is_python else _literal
    texts = {
        key: f"{style.quote}{value}{style.quote}"
        if style.is_bare and isinstance(value, str)
        else write(value, style.quote)
        for key, value in arguments.items()
    }
    return style.separator.join(f"{key}{style.equals}{text}" for key, text in texts.items())


def _python(value: Any, quote: str) -> str:
    """A value as Python reads it; in apostrophes, what is in it is JSON, as templates have it."""
    if isinstance(value, str):
        return _json(value) if quote == '"' else f"'{value.translate(_ESCAPES)}'"
    if quote == '"' and isinstance(value, Mapping):
        return "{" + ", ".join(f"{_json(key)}: {_python(item, quote)}" for key, item in value.items()) + "}"
    if quote == '"' and isinstance(value, list | tuple):
        return "[" + ", ".join(_python(item, quote) for item in value) + "]"
    return _json(value) if isinstance(value, Mapping | list | tuple) else repr(value)


_ESCAPES = str.maketrans({"\\": r"\\", "'": r"\'", "\n": r"\n", "\r": r"\r"})


def _literal(value: Any, quote: str) -> str:
    """A value with strings in `quote`, and keys without any."""
    if isinstance(value, str):
        return quote + value + quote
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(item, quote)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(item, quote) for item in value) + "]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _objects(opening: str, closing: str, *, between: str | None = "}, {", arguments: str = "arguments") -> CallSyntax:
    """JSON objects with a name and arguments; `between` them is the list's, unless a turn repeats the tokens."""
    head = '{"name": "'
    following = None if between is None else between + head.removeprefix("{")
    return CallSyntax(opening + head, f'", "{arguments}": ', following, "}" + closing)


_PYTHON = Pairs("=")
_PARAMETER = Tags('<parameter name="', '">', "</parameter>\n")

HERMES = CallSyntax(
    opening='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    closing="}\n</tool_call>",
)
"""What models are asked for whose own syntax is not known."""

CALLS: tuple[CallSyntax, ...] = (
    # JSON objects, in tags or tokens.
    HERMES,  # Qwen 2.5 and 3, Hermes, Granite 4, EXAONE, ERNIE, Trinity
    _objects("<tool_calls>[", "]</tool_calls>"),  # Jamba, Hunyuan
    _objects("<function_call>", "</function_call>", between="}</function_call>\n<function_call>{"),  # Granite 20B FC
    _objects("<function_calls>[", "]</function_calls>"),
    _objects("<functioncall>", "</functioncall>", between=None),  # Glaive
    _objects("<TOOLCALL>[", "]</TOOLCALL>"),  # Nemotron Nano
    _objects("<longcat_tool_call>", "</longcat_tool_call>", between="}</longcat_tool_call>\n<longcat_tool_call>{"),
    _objects("<|tool_call|>[", "]<|/tool_call|>"),  # Granite 3 (without the end), Phi-4-mini
    _objects("<|tool_calls|>[", "]<|/tool_calls|>"),
    _objects("[TOOL_CALLS] [", "]"),  # Mistral
    _objects("[TOOL_CALL]", "[/TOOL_CALL]", between=None),
    _objects("<|tool_call_start|>[", "]<|tool_call_end|>"),
    _objects("<|python_tag|>", "<|eom_id|>", between="}; {", arguments="parameters"),  # Llama 3
    _objects("", "", between="}; {", arguments="parameters"),  # Llama 3, 4
    _objects("<|action_start|><|plugin|>", "<|action_end|>", between=None, arguments="parameters"),  # InternLM
    _objects("functools[", "]"),  # Phi-4-mini
    _objects("<|function_call|>", "", between=None),  # GigaChat
    _objects("<|content_invoke_tool_json|>", "<|end_message|>", between=None, arguments="args"),  # Inkling
    _objects("[unused11][", "][unused12]"),  # Pangu
    CallSyntax('<|tools_prefix|>[{"', '": ', '}, {"', "}]<|tools_suffix|>"),  # Apertus: the name is the key
    CallSyntax(  # Command
        '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "',
        '", "parameters": ',
        '}, {"tool_call_id": "0", "tool_name": "',
        "}]<|END_ACTION|>",
    ),
    # A name, and JSON arguments.
    CallSyntax("[TOOL_CALLS]", "[ARGS]", "[TOOL_CALLS]", ""),  # Ministral, Magistral
    CallSyntax("[TOOL_CALLS]", f"[CALL_ID]{CALL_ID}[ARGS]", "[TOOL_CALLS]", ""),
    CallSyntax("[TOOL_CALLS]", "", "[TOOL_CALLS]", ""),
    CallSyntax("<function=", ">", "</function>\n<function=", "</function>"),  # Llama 3.1's custom functions
    CallSyntax("<tool: ", ">\n", "\n</tool>\n<tool: ", "\n</tool>"),  # CWM
    CallSyntax(  # Kimi
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.",
        f":{CALL_ID}<|tool_call_argument_begin|>",
        "<|tool_call_end|><|tool_call_begin|>functions.",
        "<|tool_call_end|><|tool_calls_section_end|>",
    ),
    CallSyntax(  # DeepSeek V3, R1
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "\n```json\n",
        "\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    CallSyntax(  # DeepSeek V3.1
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜><｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    *(  # gpt-oss: harmony
        CallSyntax(f"{start}<|channel|>{channel} to=functions.", " <|constrain|>json<|message|>", None, "<|call|>")
        for channel in ("commentary", "analysis")
        for start in ("", "<|start|>assistant")
    ),
    *(  # the template has written the first token; a server may have dropped them all
        CallSyntax(f"{start}to=functions.", "<|channel|>commentary <|constrain|>json<|message|>", None, "<|call|>")
        for start in ("", "<|start|>assistant ")
    ),
    CallSyntax("commentary to=functions.", " json", None, ""),
    CallSyntax(">>>", "\n", "\n>>>", ""),  # Functionary 3
    CallSyntax(  # Functionary 2
        "<|from|>assistant\n<|recipient|>", "\n<|content|>", "\n<|from|>assistant\n<|recipient|>", ""
    ),
    CallSyntax("✿FUNCTION✿: ", "\n✿ARGS✿: ", "\n✿FUNCTION✿: ", ""),  # Qwen-Agent
    CallSyntax(  # Solar
        f"<|tool_call:begin|>{CALL_ID}<|tool_call:name|>",
        "<|tool_call:args|>",
        f"<|tool_call:end|>\n<|tool_call:begin|>{CALL_ID}<|tool_call:name|>",
        "<|tool_call:end|>",
    ),
    CallSyntax(  # PLaMo
        "<|plamo:begin_tool_requests:plamo|><|plamo:begin_tool_request:plamo|><|plamo:begin_tool_name:plamo|>",
        "<|plamo:end_tool_name:plamo|><|plamo:begin_tool_arguments:plamo|>",
        "<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|>"
        "<|plamo:begin_tool_request:plamo|><|plamo:begin_tool_name:plamo|>",
        "<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|><|plamo:end_tool_requests:plamo|>",
    ),
    # A name, and arguments in tags.
    CallSyntax(  # Qwen3-Coder, Qwen 3.5 and later, Nemotron 3
        "<tool_call>\n<function=",
        ">\n",
        "</function>\n</tool_call>\n<tool_call>\n<function=",
        "</function>\n</tool_call>",
        Tags("<parameter=", ">\n", "\n</parameter>\n"),
    ),
    CallSyntax(  # GLM 4.5 and later
        "<tool_call>",
        "\n",
        "</tool_call>\n<tool_call>",
        "</tool_call>",
        Tags("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    ),
    CallSyntax(  # Hunyuan 3
        "<tool_calls>\n<tool_call>",
        "<tool_sep>\n",
        "</tool_call>\n<tool_call>",
        "</tool_call>\n</tool_calls>",
        Tags("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"),
    ),
    CallSyntax(  # LongCat 2
        "<longcat_tool_call>",
        "\n",
        "</longcat_tool_call>\n<longcat_tool_call>",
        "</longcat_tool_call>",
        Tags("<longcat_arg_key>", "</longcat_arg_key>\n<longcat_arg_value>", "</longcat_arg_value>\n"),
    ),
    CallSyntax(  # Solar Open 2
        "<|tool_call:start|>",
        "\n",
        "<|tool_call:end|>\n<|tool_call:start|>",
        "<|tool_call:end|>",
        Tags("<|tool_arg:start|>", "<|tool_arg:value|>", "<|tool_arg:end|>\n"),
    ),
    CallSyntax(  # Kimi K3
        '<|open|>call tool="',
        '"<|sep|>',
        '<|close|>call<|sep|><|open|>call tool="',
        "<|close|>call<|sep|>",
        Tags('<|open|>argument key="', '"<|sep|>', "<|close|>argument<|sep|>"),
    ),
    CallSyntax(  # MiniCPM
        '<function name="',
        '">',
        '</function>\n<function name="',
        "</function>",
        Tags('<param name="', '">', "</param>"),
    ),
    CallSyntax(  # MiniMax M2; the same in other name spaces elsewhere
        '<minimax:tool_call>\n<invoke name="',
        '">\n',
        '</invoke>\n<invoke name="',
        "</invoke>\n</minimax:tool_call>",
        _PARAMETER,
    ),
    CallSyntax(
        '<function_calls>\n<invoke name="',
        '">\n',
        '</invoke>\n<invoke name="',
        "</invoke>\n</function_calls>",
        _PARAMETER,
    ),
    CallSyntax(  # DeepSeek V3.2, V4; GigaChat 3.5 with a name space of its own
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="',
        '">\n',
        '</｜DSML｜invoke>\n<｜DSML｜invoke name="',
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        Tags('<｜DSML｜parameter name="', '">', "</｜DSML｜parameter>\n"),
    ),
    CallSyntax(
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="',
        '">\n',
        '\n</｜DSML｜invoke>\n<｜DSML｜invoke name="',
        "\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    *(  # Muse
        CallSyntax(
            f'{start}to={CALL_NAME}<|message|><atem:function_calls>\n<atem:invoke name="',
            '">\n',
            f"</atem:invoke>\n</atem:function_calls><|eom|><|start|>assistant to={CALL_NAME}<|message|>"
            '<atem:function_calls>\n<atem:invoke name="',
            "</atem:invoke>\n</atem:function_calls>",
            Tags('<atem:parameter name="', '">', "</atem:parameter>\n"),
        )
        for start in ("", "<|start|>assistant ")
    ),
    # A name, and arguments as pairs.
    CallSyntax("<|tool_call_start|>[", "(", "), ", ")]<|tool_call_end|>", _PYTHON),  # LFM2
    CallSyntax("<|python_start|>[", "(", "), ", ")]<|python_end|>", _PYTHON),  # Llama 4
    CallSyntax("<function_calls>\n", "(", ")\n", ")\n</function_calls>", _PYTHON),  # Olmo 3
    CallSyntax("[", "(", "), ", ")]", _PYTHON),  # Llama 3.2, 4
    CallSyntax("```tool_code\nprint(default_api.", "(", "))\nprint(default_api.", "))\n```", _PYTHON),  # Gemma 2, 3
    CallSyntax("```tool_code\ndefault_api.", "(", ")\ndefault_api.", ")\n```", _PYTHON),
    CallSyntax(
        "<|tool_call>call:", "{", "}<tool_call|><|tool_call>call:", "}<tool_call|>", Pairs(":", '<|"|>')
    ),  # Gemma 4
    CallSyntax(  # FunctionGemma
        "<start_function_call>call:",
        "{",
        "}<end_function_call><start_function_call>call:",
        "}<end_function_call>",
        Pairs(":", "<escape>"),
    ),
)


# -- the other marks ---------------------------------------------------------------------------------------------------

LABELS: Mapping[str, str] = {  # in the languages into which models translate them; regular expressions
    "observation": "Observation|观察结果|观察|觀察|観察|관찰|Observación|Observação|Beobachtung|Наблюдение",
    "thought": "Thoughts?|思考|想法|Pensamiento|Pensamento|Pensée|Gedanke|Мысль|생각",
    "input": "Action[ _-]?Input|行动输入|行動輸入|动作输入|操作输入|行動入力|Entrada de (?:la )?acción",
    "action": "Action|行动|行動|动作|操作|Acción|Ação|Aktion|Действие|행동",
    "final": (
        "Final[ _-]?Answer|最终答案|最终回答|最終答案|最終回答|최종 답변|Respuesta final|Resposta final|Réponse finale"
        "|Endgültige Antwort|Finale Antwort|Окончательный ответ|Финальный ответ"
    ),
    "answer": "Answer|答案|Antwort|Respuesta",
    "question": "Question|问题",
}
WEAK_LABELS = {"answer", "question"}
"""Labels that are words of any text: they decide only where a turn has nothing better."""

THINKING: Mapping[str, str] = {
    **{f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning", "reflection")},
    **{f"<{name}>": f"</{name}>" for name in ("seed:think", "mm:think", "longcat_think")},  # Seed-OSS, MiniMax, LongCat
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi-VL
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|think_start|>": "<|think_end|>",
    "<|thought_start|>": "<|thought_end|>",  # MiniCPM 3
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",  # Kimi K3
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<|channel|>analysis<|message|>": "<|end|>",  # gpt-oss
    "<|start|>assistant<|channel|>analysis<|message|>": "<|end|>",
    "to=self<|message|>": "<|eom|>",  # Muse
    "<|start|>assistant to=self<|message|>": "<|eom|>",
}
"""What opens reasoning, and what closes it."""

PRELUDES = (
    *(
        f"{start}<|channel|>{channel}<|message|>"
        for start in ("", "<|start|>assistant")
        for channel in ("final", "commentary")
    ),
    *("to=user<|message|>", "<|start|>assistant to=user<|message|>"),  # Muse
    *("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|open|>tools<|sep|>"),  # Kimi K3
    *(">>>all\n", "<|from|>assistant\n<|recipient|>all\n<|content|>"),  # Functionary
    "<|START_RESPONSE|>",
    "<|begin_of_solution|>",
)
"""What stands in front of the part that is meant for the reader."""

TURN_ENDS = (
    *(
        "<|im_end|>",
        "<|im_start|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|eot|>",
        "<|eom|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|end|>",
        "<|return|>",
    ),
    *(
        "</s>",
        "<end_of_turn>",
        "<turn|>",
        "<eos>",
        "<｜end▁of▁sentence｜>",
        "<|END_OF_TURN_TOKEN|>",
        "<|END_RESPONSE|>",
    ),
    *("<|end_of_solution|>", "<|end_message|>", "<|message_sep|>", "<|plamo:tag|>", "✿RETURN✿"),
    *("<|close|>tools<|sep|>", "<|close|>message<|sep|>", "[|endofturn|]", "<|endofturn|>", "<|stop|>"),
    *("<|start_header_id|>", "<start_of_turn>", "<|turn>", "<|user|>", "<|observation|>", "<|tool|>"),
    "<|tool_response>",
)
"""What chat templates put at the end of a turn, or at the beginning of the next; behind it a model talks to itself."""

RUN_ON = (
    r"(?!\s*<\|start\|>assistant)"  # harmony: another message of the same turn
    r"\s*(?:\Z|\n|<|(?:user|human|system|tool|ipython|observation|assistant|model)\b)"
)
"""A regular expression for what follows the end of a turn; elsewhere, and in quotes, such a token is written about."""

NAME_KEYS = ("action", "tool", "tool name", "function", "function name", "name")
INPUT_KEYS = ("action input", "tool input", "input")
ARGUMENTS_KEYS = ("arguments", "args", "parameters", "params", "tool args", "function args")
ANSWER_KEYS = ("final answer",)
"""Keys of JSON objects that are actions, in any case, with blanks, underscores or hyphens between the words.

Native calls carry arguments as an object, some of them (OpenAI's) as the text of one.
"""

TEMPLATE_TOKENS = (
    *("<s>", "<bos>", "<unk>", "<pad>", "<start_of_turn>", "<|turn>", "<start_of_image>", "<end_of_image>", "<image>"),
    *("<<SYS>>", "<</SYS>>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[gMASK]", "<sop>"),
    *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[IMG]"),
    *("[ARGS]", "[CALL_ID]", "<tool>", "</tool>", "<tools>", "</tools>", "<tool_response>", "</tool_response>"),
    *("<arg_key>", "<arg_value>", "<escape>", "<start_function_response>", "<end_function_response>"),
    *("]~b]", "]~!b[", "]!b[", "]!p~[", "]!d~[", "[e~[", "]<]minimax[>[", "]<]vision pad[>["),  # MiniMax
    *(f"]<]{edge}{kind}[>[" for edge in ("", "start of ", "end of ") for kind in ("speech", "image", "video")),
    *("[sMASK]", "<eop>", "<eod>", "<sep>", "<mask>"),
    *("<eoa>", "<eoh>", "<end_of_utterance>", "[BOS]", "[EOS]", "[EOT]", "[PAD]", "[UNK]", "[start_header_id]"),
    *("[end_header_id]", "[IMG_BREAK]", "[IMG_END]", "[AUDIO]", "[BEGIN_AUDIO]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
    *("[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "[CLS]", "[SEP]", "[MASK]", "<role>", "</role>", "<video>", "<audio>"),
    *("<image_soft_token>", "<audio_soft_token>", "<boi>", "<eoi>", "<fake_token_around_image>"),
    *("<BOS_TOKEN>", "<EOS_TOKEN>", "<EOP_TOKEN>", "<MASK_TOKEN>"),  # Command
    *("<longcat_s>", "</longcat_s>", "<longcat_user>", "<longcat_assistant>", "<longcat_system>", "<longcat_unk>"),
    *("<fim_prefix>", "<fim_middle>", "<fim_suffix>", "<fim_pad>", "<repo_name>", "<file_sep>"),
    *("<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>"),
    *("<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>", "<commit_before>", "<commit_msg>"),
    *("<commit_after>", "<reponame>"),  # StarCoder, Granite, Yi
    *("<PRE>", "<SUF>", "<MID>", "<EOT>", "<global-img>"),  # Code Llama; Idefics
)
"""Other tokens of chat templates, which nobody but a template may write. Those of the shapes <|…|>, [|…|], <[…]> and
<unused1> need no entry."""


@dataclass(frozen=True, eq=False)
class Marks:
    """A table of marks, and what is derived from it for all readers alike."""

    calls: Sequence[CallSyntax] = CALLS
    thinking: Mapping[str, str] = field(default_factory=lambda: THINKING)
    labels: Mapping[str, str] = field(default_factory=lambda: LABELS)
    preludes: Sequence[str] = PRELUDES
    turn_ends: Sequence[str] = TURN_ENDS
    template_tokens: Sequence[str] = TEMPLATE_TOKENS

    @cached_property
    def markup(self) -> str:
        """A regular expression for all markup of the table but labels. Of a tag with attributes it is the beginning."""
        texts = {*self.thinking, *self.thinking.values(), *self.preludes, *self.turn_ends, *self.template_tokens}
        for syntax in self.calls:
            texts |= set(_markup_of(syntax))
        names = {tag[1] for text in texts if (tag := _PLAIN_TAG.match(text))}
        tags = rf"</?{_ANY_NAME_SPACE}(?:{'|'.join(sorted(names))})[\s=>]"
        others = (text for text in texts if not (_PLAIN_TAG.match(text) or re.match(_TOKEN, text)))
        words = "".join(f"|{each.words}" for each in self.calls if each.words)
        return f"{_TOKEN}|{tags}|{alternation(others)}{words}"

    @cached_property
    def of_own_turns(self) -> str:
        """A regular expression for what of all that a model writes itself: the markup of calls, and of channels."""
        channels = "|".join(map(re.escape, sorted(_CHANNELS - {"<|start|>"})))
        words = "".join(f"|{each.words}" for each in self.calls if each.words)
        styles = (each.arguments for each in self.calls)
        quotes = {style.quote for style in styles if isinstance(style, Pairs) and not style.is_python}
        texts = {text for each in self.calls for text in _markup_of(each)} | quotes
        return rf"{channels}|<\|start\|>assistant|{alternation(texts)}{words}"


TABLE = Marks()


# -- regular expressions of what the table says ------------------------------------------------------------------------

MARKUP = re.compile(r'<[^<>"=\s]+>|\[(?:/?[A-Z_]+|unused\d+)\]|`{3}tool_\w+')
"""A whole tag or token, or a fence whose language says that it holds calls."""

_BARE = re.compile(r"\s*\[?\s*(?:\{|$)|\s*\[\s*$")
_JSON_BEGINNING = re.compile(r"\s*\[?\s*\{")
_MIDDLE = re.compile(rf"(?:{MARKUP.pattern})?[^\s<\[]*{CALL_ID}|{MARKUP.pattern}|[^\s<\[]+|[<\[]")
_CHANNELS = {"<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|open|>", "<|close|>", "<|sep|>"}
# of harmony, and of Kimi K3: they open any message
_TOKEN = (  # of any chat template
    r"<[|｜][^|｜<>\n]{1,60}[|｜]>|<\|\w{1,40}>|<\w{1,40}\|>|\[\|[^|\[\]\n]{1,40}\|\]|<\[[^<>\[\]\n]{1,40}\]>"
    r"|<(?:extra_id|special|reserved|(?:tokens_)?unused(?:_token)?|ctrl|mask)[_:]?\d{1,4}>|\[UNUSED_TOKEN_\d{1,4}\]"
    r"|\[control_\d{1,4}\]|<row_\d{1,2}_col_\d{1,2}>"
)
_PLAIN_TAG = re.compile(r"</?(?:\w+:|｜\w+｜)?(\w+)[ =>]")
_TAG_BEGINNING = re.compile(r'<[^<>\s]+(?: name)?="?')
_PIECE = re.compile(rf"\s+|{MARKUP.pattern}|[{{}}\[\],:]|<?[^\s{{}}\[\],:<]+|<")
_BAR = "[|｜]"
_ANY_NAME_SPACE = rf"(?:\w{{1,16}}:|{_BAR}\w{{1,16}}{_BAR})?"
_NAME_SPACE = re.compile(rf"<(/?)(?:\w+:|{re.escape(_BAR)}\w+{re.escape(_BAR)})?(?=[A-Za-z_]+(?:[>=]|$))")


def _markup_of(syntax: CallSyntax) -> Iterator[str]:
    """Tags and tokens of a syntax, and the beginnings of its tags with attributes."""
    style = syntax.arguments
    quote = [style.quote] if isinstance(style, Pairs) and not style.is_python else []
    tags = [style.opening, style.middle, style.closing] if isinstance(style, Tags) else []
    for text in (syntax.opening, syntax.middle, syntax.between or "", syntax.closing, *tags, *quote):
        yield from (match[0] for match in MARKUP.finditer(text) if match[0] not in _CHANNELS)
        yield from (match[0] for match in _TAG_BEGINNING.finditer(text))
    if syntax.prefix and not (syntax.tokens or syntax.words):
        yield syntax.prefix


def pieces_of(text: str) -> list[str]:
    """The tokens, tags, brackets, words and blanks of a piece of a syntax."""
    return _PIECE.findall(text)


def loose(text: str) -> str:
    """A regular expression for `text` with any white space between its pieces, any id for `CALL_ID`, tags in any name
    space, and tokens spelled with ASCII letters."""
    pattern, before = "", ""
    for piece in pieces_of(text):
        if (piece.isspace() or (pattern and _separable(before, piece))) and not pattern.endswith(r"\s*"):
            pattern += r"\s*"
        if not piece.isspace():
            pattern += _loose_piece(piece)
        before = piece
    return pattern


def _separable(first: str, second: str) -> bool:
    """Whether white space may stand between two pieces that have none."""
    if ":" in (first, second):
        return '"' in first or '"' in second
    return any((len(piece) == 1 and piece in "{}[],") or MARKUP.fullmatch(piece) for piece in (first, second))


def _loose_piece(piece: str) -> str:
    escaped = re.escape(piece).replace(CALL_ID, r"[\w-]+").replace(CALL_NAME, r"[\w.:/-]{1,128}")
    for name_space in (r"functions\.", r"default_api\."):
        escaped = escaped.replace(name_space, f"(?:{name_space})?")
    escaped = escaped.replace("｜", _BAR).replace("▁", "[▁_]")
    return (
        _NAME_SPACE.sub(rf"<\1{_ANY_NAME_SPACE}".replace("\\w", "\\\\w"), escaped) if piece.startswith("<") else escaped
    )


def _piece(text: str) -> str:
    """A piece of a middle. What harmony calls the arguments' format is a word that says nothing."""
    return r"\w{1,16}" if text == "json" else loose(text).replace(r"\s*", "") or re.escape(text)


def alternation(texts: Iterable[str]) -> str:
    """A regular expression for any of `texts`, loosely, the longest first."""
    return "|".join(loose(text) for text in sorted({*texts}, key=lambda text: (-len(text), text)))


def literals(texts: Iterable[str]) -> str:
    """A regular expression for any of `texts` to the letter, the longest first."""
    return "|".join(re.escape(text) for text in sorted({*texts}, key=lambda text: (-len(text), text)))


def leading_letters(texts: Iterable[str]) -> str:
    """The letters that begin `texts`, for a class in a regular expression."""
    return "".join(re.escape(letter) for letter in sorted({text[0] for text in texts}))
