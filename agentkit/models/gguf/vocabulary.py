"""The vocabulary and the chat templates that a GGUF file holds, as templates, prompts and grammars ask a tokenizer.

Text stays text: llama.cpp, which is given the prompt in pieces, encodes it. Only special tokens are ids here already.
"""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from agentkit.errors import ConfigurationError, import_failure
from agentkit.models.local.constraint import GrammarVocabulary, guidance
from agentkit.models.local.gguf_file import GgufFile, Values

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
"""Kinds of tokens, where they are no plain text (`llama_token_type`)."""
NAMED = ("bos", "eos", "unknown", "padding")
ENDS = ("eos", "eot", "eom")
"""The tokens that a file names, and those of them that end a reply."""
TEMPLATE = "tokenizer.chat_template"
CUT_HERE = "(the message ends here) "
_MARKUP = re.compile(
    r"<[|｜][^|｜<>\s]+[|｜]>"
)  # what llama.cpp takes for a special token even where the file does not
_SPELLED_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
Piece = int | str
"""A token, or text that llama.cpp encodes by itself: what comes before and after does not join it."""


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token beyond the trained vocabulary; no text spells one that is `special`."""

    text: str
    special: bool

    def __str__(self) -> str:
        return self.text


def check_ends(file: GgufFile) -> None:
    """Refuse a beginning or an end of replies that is no token: llama.cpp takes another one for it, without a word."""
    tokens = file.fields.get("tokenizer.ggml.tokens")
    there = tokens.count if isinstance(tokens, Values) else 0
    for name in ("bos", *ENDS) if there else ():
        token = file.fields.get(f"tokenizer.ggml.{name}_token_id")
        if type(token) is int and not 0 <= token < there:
            raise ConfigurationError(
                f"{file.path} says that its {name} is token {token}, and has {there} tokens; download it again, or "
                "take another"
            )


class FileVocabulary:
    """What `ChatTemplate`, `PromptEncoder` and `BeforeAnswer` ask of a tokenizer, by what a file says."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        texts, kinds = file.values("tokenizer.ggml.tokens"), file.values("tokenizer.ggml.token_type")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigurationError(f"{file.path} holds no vocabulary; give a model that is made for llama.cpp")
        self.texts: list[str] = texts
        self._kinds: list[int] = kinds if isinstance(kinds, list) and len(kinds) == len(texts) else [1] * len(texts)
        named = {name: file.values(f"tokenizer.ggml.{name}_token_id") for name in {*NAMED, *ENDS}}
        self._named = {name: id_ for name, id_ in named.items() if type(id_) is int and 0 <= id_ < len(texts)}
        special = {id_ for id_, kind in enumerate(self._kinds) if kind in (CONTROL, UNKNOWN)}
        special |= {*self._named.values()} | {id_ for id_, text in enumerate(texts) if _MARKUP.fullmatch(text)}
        user_defined = {id_ for id_, kind in enumerate(self._kinds) if kind == USER_DEFINED} - special
        self.added_tokens_decoder = {
            id_: AddedToken(texts[id_], id_ in special) for id_ in sorted(special | user_defined)
        }
        self._ids = {texts[id_]: id_ for id_ in sorted(special, reverse=True) if texts[id_]}
        self._is_byte_level = file.values("tokenizer.ggml.model") == "gpt2"
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._ids, key=len, reverse=True))) or r"(?!)")
        self.chat_template = self._template()

    def _template(self) -> Any:
        """The file's own template, or those that it has by names."""
        fields = self._file.fields
        own = {name.removeprefix(f"{TEMPLATE}."): text for name, text in fields.items() if name.startswith(TEMPLATE)}
        own = {name: text for name, text in own.items() if isinstance(text, str) and text.strip()}
        default = own.pop(TEMPLATE, None)
        return {"default": default, **own} if own and default else default or next(iter(own.values()), None)

    # what a tokenizer of transformers is asked

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The texts of tokens by the names that templates call them."""
        names = {"unknown": "unk", "padding": "pad"}
        return {f"{names.get(name, name)}_token": self.texts[id_] for name, id_ in self._named.items() if name in NAMED}

    @property
    def unk_token(self) -> str | None:
        """What stands for what the vocabulary does not hold."""
        return self.special_tokens_map.get("unk_token")

    @property
    def all_special_tokens(self) -> list[str]:
        """The texts of those that no text spells."""
        return list(self._ids)

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return list(self._ids.values())

    def get_added_vocab(self) -> dict[str, int]:
        """The added tokens by their texts."""
        return {str(token): id_ for id_, token in self.added_tokens_decoder.items()}

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a special token."""
        return self._ids.get(token)

    def convert_ids_to_tokens(self, ids: int | Sequence[Piece]) -> str | list[str]:
        """The text of a token, or the texts of the pieces of a prompt."""
        if isinstance(ids, int):
            return self.texts[ids]
        return [self.texts[piece] if isinstance(piece, int) else piece for piece in ids]

    def __call__(self, text: str, *, add_special_tokens: bool = False) -> dict[str, list[Piece]]:
        """`pieces`, as a tokenizer gives them; nothing is added."""
        return {"input_ids": self.pieces(text)}

    def pieces(self, text: str) -> list[Piece]:
        """A text with its special tokens as ids."""
        pieces, end = list[Piece](), 0
        for found in self._pattern.finditer(text):
            pieces += [text[end : found.start()], self._ids[found[0]]]
            end = found.end()
        return [piece for piece in (*pieces, text[end:]) if piece != ""]

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        chat_template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        continue_final_message: bool = False,
        tokenize: bool = False,
        **variables: Any,
    ) -> str:
        """What a template makes of messages, as transformers would have it; raises what templates raise."""
        own = self.chat_template
        if isinstance(own, Mapping):
            own = own.get("tool_use", own["default"]) if tools else own["default"]
        read = [{name: part for name, part in message.items() if part is not None} for message in messages]
        if continue_final_message:
            read[-1]["content"] = f"{read[-1]['content']}{CUT_HERE}"
        given = {**self.special_tokens_map, **variables, "messages": read, "tools": tools}
        text: str = compiled(chat_template or own).render(**given)
        if not continue_final_message:
            return text
        if CUT_HERE.strip() not in text:
            raise ValueError("the template leaves out a part of the message that is to go on")
        text, _, behind = text.rpartition(CUT_HERE.strip())
        return text if behind.startswith(" ") else text.rstrip()

    # what prompts and grammars ask

    @property
    def joins_pieces(self) -> bool:
        """Whether text that is encoded piece by piece has a space in front of every piece (sentencepiece's)."""
        adds = self._file.values("tokenizer.ggml.add_space_prefix")
        return self._file.values("tokenizer.ggml.model") == "llama" and adds is not False

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a reply."""
        return frozenset(self._named[name] for name in ENDS if name in self._named)

    @cached_property
    def for_grammars(self) -> GrammarVocabulary:
        """The vocabulary as grammars need it."""
        library, ends = guidance(), sorted(self.ends)
        made: list[Any] = []
        wrapped = _Wrapped(
            eos_token_id=ends[0] if ends else 0,
            bos_token_id=self._named.get("bos"),
            tokens=[self.bytes_of(id_) for id_ in range(len(self.texts))],
            special_token_ids=[id_ for id_, token in self.added_tokens_decoder.items() if token.special],
            split=lambda text: made[0].greedy_tokenize(text) if made else [],
        )
        made.append(library.LLTokenizer(library.TokenizerWrapper(wrapped), eos_token=ends or None))
        weakref.finalize(self, made.clear)  # no collector sees that the two hold each other
        return GrammarVocabulary(made[0], eos=ends, decode=lambda ids: "".join(map(self._text, ids)))

    def _text(self, id_: int) -> str:
        special = id_ in self.added_tokens_decoder
        return self.texts[id_] if special else self.bytes_of(id_).decode("utf-8", "replace")

    def bytes_of(self, id_: int) -> bytes:
        """What a token stands for."""
        text = self.texts[id_]
        if id_ in self.added_tokens_decoder:
            return text.encode()
        if self._is_byte_level:
            try:
                return text.translate(_as_latin_1()).encode("latin-1")
            except UnicodeEncodeError:  # not spelled so
                return text.encode()
        if self._kinds[id_] == BYTE and (spelled := _SPELLED_BYTE.fullmatch(text)):
            return bytes([int(spelled[1], 16)])
        return text.replace("▁", " ").encode()


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A tokenizer as llguidance asks one; text is split into the longest tokens, which is as good for a grammar."""

    eos_token_id: int
    bos_token_id: int | None
    tokens: list[bytes]
    special_token_ids: list[int]
    split: Callable[[str], list[int]]

    def __call__(self, text: bytes | str) -> list[int]:
        return list(self.split(text if isinstance(text, str) else text.decode("utf-8", "replace")))


@lru_cache(maxsize=1)
def byte_letters() -> Mapping[str, int]:
    """The letters in which byte-level vocabularies write bytes that are none of their own (GPT-2's)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {**{chr(byte): byte for byte in printed}, **{chr(256 + at): byte for at, byte in enumerate(others)}}


@lru_cache(maxsize=1)
def _as_latin_1() -> Mapping[int, int]:
    """Those letters as the characters of their bytes; what is none of them as one that is no byte."""
    letters = byte_letters()
    return dict.fromkeys(range(256), 65535) | {ord(letter): byte for letter, byte in letters.items()}


@lru_cache(maxsize=16)
def compiled(template: str) -> Any:
    """A chat template in a sandbox, with what transformers gives it."""
    try:
        import jinja2.ext
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise ConfigurationError(import_failure(error, "jinja2", purpose="for chat templates")) from error

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, **more)

    plain = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", template)  # a tag of transformers' own, for training
    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    sandbox.filters["tojson"] = as_json
    sandbox.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return sandbox.from_string(plain)
