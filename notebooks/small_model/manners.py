"""What needs no tool, and what no tool can do: greetings, facts everyone knows, refusals, other languages, chat."""

from __future__ import annotations

from functools import cache
from random import Random

from agentkit.tool import Tool

from .dialogue import Dialogue
from .names import Names, load_templates

NO_TOOL = "I need no tool for this"
CANNOT = "I have no tool for this"
FOREIGN = "This is not in English"
UNREAD = "I cannot tell what is meant"


@cache
def manners(key: str) -> tuple[str, ...]:
    """The options of one entry of templates/manners.toml."""
    text = load_templates("manners")[key]
    if isinstance(text, list):
        return tuple(text)
    return tuple(option for line in text.strip().split("\n") for option in line.split("|"))


def said(key: str) -> str:
    """One of the fixed answers."""
    return str(load_templates("manners")[key])


def small_talk(random: Random, tools: tuple[Tool, ...]) -> Dialogue:
    """Greetings, thanks, goodbyes, questions about the model itself and its tools."""
    key, answer = random.choice(
        (("greet", "greeted"), ("thank", "thanked"), ("bye", "farewell"), ("self", "selfsaid"), ("can", ""))
    )
    question = random.choice(manners(key)) + random.choice(("", "", "!", ".", "?"))
    if random.random() < 0.2:
        question = question.lower()
    reply = said(answer) if answer else f"I can use these tools: {', '.join(tool.name for tool in tools)}."
    return Dialogue("talk", question, tools, (), reply, NO_TOOL)


@cache
def facts() -> tuple[tuple[str, str], ...]:
    return tuple((fact.split("=")[0], fact.split("=")[1]) for fact in manners("facts"))


def known_fact(random: Random, tools: tuple[Tool, ...]) -> Dialogue:
    """What everyone knows, where there is nothing to look it up with."""
    question, answer = random.choice(facts())
    question = random.choice(manners("before_facts")) + question
    if random.random() < 0.2:
        question = question.lower().rstrip("?")
    return Dialogue("fact", question, tools, (), answer, NO_TOOL)


def unable(kind: str, question: str, tools: tuple[Tool, ...]) -> Dialogue:
    """A request that no tool can serve."""
    return Dialogue(kind, question, tools, (), said("unable"), CANNOT)


def foreign(random: Random, tools: tuple[Tool, ...]) -> Dialogue:
    """A question in another language: one fixed answer, in English."""
    question = Names(random).fill(random.choice(manners("asks_foreign")))
    if random.random() < 0.15:
        question = question.rstrip("?？؟ ")
    return Dialogue("foreign", question, tools, (), said("foreign"), FOREIGN)


def unread(random: Random, tools: tuple[Tool, ...]) -> Dialogue:
    """No question at all."""
    question = Names(random).fill(random.choice(manners("asks_nothing")))
    return Dialogue("unread", question, tools, (), said("unread"), UNREAD)


def chat_prompt(random: Random) -> tuple[str, str]:
    """(system message, request) of plain chat, which the untuned model answers."""
    names = Names(random)
    form = random.choice(manners("chat"))
    topic, other = random.sample(manners("topics"), 2)
    known = {"topic": topic, "topic2": other, "fact": random.choice(facts())[0]}
    known |= {"famous": random.choice(manners("famous")), "code": random.choice(manners("code"))}
    known |= {
        "book": random.choice(manners("books")),
        "realcity": random.choice(load_templates("names")["city"].split()),
    }
    fillers = load_templates("talk")["filler"].strip().split("\n")
    plain = [each for each in fillers if "{e}" not in each and "{an}" not in each]
    known |= {"sentence": names.fill(random.choice(plain)), "sentence2": names.fill(random.choice(plain))}
    return random.choice(manners("chat_systems")), names.fill(form, **known)
