"""Holds a reply to a grammar: which tokens may come next, and which must (llguidance). A thought comes before it."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError, import_failure, in_one_line
from agentkit.models.backend import ENDED_AT_LIMIT
from agentkit.react_json.marks import MARKUP, TABLE, Marks, Pairs, Tags

if TYPE_CHECKING:
    import torch

    from agentkit.models.local.thoughts import ReplyWatch

CLOSERS = ("}", "]", '"', "\n", "`", ",", "0", "e", "l", "u")
"""What ends an object, a list, a string, an item; or goes on to the end of a number, of true, of null."""
INSIDE = "q"  # where this may stand, so may nearly anything: inside a string, or in free text
GOES_ON = "\nAction:"  # what may end the free text of a turn; an argument's is what ends it in the table of marks
REPEATS, LEAST_REPEATED, LONGEST_PERIOD = 3, 24, 16  # times and tokens of a repetition, tokens of what is repeated
MOST_COMPILED = 16  # grammars that are kept
MOST_THOUGHTS = 4  # one after the other, before what a grammar holds


class GrammarVocabulary:
    """A model's vocabulary, prepared once for all grammars (about 1 s for 150,000 tokens)."""

    def __init__(self, tokens: Any, *, eos: Sequence[int], decode: Callable[..., str]) -> None:
        """`tokens` is llguidance's own form of it; `decode` gives the text of ids, special tokens among them."""
        self.size = tokens.vocab_size
        self.eos = frozenset(eos)
        self.tokens = tokens
        single = {text: self.tokens.tokenize_str(text) for text in (*CLOSERS, INSIDE)}
        self.single = {text: ids[0] for text, ids in single.items() if len(ids) == 1}
        styles = [syntax.arguments for syntax in TABLE.calls]
        tags = [style.closing for style in styles if isinstance(style, Tags)]
        quotes = [style.quote for style in styles if isinstance(style, Pairs) and not style.is_python]
        self.text_ends = self._tokens_of(GOES_ON, *tags, *quotes)
        self.call_ends = self._tokens_of(*(syntax.closing for syntax in TABLE.calls if syntax.closing))
        self.text = decode
        self._compiled: dict[str, Any] = {}

    @classmethod
    def of(cls, tokenizer: Any, *, size: int, eos: Sequence[int]) -> GrammarVocabulary:
        """That of a tokenizer of transformers."""
        guidance()
        import llguidance.hf

        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigurationError(
                f'grammars need a fast tokenizer, saw {type(tokenizer).__name__}; turn them off with constrain="off"'
            )
        tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=list(eos))
        return cls(tokens, eos=eos, decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False)))

    def matcher(self, grammar: str) -> Any:
        """Follows a grammar from its beginning; those of the last turns are not compiled again."""
        from llguidance import LLMatcher

        compiled = self._compiled.pop(grammar, None)
        if compiled is None:
            compiled = LLMatcher(self.tokens, LLMatcher.grammar_from_lark(grammar), log_level=0)
        self._compiled[grammar] = compiled
        while len(self._compiled) > MOST_COMPILED:
            self._compiled.pop(next(iter(self._compiled)), None)
        return compiled.deep_copy()

    def _tokens_of(self, *texts: str) -> list[list[int]]:
        return [self.tokens.tokenize_str(text, parse_special=True) for text in dict.fromkeys(texts)]


def guidance() -> Any:
    """The library that follows grammars; raises `ConfigurationError` where it is not there."""
    try:
        import llguidance
    except ImportError as error:
        reason = import_failure(error, "llguidance", purpose="for grammars")
        raise ConfigurationError(f'{reason}, or turn grammars off with constrain="off"') from error
    return llguidance


@lru_cache(maxsize=MOST_COMPILED)
def check_grammar(grammar: str) -> None:
    """Raise `ConfigurationError` for one that llguidance cannot read: llama.cpp goes on without any."""
    if (problem := refusal(grammar)) is not None:
        raise _no_grammar(problem)


def refusal(grammar: str) -> str | None:
    """Why llguidance cannot follow a grammar; None for one that it can."""
    matcher = guidance().LLMatcher
    return matcher.validate_grammar(matcher.grammar_from_lark(grammar)) or None


def _no_grammar(problem: str) -> ConfigurationError:
    return ConfigurationError(f"expected a grammar llguidance can follow, saw: {in_one_line(problem, 300)}")


class BeforeAnswer:
    """What a model may write in front of the part of a reply that a grammar holds: thoughts, and a channel's name.

    Those are the table's whose tags are tokens of the vocabulary, or stand in `template`, the chat template and what it
    writes: a model that was never shown a tag is not offered it. A closing that ends turns, too, shows nothing, and a
    channel's name of tokens and words is another family's where the words are not shown.
    """

    def __init__(self, tokenizer: Any, *, template: str = "", table: Marks = TABLE) -> None:
        added = tokenizer.get_added_vocab()

        def in_vocabulary(tag: str) -> bool:
            return tag in added or (bool(pieces := MARKUP.findall(tag)) and {*pieces} <= added.keys())

        def is_known(opening: str, closing: str) -> bool:
            is_shown = opening in template or (closing in template and closing not in table.turn_ends)
            return is_shown or (in_vocabulary(opening) and in_vocabulary(closing))

        self._tokens = added
        self._pieces = re.compile("(" + "|".join(map(re.escape, sorted(added, key=len, reverse=True))) + ")")
        self.thoughts = {opening: closing for opening, closing in table.thinking.items() if is_known(opening, closing)}
        shown = tuple(mark for mark in table.preludes if mark in template)
        self.preludes = [
            mark for mark in table.preludes if mark in added or (in_vocabulary(mark) and mark.endswith(shown))
        ]

    @property
    def grammar(self) -> str:
        """A grammar for one of them as far as it opens; "" where there is none."""
        marks = [self._written(mark) for mark in (*self.thoughts, *self.preludes)]
        return f"start: ({' | '.join(marks)}) NEWLINE?\nNEWLINE: /\\n/\n" if marks else ""

    def opened_by(self, text: str) -> str | None:
        """What closes the thought that `text` opens; "" where it opens the answer, None where it opens nothing."""
        text = text.strip()
        found = max((m for m in (*self.thoughts, *self.preludes) if text.endswith(m)), key=len, default=None)
        return None if found is None else self.thoughts.get(found, "")

    def then(self, closing: str, grammar: str, *, eos: Iterable[int]) -> str:
        """The grammar of the rest of a thought that `closing` ends, more of them, and what `grammar` holds."""
        rest, rules = self._rest(closing, eos)
        return _put_before(grammar, f"start: {rest} what_is_held", *rules)

    def around(self, grammar: str, *, eos: Iterable[int]) -> str:
        """The grammar of a whole reply: thoughts, where the model knows any, and what `grammar` holds."""
        if not self.grammar:
            return grammar
        starts = ["what_is_held", *(f"{self._written(mark)} NEWLINE? what_is_held" for mark in self.preludes)]
        rules = ["NEWLINE: /\\n/"]
        for number, (opening, closing) in enumerate(self.thoughts.items()):
            rest, others = self._rest(closing, eos, f"rest_{number}")
            starts.append(f"{self._written(opening)} NEWLINE? {rest} what_is_held")
            rules += others
        return _put_before(grammar, f"start: {' | '.join(starts)}", *dict.fromkeys(rules))

    def _rest(self, closing: str, eos: Iterable[int], name: str = "thought_rest") -> tuple[str, list[str]]:
        """The symbols for the rest of a thought and for more of them, and the rules that these need."""
        rules = ["NEWLINES: /\\n{1,2}/"]
        first = self.token_of(closing)
        if first is None:  # only text can close it
            spelled = re.escape(closing).replace("/", r"\/")
            rest = name
            rules.append(f"{name}[lazy]: /(.|\\n)*{spelled}/")
        else:
            others = ",".join(map(str, sorted({first, *eos})))
            rest = f"<[^{others}]>* {self._written(closing)}"
        begin = self._beginning(closing)
        again, preludes = (
            [
                f"{self._written(begin)} {self._written(mark.removeprefix(begin))}"  # apart, as where a call follows
                for mark in marks
                if mark.startswith(begin) and self.token_of(mark) is not None
            ]
            for marks in ([mark for mark, end in self.thoughts.items() if end == closing], self.preludes)
        )
        if again and first is not None:
            rest += f" (NEWLINES? ({' | '.join(again)}) {rest}){{0,{MOST_THOUGHTS - 1}}}"
        opened = f" ({' | '.join(preludes)})?" if preludes else ""
        return f"{rest} NEWLINES?{opened}", rules

    def _beginning(self, closing: str) -> str:
        """What begins the next message where a thought is one, up to what says its channel; else ""."""
        marks = [mark for mark, end in self.thoughts.items() if end == closing]
        begins = (mark.removesuffix(other).rstrip() for mark in marks for other in marks if mark != other)
        return next((begin for begin in begins if begin not in marks and self.token_of(begin) is not None), "")

    def token_of(self, mark: str) -> int | None:
        """The token that a mark begins with, where it does: it is never taken for text."""
        begun = self._pieces.match(mark) if self._tokens else None
        return self._tokens[begun[0]] if begun else None

    def _written(self, text: str) -> str:
        """The symbols for a mark; words may stand behind a blank, as templates write them behind a role's name."""
        if text[:1].isalpha():
            return f"({self._symbols(text)} | {self._symbols(f' {text}')})"
        return self._symbols(text)

    def _symbols(self, text: str) -> str:
        pieces = self._pieces.split(text) if self._tokens else [text]
        return " ".join(
            f"<[{self._tokens[piece]}]>" if piece in self._tokens else json.dumps(piece, ensure_ascii=False)
            for piece in pieces
            if piece
        )


def _put_before(grammar: str, *lines: str) -> str:
    """A grammar with other rules in front, the first of which stands for its start and calls that `what_is_held`."""
    return re.sub(r"^start\s*:", lambda _: "\n".join([*lines, "what_is_held:"]), grammar, count=1, flags=re.MULTILINE)


def cut_off(watch: ReplyWatch, constraint: Constraint | None) -> dict[str, Any] | None:
    """What a reply says of what was ended for it: a thought, after how many tokens, and content at its limit."""
    told: dict[str, Any] = {"thinking_cut_off": watch.thinking_tokens} if watch.is_cut else {}
    if constraint is not None and constraint.is_cut:
        told[ENDED_AT_LIMIT] = True
    return told or None


class Constraint:
    """One reply's place in a grammar (Lark text for llguidance), which holds once the model has thought.

    `before` is what may come in front; `begun` is the tag of a thought which the prompt has begun. Without `forces`,
    it only follows what is written, and takes no token that must come by itself. With `tells_cut`, it watches for
    content that is ended at the limit: calls and values of a schema, which nobody would see to be cut off.
    """

    def __init__(
        self,
        grammar: str,
        vocabulary: GrammarVocabulary,
        *,
        before: BeforeAnswer | None = None,
        begun: str = "",
        forces: bool = True,
        tells_cut: bool = False,
    ) -> None:
        self._vocabulary = vocabulary
        self._grammar = grammar
        self._marks = before
        self._forces = forces
        self._bits: Any = None  # of the mask
        self._ending: list[int] = []
        self._written: deque[int] = deque(maxlen=LONGEST_PERIOD * REPEATS)
        self._tells_cut = tells_cut
        self.is_cut = False
        """Whether what the model had to say was ended for it, at the limit of its length."""
        self.ends_content = False
        """Whether the last `closer` may do so."""
        self._repeats = False  # a thought that goes in circles, which has to end
        self._opening: Any = None  # what follows the beginning of a tag, while the reply may be one
        self._begun: list[int] = []
        self._closing: int | None = None  # the token that ends the thought
        self._closed: int | None = None  # the token that ended it, while another thought may begin
        self._is_answer = True  # as far as it goes, the reply is what the grammar holds
        if before is not None and begun:
            grammar = self._after(TABLE.thinking[begun], before)
        elif before is not None and before.grammar:
            self._opening = self._matching(before.grammar)
        self._matcher = self._matching(grammar)

    def _after(self, closing: str, before: BeforeAnswer) -> str:
        """The grammar of what comes when a thought has begun."""
        self._closing = before.token_of(closing)
        return before.then(closing, self._grammar, eos=self._vocabulary.eos)

    def _matching(self, grammar: str) -> Any:
        matcher = self._vocabulary.matcher(grammar)
        self._check(matcher)
        return matcher

    @property
    def finished(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self._is_answer and self._matcher.is_stopped()

    @property
    def may_end(self) -> bool:
        """Whether the reply may end here."""
        return bool(self._is_answer and self._matcher.is_accepting())

    def allowed(self) -> torch.Tensor:
        """A mask (vocabulary,) of the tokens that may come next."""
        import torch

        if self._repeats:
            mask = torch.zeros(self._vocabulary.size, dtype=torch.bool)
            mask[self._vocabulary.text_ends[0][0]] = True
            return mask
        if self._opening is None:
            return self._mask(self._matcher)
        opening = self._mask(self._opening)
        return opening | self._mask(self._matcher) if self._is_answer else opening

    def first_allowed(self) -> int | None:
        """One of the tokens that may come next, if any may."""
        if self._repeats:
            return self._vocabulary.text_ends[0][0]
        return _lowest(self._matcher if self._is_answer else self._opening)

    def _mask(self, matcher: Any) -> torch.Tensor:
        import numpy
        import torch

        if self._bits is None:
            self._bits = numpy.zeros((self._vocabulary.size + 31) // 32, dtype=numpy.int32)
        matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check(matcher)
        bits = numpy.unpackbits(self._bits.view(numpy.uint8), bitorder="little")
        return torch.from_numpy(bits[: self._vocabulary.size].view(numpy.bool_))

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; far cheaper than the whole mask."""
        if token in self._vocabulary.eos:
            return self.may_end
        if self._repeats:
            return token == self._vocabulary.text_ends[0][0]
        return self._answers(token) or self._opens(token)

    def _answers(self, token: int) -> bool:
        return self._is_answer and self._matcher.validate_tokens([token]) == 1

    def _opens(self, token: int) -> bool:
        return self._opening is not None and self._opening.validate_tokens([token]) == 1

    def begin(self) -> list[int]:
        """The tokens every reply begins with, already taken; none is certain while the model may still think."""
        return [] if self._opening is not None else self._forced()

    def closer(self, *, text_only: bool = False) -> int | None:
        """A token that brings the reply nearer to its end: for when there is little room left.

        `text_only`: only one that ends free text, after which a reply has more to say than after the last of its JSON.
        """
        self.ends_content = False
        if not self._is_answer:
            return _lowest(self._opening)
        if self._closing is not None and self._matcher.validate_tokens([self._closing]):
            return self._closing
        if self._ending:
            return self._ending[0]
        if self._matcher.is_accepting():
            self.ends_content = self._tells_cut and not text_only
            return None if text_only else min(self._vocabulary.eos, default=None)
        single = self._vocabulary.single
        inside = INSIDE in single and self.allows(single[INSIDE])
        endings = self._vocabulary.text_ends if inside else [] if text_only else self._vocabulary.call_ends
        for ending in endings:  # what more text may follow is a part of the text itself
            if self._matcher.validate_tokens([*ending, single.get(INSIDE, ending[-1])]) == len(ending):
                self._ending = list(ending)
                self.ends_content = self._tells_cut and not inside
                return ending[0]
        if text_only:
            return None
        self.ends_content = self._tells_cut
        order = ('"',) if inside else CLOSERS
        return next((single[text] for text in order if text in single and self.allows(single[text])), None)

    def accept(self, token: int) -> list[int]:
        """Take `token`; the tokens that must follow it, already taken."""
        if self._opening is not None:
            return self._accept_first(token)
        self._follow_thought(token)
        self._ending = self._ending[1:] if self._ending[:1] == [token] else []
        self._matcher.consume_token(token)
        self._check(self._matcher)
        self._written.append(token)
        goes_on = self._vocabulary.text_ends[0]
        self._repeats = repeats(self._written) and self._matcher.validate_tokens(goes_on) == len(goes_on)
        return [] if self._ending else self._forced()

    def _follow_thought(self, token: int) -> None:
        if token == self._closing:
            self._closing, self._closed = None, token
        elif self._closed is not None and self._vocabulary.text([token]).strip():
            assert self._marks is not None
            begins = token in {self._marks.token_of(mark) for mark in self._marks.thoughts}
            self._closing, self._closed = self._closed if begins else None, None

    def _accept_first(self, token: int) -> list[int]:
        """Take a token of a reply that may yet turn out to open a thought."""
        opens, answers = self._opens(token), self._answers(token)
        if not opens:
            self._opening = None
            return self.accept(token)
        self._begun.append(token)
        self._opening.consume_token(token)
        self._is_answer = answers
        if not self._opening.is_accepting():
            if answers:
                self._matcher.consume_token(token)
            return []
        assert self._marks is not None
        closing = self._marks.opened_by(self._vocabulary.text(self._begun))
        self._opening, self._is_answer = None, True
        self._matcher = self._matching(self._after(closing, self._marks) if closing else self._grammar)
        return self._forced()

    def _forced(self) -> list[int]:
        forced: list[int] = self._matcher.compute_ff_tokens() if self._forces else []
        if forced:
            self._matcher.consume_tokens(forced)
            self._check(self._matcher)
        return forced

    def _check(self, matcher: Any) -> None:
        if matcher.is_error():
            raise _no_grammar(matcher.get_error())


def _lowest(matcher: Any) -> int | None:
    """The first of the tokens that may come next."""
    mask = int.from_bytes(matcher.compute_bitmask(), "little")
    return (mask & -mask).bit_length() - 1 if mask else None


def repeats(tokens: Sequence[int]) -> bool:
    """Whether text ends in the same piece, three times and 24 tokens long at the least."""
    newest = [*tokens][::-1]
    for period in range(1, LONGEST_PERIOD + 1):
        length = max(period * REPEATS, LEAST_REPEATED)
        if len(newest) >= length and newest[period:length] == newest[: length - period]:
            return True
    return False


def begun_thought(prompt: str) -> str:
    """The tag with which a prompt has begun the model's thought; "" where it has not."""
    end = prompt.rstrip()
    return max((tag for tag in TABLE.thinking if end.endswith(tag)), key=len, default="")
