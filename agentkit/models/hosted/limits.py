"""What a server's refusal says of length: how long the reply may be, or by how much the prompt is too long.

There is no field for it; each server has its own sentence. What is not said in one that is known is left open, and
found out by asking for less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from agentkit.events import Usage

FEWEST = 16  # tokens that a reply may have; less is no answer
_SURELY = 1.05  # times as many tokens as a prompt is likely to have
CODES = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "tokens_limit_reached")
_ABOUT_LENGTH = re.compile(
    r"context (?:length|window|size|limit)|max(?:imum)?[_ ]?(?:completion_?|new_?|output_?)?tokens"
    r"|maximum (?:number of (?:input |output )?|prompt |context |input |sequence )?(?:tokens?\b|length)"
    r"|(?:prompt|inputs?|messages?|request|context|tokens?)\b[^.;]{0,60}\b(?:too (?:long|large)|exceed)"
    r"|exceed[^.;]{0,60}\btokens?\b|too many (?:input |prompt )?tokens|token limit|(?:input|prompt) length"
    r"|(?:output|completion) tokens\b[^.;]{0,60}\b(?:limit|maximum|most|over)\b"
    r"|\bmust be reduced\b|reduce your message size|上下文.{0,12}(?:长度|窗口|超)"
    r"|(?:输入|提示|文本|内容|prompt|token).{0,16}(?:过长|超长|超过|超出|超限)|(?:超过|超出).{0,16}(?:长度|最大|上限)"
    r"|inputs?\W{0,3} must have less than|requested token count"
)
_ABOUT_REPLY = re.compile(r"max_?(?:completion_?|new_?|output_?)?tokens|(?:completion|output) tokens|number of output")
_NOT_TAKEN = re.compile(
    r"unsupported|not supported|not support\b|\binstead\b|unrecogni[sz]ed|unexpected|unknown|not permitted"
    r"|extra (?:inputs|fields)"
)
_NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.]*\d|[a-z])")
_CONTEXT_LENGTH = re.compile(r"context (?:length|window|size)")
_OF_THIS_ONE = re.compile(r"context|\bleft\b|remain|available")
_SUM = re.compile(r"(\d+) \+ (\d+) > (\d+)")  # prompt + reply > context: Anthropic
_TOTAL = re.compile(r"requested:?(?: about| a total of)? (\d+)")
_PROMPT = re.compile(
    r"(\d+) (?:tokens? )?(?:in the messages|input tokens|prompt tokens|of text input"
    r"|(?:in|from) (?:the |your )?(?:prompt|inputs?|message))"
    r"|(?:request has|resulted in|contains|given:|request \(|input \(|prompt \(|too long:|token count(?: \(| of | is )"
    r"|keep the first|received|n_prompt_tokens\W{1,4}) ?(\d+)"
)
_CONTEXT = re.compile(
    r"(?:context (?:length|window|size|limit)|maximum (?:prompt|input|sequence) length|token limit|configured limit"
    r"|number of tokens allowed|n_ctx)\W{0,4}(?:(?:of|is|only|at most)\W{1,2}){0,3}(\d+)"
    r"|(\d+) maximum context|must be <= ?(\d+)|> (\d+) maximum|less than (\d+) tokens|max size: (\d+)"
    r"|cannot exceed (\d+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """A request that is longer than its server takes.

    `most_tokens` are what any reply may have; `room` what this one may have beside its prompt. Where neither is known,
    `of_reply` says whether the server spoke of the reply's length, `of_context` of both together. `prompt_tokens` and
    `context_tokens` where it counted them.
    """

    most_tokens: int | None = None
    room: int | None = None
    of_reply: bool = False
    of_context: bool = False
    prompt_tokens: int | None = None
    context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How much a server's model reads, as far as a refusal said it: `tokens`, of which a prompt that was counted had so
    many `per_character`. Where it `counts_reply`, the reply must have room in it, too."""

    tokens: int
    per_character: float
    counts_reply: bool

    def refusal(self, characters: int, *, asked: int | None) -> TooLong | None:
        """What it would say of a prompt of about so many characters; `None`: that it takes it."""
        prompt = round(characters * self.per_character)
        left = self.tokens - prompt
        if left <= 0:
            return TooLong(prompt_tokens=prompt, context_tokens=self.tokens)
        room = self.tokens - round(prompt * _SURELY)
        if not self.counts_reply or asked is None or room >= asked:
            return None
        return TooLong(room=max(room, 0), prompt_tokens=prompt, context_tokens=self.tokens)

    def measured(self, characters: int, prompt_tokens: int) -> Context:
        """With what a later prompt had, which is likelier to be like the next one."""
        per_character = prompt_tokens / max(characters, 1)
        is_likely = 0.5 < per_character / self.per_character < 2  # some servers do not count what they had cached
        return replace(self, per_character=per_character) if is_likely else self

    def is_disproved(self, usage: Usage) -> bool:
        """Whether more than this was read, as the server counted."""
        return self.tokens < (usage.total_tokens if self.counts_reply else usage.prompt_tokens)


def too_long(message: str, *, code: str = "", asked: int | None = None) -> TooLong | None:
    """What a refusal says of length; `None` for one of something else. The reply was `asked` to have so many tokens."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", message.lower())
    if code not in CODES and (not _ABOUT_LENGTH.search(text) or _NOT_TAKEN.search(text)):
        return None
    of_reply = asked is not None and _ABOUT_REPLY.search(text) is not None
    prompt, context = _first(_PROMPT, text), _first(_CONTEXT, text)
    if sums := _SUM.search(text):
        prompt, context = int(sums[1]), int(sums[3])
    elif (total := _first(_TOTAL, text)) is not None:
        prompt = max(prompt or 0, total - (asked or 0))
    if prompt is not None and context is not None:
        room = context - prompt if asked is not None and 0 < context - prompt < asked else None
        return TooLong(room=room, prompt_tokens=prompt, context_tokens=context, of_reply=of_reply and prompt < context)
    if of_reply and asked is not None:
        exclusive = "exclusive" in text
        below = [number for number in map(int, _NUMBER.findall(text)) if FEWEST <= number < asked]
        most = max(below) - exclusive if below else None
        if _OF_THIS_ONE.search(text) and "maximum value" not in text:
            return TooLong(room=most, of_reply=True, context_tokens=context)
        return TooLong(most_tokens=most, of_reply=True)
    of_context = code in CODES or _CONTEXT_LENGTH.search(text) is not None
    return TooLong(prompt_tokens=prompt, context_tokens=context, of_context=of_context)


def _first(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return next((int(group) for group in match.groups() if group), None) if match else None
