"""The built-in model's tokenizer: words, single digits, single spaces and single punctuation marks, split the same way
wherever they stand, so that a name in the question and in the action is the same row of tokens.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from . import chat
from .conversations import traces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
PIECES = r"[\p{L}\p{M}]+|[^\p{L}\p{M}]"  # a word, or any one other character


def build_tokenizer(seed: int, sample: int = 30_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the words of `sample` generated conversations, with the skeletons as single tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(chat.SKELETONS),
        special_tokens=list(chat.SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = ("".join(text for text, _ in trace.segments()) for trace in itertools.islice(traces(seed), sample))
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in chat.SKELETONS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=chat.BOS,
        eos_token=chat.EOS,
        pad_token=chat.PAD,
        chat_template=chat.CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
