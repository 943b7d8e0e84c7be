"""One reply of llama.cpp, token by token: held to a grammar, closed in time, continued where it broke off.

llama.cpp holds a reply to a grammar by a llguidance of its own, which may be another than ours, and tells nobody where
it reads a grammar otherwise or not at all. So every token is followed by ours, too. From the first one on that ours
does not take, and where the room gets short, the tokens are asked for one by one.
"""

from __future__ import annotations

import codecs
import math
import random
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from agentkit.errors import ModelError, in_one_line
from agentkit.models.backend import ChatRequest, Chunk, TokenLogprob, Usage
from agentkit.models.gguf.engine import Engine
from agentkit.models.gguf.vocabulary import FileVocabulary, Piece
from agentkit.models.local.constraint import BeforeAnswer, Constraint, cut_off
from agentkit.models.local.encoding import too_long
from agentkit.models.local.parameters import NO_SEED
from agentkit.models.local.thoughts import ReplyWatch
from agentkit.react_json.marks import TABLE

CLOSING_TOKENS = 64  # of a reply that a grammar holds, for ending well, and as many before for leaving free text
LIKELIEST = 50  # tokens that are looked at where the chosen one may not stand
_ESCAPES = re.compile(r', "json_allowed_escapes": "(?:[^"\\]|\\.)*"')  # not known to every llguidance
TOO_LONG, FULL = "exceed_context_size_error", "Context size has been exceeded"


@dataclass(frozen=True, slots=True)
class Model:
    """What computes replies."""

    engine: Engine
    vocabulary: FileVocabulary
    before_answer: BeforeAnswer
    context: int


class Full(Exception):
    """There is no room for what all slots hold together."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A token that came, with the text it completes. `before` is the part of that text that earlier ones spelled.

    `count` is how many there are, together with those.
    """

    text: str
    id: int | None
    before: bytes = b""
    count: int = 1
    logprob: TokenLogprob | None = None
    others: tuple[tuple[int, float], ...] = ()


class Reply:
    """A reply to `request`, whose prompt stands in `pieces`, which takes what is written."""

    def __init__(
        self,
        model: Model,
        request: ChatRequest,
        pieces: list[Piece],
        *,
        body: dict[str, Any],
        length: int,
        thought: str = "",
    ) -> None:
        self._model = model
        self.request = request
        self._pieces = pieces
        self._start = len(pieces)
        self.body = body
        self._length = length
        self._thought = thought
        limit = request.options.get("max_thinking_tokens")
        self._watch = ReplyWatch(request.stop, model.vocabulary.pieces, max_thinking_tokens=limit)
        self._constraint: Constraint | None = None
        if request.grammar:
            self._constraint = Constraint(
                request.grammar,
                model.vocabulary.for_grammars,
                before=model.before_answer,
                begun=thought,
                forces=False,
                tells_cut=request.holds_values,
            )
        self._grammar = self._for_llama(request.grammar) if request.grammar else ""
        self._count = self._counted = 0
        self._is_begun = self._was_held = False
        self._usage = Usage()
        self.computed = 0
        """Tokens of the prompt that were computed for this reply before it was asked for."""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self.texts: list[str] = []
        """The text of each piece that was written."""

    @property
    def written(self) -> list[Piece]:
        """The tokens of the reply, or its text where they are not known."""
        return self._pieces[self._start :]

    def chunks(self) -> Generator[Chunk]:
        """The reply piece by piece; after `Full`, what is missing of it."""
        if self._thought and not self._is_begun:  # the template began it: so does the reply
            self._watch(self._thought)
            yield Chunk(text=self._thought)
        self._is_begun = True
        reason = None
        while reason is None:
            reason = yield from self._stream() if self._may_stream else self._step()
        yield Chunk(usage=self._usage, finish_reason=reason, metadata=cut_off(self._watch, self._constraint))

    # many tokens at a time

    @property
    def _room(self) -> int:
        return self._length - self._count

    @property
    def _reserve(self) -> int:
        """How many tokens at the end of a reply are for ending well."""
        return min(2 * CLOSING_TOKENS, self._length // 2) if self._constraint else 0

    @property
    def _may_stream(self) -> bool:
        """Whether llama.cpp can go on by itself: with a grammar only where that begins, once."""
        return self._room > self._reserve and (self._constraint is None or not self._was_held)

    def _stream(self) -> Generator[Chunk, None, str | None]:
        """Tokens as llama.cpp writes them; how the reply ended, if it did."""
        body = {**self.body, "prompt": self._prompt(), "n_predict": self._room - self._reserve}
        if self._constraint:
            self._was_held, body["grammar"] = True, self._grammar
        with closing(self._answers(body)) as answers:
            for answer in answers:
                token, reason = self._read(answer)
                if "prompt_progress" in answer:  # for who keeps an eye on the time, or has gone
                    yield Chunk(usage=self._usage)
                if token is not None:
                    if self._constraint and not self._follow(token):
                        return None  # ours knows better
                    yield self._take(token)
                    if self._is_over(token):
                        return "stop"
                    if (yield from self._close_thought()):
                        return None
                if reason and self._constraint and not (reason == "stop" and self._constraint.may_end):
                    yield from self._close_thought()
                    return None
                if reason:
                    return reason
        raise ModelError("llama.cpp ended a reply without saying how; ask again")

    def _for_llama(self, grammar: str) -> str:
        """The grammar of the whole reply, as any llguidance reads it."""
        size, ends = len(self._model.vocabulary.texts), self._model.vocabulary.ends
        before = self._model.before_answer
        if self._thought:
            grammar = before.then(TABLE.thinking[self._thought], grammar, eos=ends)
        else:
            grammar = before.around(grammar, eos=ends)
        if ends:  # llama.cpp lets the one token end a reply that it finds by name, which may be another than the file's
            ended = f"start: whole_reply <[{','.join(map(str, sorted(ends)))}]>?\nwhole_reply:"
            grammar = re.sub(r"^start\s*:", ended, grammar, count=1, flags=re.MULTILINE)
        grammar = _ESCAPES.sub("", re.sub(r"<\[\^([\d,]+)\]>", lambda found: _others(found[1], size), grammar))
        return grammar if grammar.startswith("%llguidance") else f"%llguidance {{}}\n{grammar}"

    # one by one

    def _step(self) -> Generator[Chunk, None, str | None]:
        """The next token, chosen where the grammar or the room says so; how the reply ended, if it did."""
        constraint = self._constraint
        if constraint is None or self._room <= 0:
            return "length"
        closer = None
        if self._room <= self._reserve:
            closer = constraint.closer(text_only=self._room > min(CLOSING_TOKENS, self._length // 3))
        if closer is not None and constraint.ends_content and not constraint.is_cut:
            own, ends = self._next(constraint), self._model.vocabulary.for_grammars.eos
            constraint.is_cut = closer not in (ends if own is None or own.id in ends else {own.id})
        token = self._known(closer) if closer is not None else self._next(constraint)
        if token is None or token.id in self._model.vocabulary.for_grammars.eos:
            return "stop"
        if not self._follow(token):
            return "length"
        yield self._take(token)
        if self._is_over(token):
            return "stop"
        yield from self._close_thought()
        return None

    def _known(self, id_: int) -> _Token:
        special = id_ in self._model.vocabulary.added_tokens_decoder
        data = self._model.vocabulary.bytes_of(id_)
        hidden = special and self._model.vocabulary.texts[id_] not in self.body.get("preserved_tokens", ())
        return _Token("" if hidden else self._characters.decode(data), id_)

    def _next(self, constraint: Constraint) -> _Token | None:
        """The model's own next token, the likeliest that the grammar takes, or any; `None` where it ends the reply."""
        for never_ends in (False, True):
            body = {**self.body, "prompt": self._prompt(), "n_predict": 1, "post_sampling_probs": False}
            body |= {"n_probs": LIKELIEST, "ignore_eos": never_ends}
            if self.body.get("seed") is not None:
                body["seed"] = (self.body["seed"] + self._count) % NO_SEED
            chosen = None
            with closing(self._answers(body)) as answers:
                for answer in answers:
                    token, _ = self._read(answer)
                    chosen = chosen or token
            if chosen is None and constraint.may_end:
                return None
            if chosen is not None and chosen.id is not None:
                break
        if chosen is not None and chosen.id is not None and constraint.allows(chosen.id):
            return self._known(chosen.id)
        others = chosen.others if chosen is not None else ()
        allowed = [(id_, logprob) for id_, logprob in others if constraint.allows(id_)]
        id_ = self._drawn(allowed) if allowed else constraint.first_allowed()
        return None if id_ is None else self._known(id_)

    def _drawn(self, tokens: Sequence[tuple[int, float]]) -> int:
        """One of these, by the temperature of the reply."""
        temperature = self.body["temperature"]
        if not temperature:
            return max(tokens, key=lambda each: each[1])[0]
        seed = self.body.get("seed")
        chance = random.Random(None if seed is None else seed + self._count)
        most = max(logprob for _, logprob in tokens)
        weights = [math.exp((logprob - most) / temperature) for _, logprob in tokens]
        return chance.choices([id_ for id_, _ in tokens], weights)[0]

    # what both do

    def _prompt(self) -> list[Piece] | str:
        return as_prompt(self._pieces)

    def _answers(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """llama.cpp's chunks; raises what it says of errors."""
        self._counted = 0
        with closing(self._model.engine.stream(body)) as answers:
            for answer in answers:
                if FULL in str(answer.get("error", "")):
                    raise Full(in_one_line(answer["error"]["message"], 300))
                check(answer, self._model.context)
                self.body["cache_prompt"] = True  # the slot holds nothing but this reply now
                if (progress := answer.get("prompt_progress")) and not self._usage.prompt_tokens:
                    self._usage = Usage(progress["total"], 0, max(0, progress["cache"] - self.computed))
                yield answer

    def _read(self, answer: Mapping[str, Any]) -> tuple[_Token | None, str | None]:
        """The token of a chunk, if it brings one, and how the reply ended."""
        choice = answer["choices"][0]
        probabilities = (choice.get("logprobs") or {}).get("content") or ()
        if not choice["text"] and not probabilities:
            return None, choice["finish_reason"]
        text, counted = choice["text"].encode(), answer["timings"]["predicted_n"]
        count, self._counted = max(counted - self._counted, 1), counted
        if not probabilities:
            return _Token(choice["text"], None, text, count), choice["finish_reason"]
        last = probabilities[-1]
        if last.get("prob", last.get("logprob", 0.0)) is None:  # what JSON has for NaN; of nothing, it is a number
            raise ModelError("the model computes no numbers (NaN): its file is damaged; download it again")
        spelled = self._model.vocabulary.bytes_of(last["id"])
        before = text.removesuffix(spelled) if text != spelled and text.endswith(spelled) else b""
        others = tuple((each["id"], each.get("logprob", 0.0)) for each in last.get("top_logprobs") or ())
        return _Token(choice["text"], last["id"], before, count, self._logprob(last), others), choice["finish_reason"]

    def _logprob(self, said: Mapping[str, Any]) -> TokenLogprob | None:
        if self.request.top_logprobs is None or "logprob" not in said:
            return None
        top = said["top_logprobs"][: self.request.top_logprobs]
        return TokenLogprob(said["token"], said["logprob"], tuple((each["token"], each["logprob"]) for each in top))

    def _follow(self, token: _Token) -> bool:
        """Whether our grammar takes the token, and those before it that completed no character."""
        assert self._constraint is not None
        before = self._model.vocabulary.for_grammars.tokens.tokenize_bytes(token.before) if token.before else ()
        for id_ in (*before, *(() if token.id is None else (token.id,))):
            if not self._constraint.allows(id_):
                return False
            self._constraint.accept(id_)
        return True

    def _take(self, token: _Token) -> Chunk:
        self._pieces.append(token.text if token.id is None or token.count > 1 else token.id)
        self.texts.append(token.text)
        self._count += token.count
        self._usage = Usage(self._usage.prompt_tokens, self._count, self._usage.cached_tokens)
        logprobs = () if token.logprob is None else (token.logprob,)
        return Chunk(text=token.text, usage=self._usage, logprobs=logprobs)

    def _is_over(self, token: _Token) -> bool:
        """Whether the reply is complete with this token: a stop string came, or all that the grammar allows."""
        for _ in range(token.count - 1):
            self._watch("")
        return self._watch(token.text) or (self._constraint is not None and self._constraint.finished)

    def _close_thought(self) -> Generator[Chunk, None, bool]:
        """Write what closes a thought that may go no further; whether that was done."""
        held = self._constraint is not None
        pieces = self._watch.closing(is_late=held and self._room <= self._reserve, held=held)
        for token in chain.from_iterable(map(self._tokens_of, pieces)):
            if held and not self._follow(token):
                break
            yield self._take(token)
            self._watch(token.text)
        return bool(pieces)

    def _tokens_of(self, piece: Piece) -> list[_Token]:
        if isinstance(piece, int):
            return [self._known(piece)]
        if self._constraint is None:
            return [_Token(piece, None, piece.encode())]
        return [self._known(id_) for id_ in self._model.vocabulary.for_grammars.tokens.tokenize_str(piece)]


def as_prompt(pieces: Sequence[Piece]) -> list[Piece] | str:
    """A prompt as llama.cpp takes it: one text, or tokens and texts among them."""
    if any(isinstance(piece, int) for piece in pieces):
        return list(pieces)
    return "".join(map(str, pieces))


def check(answer: Mapping[str, Any], context: int) -> None:
    """Raise what llama.cpp says of a request that it does not take."""
    if not (error := answer.get("error")):
        return
    if error.get("type") == TOO_LONG:
        raise too_long(error["n_prompt_tokens"], context)
    raise ModelError(f"llama.cpp: {in_one_line(error.get('message') or error, 300)}")


def _others(listed: str, size: int) -> str:
    """All tokens of a vocabulary but those, as ranges."""
    ranges, start = [], 0
    for id_ in [*sorted(map(int, listed.split(","))), size]:
        if id_ > start:
            ranges.append(f"{start}-{id_ - 1}" if id_ - 1 > start else str(start))
        start = id_ + 1
    return f"<[{','.join(ranges)}]>"
