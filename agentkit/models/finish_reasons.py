"""Why a reply ended, in one word for what each server has its own: "stop", "tool_calls", "length", or the server's.

Any other than the first two, also one that nobody has heard of, says that the reply may not be whole.
"""

from __future__ import annotations

import re
from typing import Any

WHOLE = ("stop", "tool_calls")
INCOMPLETE = "incomplete"
"""Of a reply that ended without a reason, and with a call that may not be whole."""
_STOP = (
    "stop eos eos_token stop_token stop_word stop_string stop_sequence stop_sequences word end end_turn end_of_turn "
    "end_of_text end_of_sequence endoftext complete completed finish finished done success"
)
_CALLS = "tool_calls tool_call tool_use function_call function_calls"
_LENGTH = (
    "length max_length length_limit model_length max_tokens max_output_tokens max_new_tokens max_completion_tokens "
    "token_limit limit model_context_window_exceeded"
)
_MEANING = {
    name: meaning
    for meaning, names in (("stop", _STOP), ("tool_calls", _CALLS), ("length", _LENGTH))
    for name in names.split()
}
"""As vLLM, SGLang, TGI, llama.cpp, Ollama, Together, Anthropic, Google, Mistral, Cohere, Bedrock and watsonx say it."""
_AGAIN = re.compile(r"(.+?)\1+")


def finish_reason_of(name: Any) -> str:
    """The reason by its one name; LangChain joins those of a stream's pieces, as in "STOPSTOP"."""
    reason = str(name).strip().lower()
    again = _AGAIN.fullmatch(reason)
    return _MEANING.get(again[1] if again else reason, reason)


def is_cut_off(reason: str) -> bool:
    """Whether a reply that ended so may not be whole."""
    return reason not in WHOLE
