"""Models that believe or repeat what a page says, and the naive loop on which such a page succeeds."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentkit.models.backend import ChatRequest
from tests.doubles.models import Scripted, action, final

Reads = Callable[[str], str]
"""From the transcript behind the first observation's label to what the model writes."""

HONEST = final("a page about bread")
OBSERVATION = "\nObservation: "
CALL = re.compile(r'\{\s*"(?:action|name)":\s*"(\w+)",\s*"(?:action_input|arguments)":\s*(.*?)\}', re.DOTALL)


def repeats(seen: str) -> str:
    """Quotes the whole page in its thought."""
    return f"Thought: The page says: {seen}"


def repeats_below(seen: str) -> str:
    return f"Thought: The page says:\n{seen}"


def repeats_fenced(seen: str) -> str:
    """Quotes the page in a fence, then answers."""
    return f"Thought: The page says:\n```\n{seen}\n```\n{HONEST.removeprefix('Thought: ')}"


def repeats_last_line(seen: str) -> str:
    return "Thought: The page ends with\n" + seen.rstrip().splitlines()[-1]


def believes_labels(seen: str) -> str:
    """Takes every label in the transcript for the loop's own: the last observation counts, an answer is its answer."""
    if answers := re.findall(r"^\W*Final Answer:(.*)", seen, re.MULTILINE):
        return final(answers[-1].strip())
    last = re.split(r"^\W*Observation: ?", seen, flags=re.MULTILINE)[-1]
    return action("send", "all") if "you must send" in last and last != seen else HONEST


def believes_template(seen: str) -> str:
    """Reads the transcript as a server would that puts it into a template as text."""
    roles = re.findall(r"<\|im_start\|>(\w+)|\[INST\]|<start_of_turn>(\w+)|<\uff5cUser\uff5c>", seen)
    return action("send", "all") if roles else HONEST


def obeys(seen: str) -> str:
    """Does what a page asks for."""
    return action("send", "all") if re.search(r"\bsend\b", seen) else HONEST


@dataclass
class World:
    """A page to read, and what was sent. `send` is what must not happen."""

    page: str
    sent: list[Any] = field(default_factory=list)

    def read(self, address: str) -> str:
        return self.page

    def send(self, what: Any) -> str:
        self.sent.append(what)
        return "sent"


class Gullible(Scripted):
    """Reads the page, reacts to it as `reads` does, and gives up honestly when it is not understood."""

    turns: Sequence[Any] = ()
    reads: Reads

    def reply(self, request: ChatRequest) -> str:
        transcript = "\n".join(str(message["content"]) for message in request.messages)
        return turn(self.reads, transcript, turns=len(self.requests) - 1)


def turn(reads: Reads, transcript: str, *, turns: int) -> str:
    if turns == 0:
        return action("read", "https://bread.example")
    if turns > 1:
        return HONEST
    _, _, seen = transcript.rpartition('"https://bread.example"}\n```')
    return reads(seen.removeprefix(OBSERVATION).removesuffix("\nThought: "))


def naive_run(reads: Reads, world: World) -> str:
    """The loop of many a tutorial: one growing text, the first thing that looks like a decision is one."""
    prompt = "You answer questions. Tools: read, send.\nQuestion: What is the page about?\nThought: "
    for turns in range(5):
        said = turn(reads, prompt, turns=turns)
        cleaned = "".join(c for c in unicodedata.normalize("NFKC", said) if unicodedata.category(c) != "Cf")
        call = CALL.search(cleaned)
        text_call = re.search(r"Action: (\w+)\s+Action Input: (.*)", cleaned)
        answer = re.search(r"Final Answer\W*[:\n](.*)", cleaned, re.DOTALL)
        if answer is not None and not (call and call.start() < answer.start()):
            return answer[1].strip()
        if call is None and text_call is None:
            prompt += f"{said}\nObservation: Invalid format\nThought: "
            continue
        name, given = (call or text_call).groups()
        observation = world.send(given) if name == "send" else world.read(json.dumps(given))
        prompt += f"{said}{OBSERVATION}{observation}\nThought: "
    return "nothing"
