"""What life does to a conversation: courtesies and careless typing, malformed turns and wrong tools; and refusals."""

from __future__ import annotations

import re
from random import Random

from agentkit.models.builtin.copying import CANNOT, OUT_OF_REACH

from . import chat
from .names import Names, load_templates
from .traces import Composer, Trace, Turn


def as_written(trace: Trace) -> Trace:
    """The final answer with the capital that the observation has."""
    *before, last = trace.turns
    lead, _, answer = last.text.partition("Final Answer: ")
    seen = "\n".join(turn.observation for turn in before)
    if answer not in seen and answer not in trace.question and answer[:1].upper() + answer[1:] in seen:
        last = Turn(f"{lead}Final Answer: {answer[0].upper()}{answer[1:]}")
    return Trace(trace.kind, trace.question, (*before, last))


def framed(random: Random, trace: Trace) -> Trace:
    """The question with courtesies around it, or typed carelessly."""
    talk, question = load_templates("talk"), trace.question
    if random.random() < 0.5 and trace.kind != "scope":
        before = random.choice(talk["before"])
        question = before + question + random.choice(talk["after"])
    if random.random() < 0.1:
        question = question.rstrip("?.")
    return Trace(trace.kind, question, trace.turns)


def stumbled(random: Random, trace: Trace) -> Trace:
    """Sometimes an earlier turn was malformed or named a wrong tool; the model goes on as if nothing had happened."""
    if random.random() > 0.04 or trace.kind == "scope":
        return trace
    place = random.randrange(len(trace.turns))
    turn = trace.turns[place]
    if random.random() < 0.5:
        bad = random.choice(
            (
                "Thought: I should think about this",
                turn.text.split("\nAction")[0].split("\nFinal")[0],
                turn.text[: len(turn.text) // 2],
            )
        )
        message = random.choice(load_templates("talk")["invalid"])
        stumble = Turn(bad, message, learned=False)
    else:
        tool = random.choice(("Google", "Math", "Lookup", "Wikipedia", "calc", "Answer", "Fly", "Python"))
        bad = turn.text.replace('"action": "Search"', f'"action": "{tool}"').replace(
            '"action": "Calculator"', f'"action": "{tool}"'
        )
        stumble = Turn(bad, f"{tool} is not a valid tool, try one of [Search, Calculator].", learned=False)
        if bad == turn.text:
            return trace
    return Trace(trace.kind, trace.question, (*trace.turns[:place], stumble, *trace.turns[place:]))


def refused(c: Composer) -> Trace:
    """Something that neither tool can do."""
    talk = load_templates("talk")
    lines = talk["scope"].strip().split("\n")
    request = c.random.choice(c.random.choice(lines).split("|"))
    places = {"lit": "lit", "topic": "topic", "lang": "lang"}
    known = {slot: c.random.choice(_options(talk[key])) for slot, key in places.items()}
    request = Names(c.random).fill(request, name=c.names.draw("first"), tongue=c.names.draw("language"), **known)
    if c.random.random() < 0.25:
        request = c.random.choice(talk["can_you"]) + request[0].lower() + request[1:]
    request += c.random.choice(("", ".", "!", "?", "?"))
    return Trace("scope", c.say(request), (Turn(chat.final(OUT_OF_REACH, CANNOT)),))


def _options(text: str) -> list[str]:
    text = (
        text.replace("fairy tale", "fairy_tale").replace("blog post", "blog_post").replace("diary entry", "diary_entry")
    )
    text = re.sub(r"\b(the|my|a|an) (\w+)", r"\1_\2", text)
    return [word.replace("_", " ") for word in text.split()]
