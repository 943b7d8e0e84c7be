"""The pieces of a training conversation: a question, the turns of an agent that solves it, what the tools said.

The wordings are data (templates/).  This file makes the pieces; conversations.py composes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from random import Random

from . import arithmetic, chat
from .names import Names, load_templates
from .observations import observation, value_of
from .relations import Relation, families, relations_of, told

NO_RESULT = "No good search result found"
BRACKETED = re.compile(r"\[([^\]]*)\]")
EXCLUDED = re.compile(r"dicaprio|ceretti|0\.43", re.I)  # the show-case questions


@dataclass(frozen=True)
class Turn:
    """One turn of the model and the observation after it; a turn that is not `learned` carries no loss."""

    text: str
    observation: str = ""
    learned: bool = True


@dataclass(frozen=True)
class Trace:
    """A whole conversation."""

    kind: str
    question: str
    turns: tuple[Turn, ...]

    def segments(self) -> list[tuple[str, bool]]:
        """The flat text in pieces (text, whether the model learns to write it)."""
        pieces = [(f"{chat.BOS}{chat.USER}\n{self.question}\n{chat.ASSISTANT}\n", False)]
        for turn in self.turns:
            pieces.append((turn.text, turn.learned))
            if turn.observation:
                pieces += [("\nObservation:", turn.learned), (f" {turn.observation}\n", False)]
        return [*pieces, (chat.EOS, True)]


def plain(marked: str) -> str:
    return marked.replace("[", "").replace("]", "")


def query_of(marked: str) -> str:
    """The search query that the brackets of a question mark."""
    return " ".join(part.strip() for part in BRACKETED.findall(marked)).replace('"', "").strip()


def number(value: str) -> str:
    """A value of the prose as the calculator takes it."""
    return value.replace(",", "")


class Composer:
    """Draws conversations of every kind."""

    def __init__(self, random: Random) -> None:
        self.random, self.names = random, Names(random)
        self.lower = random.random() < 0.12

    def say(self, text: str) -> str:
        """The text as this user types it."""
        return text.lower() if self.lower else text

    # -- pieces ---------------------------------------------------------------------------------------------------

    def relation(self, **filters: str | bool) -> Relation:
        """A relation of a random family that fits."""
        if not filters and self.random.random() < 0.3:
            return self.random.choice(told())
        while True:
            fitting = relations_of(family=self.random.choice(families()), **filters)
            if fitting:
                return self.random.choice(fitting)

    def entity(self, relation: Relation) -> str:
        return self.names.draw(relation.subject)

    def mention(self, relation: Relation, entity: str) -> str:
        """The entity as the question names it, sometimes with its kind."""
        kinds = load_templates("names")["kinds"].get(relation.subject)
        if kinds and not entity.startswith("the ") and self.random.random() < 0.15:
            return f"the {self.random.choice(kinds.split())} {entity}"
        return f'"{entity}"' if relation.subject == "work" and self.random.random() < 0.08 else entity

    def fill(self, relation: Relation, form: str, mention: str, unit: str) -> str:
        """A question or noun-phrase form with its slots filled; the slots of this conversation stay the same."""
        slots = {**relation.slots, "u": unit}
        known = {name: value for name, value in slots.items() if value}
        return self.names.fill(form, e=mention, **known)

    def settle(self, relation: Relation) -> tuple[Relation, dict[str, str]]:
        """The relation with its inner random slots ({city}, {prize}, {p}) fixed."""
        slots = {key: self.names.fill(text) for key, text in relation.slots.items()}
        if relation.family == "whenact":  # both forms of the verb speak of the same place or prize
            state = self.random.getstate()
            slots["a"] = self.names.fill(relation.slots["a"])
            self.random.setstate(state)
            slots["b"] = self.names.fill(relation.slots["b"])
        known = {"p": self.names.draw("person")} if any("{p}" in form for form in relation.ask) else {}
        return replace(relation, slots={**slots, **known}), known

    def value(self, relation: Relation, form: str) -> tuple[str, str, str]:
        """(value in the prose, unit, the answer): a question for a year gets the year of a date."""
        value, unit = value_of(self.random, relation)
        if relation.value == "year" and self.random.random() < 0.3:
            return f"{self.names.draw('day')} {self.names.draw('month')} {value}", unit, value
        if relation.value == "moment" and re.search(r"\byear\b", form):
            return value, unit, re.findall(r"\d{4}|\d+", value)[-1]
        return value, unit, value

    def asked(self, relation: Relation, form: str, mention: str, unit: str) -> str:
        """The marked question: the form itself, or a noun phrase in a frame, or with another opening."""
        if relation.np and relation.value != "year" and self.random.random() < 0.15:
            phrase = self.fill(relation, self.random.choice(relation.np), mention, unit)
            framed = self.random.choice(load_templates("talk")["phrase"]).replace("{np}", phrase)
            return framed[0].upper() + framed[1:] if self.random.random() < 0.8 else framed
        marked = self.fill(relation, form, mention, unit)
        return self.opened(marked) if self.random.random() < 0.18 else marked

    def opened(self, marked: str) -> str:
        """A question as a subordinate clause: "Can you tell me who ...", "Remind me what the ... is"."""
        opening = self.random.choice(load_templates("talk")["tell_me"])
        inverted = re.fullmatch(r"(What|Who) (is|was) (the )?(\[[^\]]*\])\?", marked)
        if inverted:
            wh, verb, article, rest = inverted.groups()
            return f"{opening}{wh.lower()} {article or ''}{rest} {verb}{self.random.choice('?.')}"
        if re.match(r"\[?(Who|What|When|Where|How|Which|In)\b", marked):
            bracket = "[" if marked.startswith("[") else ""
            rest = marked[len(bracket) :]
            return f"{opening}{bracket}{rest[0].lower()}{rest[1:]}"
        return marked

    def search(self, relation: Relation, query: str, entity: str, value: str, unit: str, **known: str) -> list[Turn]:
        """The turns that find the value; sometimes the first query finds nothing."""
        turn = Turn(chat.action("Search", query), observation(self.random, relation, entity, value, unit, **known))
        if self.random.random() < 0.05:
            other = self.rephrased(relation, query, entity)
            if other != query:
                return [Turn(turn.text, NO_RESULT), Turn(chat.action("Search", other), turn.observation)]
        return [turn]

    def rephrased(self, relation: Relation, query: str, entity: str) -> str:
        """The shorter second query: the entity and the relation's word, where that stands in the first query."""
        bare_entity = entity.removeprefix("the ")
        match = re.search(re.escape(bare_entity), query, re.I)
        if not match:
            return query
        word = relation.slots.get("r", "")
        return f"{match[0]} {word}" if word and re.search(rf"\b{re.escape(word)}\b", query) else match[0]

    def calculation(self, expression: str) -> tuple[list[Turn], str]:
        """The turns that calculate; sometimes the first one fails."""
        result = arithmetic.calculated(expression)
        if result is None:
            raise ArithmeticError(expression)
        turn = Turn(chat.action("Calculator", expression), f"Answer: {result}")
        chance = self.random.random()
        if chance < 0.05:
            error = self.names.fill(self.random.choice(load_templates("talk")["error"]))
            wrong = self.random.choice((expression, self.spoiled(expression)))
            return [Turn(chat.action("Calculator", wrong), error, learned=wrong == expression), turn], result
        return [turn], result

    def spoiled(self, expression: str) -> str:
        """A slip of the pen: what a wrong first turn may look like."""
        place = self.random.randrange(len(expression))
        return self.random.choice(
            (
                expression[:place] + "x" + expression[place:],
                expression + "+",
                f"({expression}",
                expression.replace("*", " times ").replace("^", " power "),
                expression[:-1],
            )
        )
