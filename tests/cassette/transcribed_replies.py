"""Writes the cassettes of single replies that were printed, not recorded: a question and what a model answered.

When the question or the printed text changes: python -m tests.cassette.transcribed_replies
"""

from __future__ import annotations

from pathlib import Path

from agentkit.cassette.format.file import Document
from agentkit.cassette.format.place import save
from agentkit.cassette.format.turns import request_body, turn_entry
from agentkit.cassette.format.writer import render

FOLDER = Path(__file__).parents[2] / "cassettes"
MODEL = "HuggingFaceH4/zephyr-7b-beta"
MESSAGES = (
    {"role": "system", "content": "You're a helpful assistant"},
    {"role": "user", "content": "What happens when an unstoppable force meets an immovable object?"},
)
NOTE = "The reply as printed in LangChain's documentation of the chat model for Hugging Face ({address})."
REPLIES = {
    "unstoppable-force": (
        "https://python.langchain.com/docs/integrations/chat/huggingface/, section 'Invocation', where it was cut off "
        "at max_new_tokens",
        "According to the popular phrase and hypothetical scenario, when an unstoppable force meets an immovable "
        "object, a paradoxical situation arises as both forces are seemingly contradictory. On one hand, an "
        "unstoppable force is an entity that cannot be stopped or prevented from moving forward, while on the other "
        "hand, an immovable object is something that cannot be moved or displaced from its position. \n\n"
        "In this scenario, it is un",
    ),
    "unstoppable-force-hub": (
        "https://python.langchain.com/v0.1/docs/integrations/chat/huggingface, section 'Call the model'",
        "According to a popular philosophical paradox, when an unstoppable force meets an immovable object, it is "
        "impossible to determine which one will prevail because both are defined as being completely unyielding and "
        'unmovable. The paradox suggests that the very concepts of "unstoppable force" and "immovable object" are '
        "inherently contradictory, and therefore, it is illogical to imagine a scenario where they would meet and "
        "interact. However, in practical terms, it is highly unlikely for such a scenario to occur in the real world, "
        'as the concepts of "unstoppable force" and "immovable object" are often used metaphorically to describe '
        "hypothetical situations or abstract concepts, rather than physical objects or forces.",
    ),
}


def transcript(name: str) -> str:
    """A file's text."""
    address, reply = REPLIES[name]
    entry = turn_entry(request_body(MODEL, MESSAGES, ()), {"string": reply})
    head = {"transcribed": True, "note": NOTE.format(address=address)}
    return render(Document(items=[entry], head=head, complete=True))


if __name__ == "__main__":
    for name in REPLIES:
        save(FOLDER / f"{name}.yaml", transcript(name))
