"""Whole training conversations: one, two and three steps, comparisons, recoveries, refusals.

`traces(seed)` is an endless, deterministic stream of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from agentkit.models.builtin.copying import NOT_FOUND, NOTHING

from . import arithmetic, chat
from .arithmetic import fill_numbers, reworded, wordings
from .comparisons import compared
from .mishaps import as_written, framed, refused, stumbled
from .names import load_templates
from .observations import irrelevant, observation
from .relations import Relation, relations_of
from .traces import EXCLUDED, NO_RESULT, Composer, Trace, Turn, number, plain, query_of

PRONOUNS = {"he": ("he", "his"), "she": ("she", "her")}
PERSONS = ("that person", "this person", "the person", "that man", "that woman")


def calculator(c: Composer) -> Trace:
    question, expression = arithmetic.one_step(c.random)
    if question[0].islower() or c.random.random() < 0.85:
        pass
    elif re.match(
        "(Add|Multiply|Divide|Subtract|Calculate|Raise|Take|Find|Compute|Double|Halve|Square|Split)", question
    ):
        polite = c.random.choice(load_templates("talk")["can_you"])
        question = polite + question[0].lower() + question[1:].rstrip(".") + c.random.choice("?.")
    turns, result = c.calculation(expression)
    return Trace("calculator", c.say(question), (*turns, Turn(chat.final(result))))


def one_search(c: Composer) -> Trace:
    relation, known = c.settle(c.relation())
    form = c.random.choice(relation.ask)
    entity = c.entity(relation)
    value, unit, answer = c.value(relation, form)
    marked = c.asked(relation, form, c.mention(relation, entity), unit)
    if relation.value == "moment" and re.search(r"\byear\b", marked):
        answer = re.findall(r"\d{4}|\d+", value)[-1]
    elif relation.value == "moment":
        answer = value
    query = c.say(query_of(marked))
    chance = c.random.random()
    if chance < 0.06:
        return missing(c, relation, c.say(plain(marked)), query, entity)
    turns = c.search(relation, query, entity, value, unit, **known)
    return Trace("search", c.say(plain(marked)), (*turns, Turn(chat.final(answer))))


def missing(c: Composer, relation: Relation, question: str, query: str, entity: str) -> Trace:
    """Nothing is found, or nothing that answers: one shorter query, then an honest end."""
    nothing = lambda: NO_RESULT if c.random.random() < 0.6 else irrelevant(c.random, relation, entity)  # noqa: E731
    turns = [Turn(chat.action("Search", query), nothing())]
    other = c.rephrased(relation, query, entity)
    if other != query:
        turns.append(Turn(chat.action("Search", other), nothing()))
    return Trace("missing", question, (*turns, Turn(chat.final(NOT_FOUND, NOTHING))))


def nested(c: Composer, outer: Relation, inner: Relation, form: str) -> tuple[str, list[Turn], str, str, str]:
    """Two hops, "the mother of the director of X": (marked question, turns so far, query 2, middle, unit)."""
    entity = c.entity(inner)
    middle, middle_unit, _ = c.value(inner, "")
    noun_phrase = c.fill(inner, c.random.choice(inner.np), c.mention(inner, entity), middle_unit)
    unit = c.random.choice(outer.value.split(":")[3].split() or [""]) if outer.value.startswith("number") else ""
    template = c.fill(outer, form, "\0", unit)
    turns = c.search(inner, c.say(query_of(noun_phrase)), entity, middle, middle_unit)
    query = c.say(query_of(template)).replace("\0", middle)
    question = plain(template).replace("\0", plain(noun_phrase))
    return question, turns, query, middle, unit


def with_inner(c: Composer, outer: Relation) -> Relation | None:
    """A relation whose value can be the subject of `outer`."""
    value = {
        "person": "person",
        "country": "country",
        "city": "town",
        "work": "work",
        "company": "company",
        "team": "team",
        "mountain": "mountain",
        "building": "building",
        "river": "river",
    }.get(outer.subject)
    fitting = [r for r in relations_of(value=value) if r.np and not any("{p}" in f for f in r.np)] if value else []
    if not fitting:
        return None
    family = c.random.choice([r.family for r in fitting[::3]] or [fitting[0].family])
    return c.settle(c.random.choice([r for r in fitting if r.family == family] or fitting))[0]


def outer_and_inner(c: Composer, **filters: bool) -> tuple[Relation, Relation]:
    while True:
        outer, _ = c.settle(c.relation(**filters))
        inner = with_inner(c, outer)
        if inner is not None and not any("{p}" in form for form in outer.ask) and (outer.np or not filters):
            return outer, inner


def two_searches(c: Composer) -> Trace:
    outer, inner = outer_and_inner(c)
    if c.random.random() < 0.45:
        return asked_twice(c, outer, inner)
    forms = [form for form in outer.ask if "{e}'s" not in form and not form.startswith("[{")]
    form = c.random.choice(forms)
    question, turns, query, middle, unit = nested(c, outer, inner, form)
    value, _, answer = c.value(outer, form)
    turns.append(Turn(chat.action("Search", query), observation(c.random, outer, middle, value, unit)))
    return Trace("two", c.say(question), (*turns, Turn(chat.final(answer))))


def pronouns(c: Composer, inner: Relation) -> tuple[str, str]:
    if inner.value == "person":
        if c.random.random() < 0.12:
            person = c.random.choice(PERSONS)
            return person, f"{person}'s"
        gender = inner.slots.get("pronoun") or c.random.choice(("he", "she"))
        return PRONOUNS[gender]
    return "it", "its"


def referring(form: str, pronoun: str, possessive: str) -> str:
    return form.replace("{e}'s", possessive).replace("{e}", pronoun)


def refers(form: str) -> bool:
    """Whether a pronoun can stand for the entity in this form."""
    return "{e}'s" in form or bool(
        re.search(r"(is|was|did|does|has|are|were|when|where|how \w+|how many \w+) (\[)?\{e\}", form, re.I)
    )


def second_query(form: str, middle: str) -> str:
    return query_of(form.replace("{e}'s", "{e}").replace("{e}", middle))


def asked_twice(c: Composer, outer: Relation, inner: Relation) -> Trace:
    """ "Who founded X and when was he born?": the answer names both."""
    forms = [form for form in outer.ask if refers(form)]
    if not forms:
        outer = c.random.choice(relations_of(family="age"))
        forms = [form for form in outer.ask if refers(form)]
        inner = with_inner(c, outer) or inner
    form = c.random.choice(forms)
    entity = c.entity(inner)
    middle, unit, answer = c.value(inner, "")
    first_form = c.random.choice([f for f in inner.ask if "{p}" not in f] or inner.ask)
    first = c.fill(inner, first_form, c.mention(inner, entity), unit)
    value, unit2, answer2 = c.value(outer, form)
    settled = c.fill(outer, form.replace("{e}", "\0"), "", unit2).replace("\0", "{e}")
    second = referring(settled, *pronouns(c, inner))
    turns = c.search(inner, c.say(query_of(first)), entity, middle, unit)
    query = c.say(second_query(settled, "\0")).replace("\0", middle)
    turns.append(Turn(chat.action("Search", query), observation(c.random, outer, middle, value, unit2)))
    return Trace(
        "two", c.say(joined(c, plain(first), plain(second))), (*turns, Turn(chat.final(f"{answer}, {answer2}")))
    )


def joined(c: Composer, first: str, second: str) -> str:
    """Two questions as two sentences or one."""
    if c.random.random() < 0.5:
        return f"{first} {second[0].upper()}{second[1:]}"
    return (
        first.rstrip("?.")
        + c.random.choice((" and ", " and ", ", and ", ", and then ", "; "))
        + second[0].lower()
        + second[1:]
    )


def looked_up_calculation(c: Composer) -> Trace:
    """One search, then arithmetic on what was found."""
    relation, known = c.settle(c.relation(numeric=True))
    while not relation.np:
        relation, known = c.settle(c.relation(numeric=True))
    entity = c.entity(relation)
    value, unit, answer = c.value(relation, "year")
    mention = c.mention(relation, entity)
    if c.random.random() < 0.25:
        asked = c.asked(relation, c.random.choice(relation.ask), mention, unit)
        sequel, expression = fill_numbers(c.random, *c.random.choice(wordings("it")))
        question, query = joined(c, plain(asked), sequel), query_of(asked)
    else:
        phrase = c.fill(relation, c.random.choice(relation.np), mention, unit)
        wording, expression = fill_numbers(c.random, *c.random.choice(wordings("apply")))
        question, query = reworded(c.random, wording).replace("{x}", plain(phrase)), query_of(phrase)
    turns = c.search(relation, c.say(query), entity, value, unit, **known)
    more, result = c.calculation(expression.replace("{x}", number(answer)))
    return Trace("two", c.say(question), (*turns, *more, Turn(chat.final(result))))


def three_steps(c: Composer) -> Trace:
    """Two searches, then arithmetic: nested, or asked one after the other as in the seeds' question."""
    outer, inner = outer_and_inner(c, numeric=True)
    if c.random.random() < 0.6:
        outer = c.random.choice(relations_of(family="age"))
        inner = with_inner(c, outer) or inner
    wording, expression = fill_numbers(c.random, *c.random.choice(wordings("apply")))
    possessive_forms = [form for form in outer.np if "{e}'s" in form]
    value, unit, answer = c.value(outer, "year")
    if possessive_forms and c.random.random() < 0.6:
        form = c.random.choice(possessive_forms)
        entity = c.entity(inner)
        middle, middle_unit, first_answer = c.value(inner, "")
        first = c.fill(
            inner,
            c.random.choice([f for f in inner.ask if "{p}" not in f] or inner.ask),
            c.mention(inner, entity),
            middle_unit,
        )
        settled = c.fill(outer, form.replace("{e}", "\0"), "", unit).replace("\0", "{e}")
        second = wording.replace("{x}", plain(referring(settled, *pronouns(c, inner))))
        question = joined(c, plain(first), second)
        turns = c.search(inner, c.say(query_of(first)), entity, middle, middle_unit)
        query = c.say(second_query(settled, "\0")).replace("\0", middle)
        lead = f"{first_answer}, "
    else:
        form = c.random.choice([f for f in outer.np if "{e}'s" not in f] or list(outer.np))
        phrase, turns, query, middle, unit = nested(c, outer, inner, form)
        question, lead = reworded(c.random, wording).replace("{x}", phrase), ""
    turns.append(Turn(chat.action("Search", query), observation(c.random, outer, middle, value, unit)))
    more, result = c.calculation(expression.replace("{x}", number(answer)))
    return Trace("three", c.say(question), (*turns, *more, Turn(chat.final(lead + result))))


KINDS = (
    (calculator, 30),
    (one_search, 46),
    (looked_up_calculation, 10),
    (two_searches, 13),
    (three_steps, 10),
    (compared, 6),
    (refused, 8),
)


def conversation(random: Random) -> Trace:
    """One conversation of a random kind; never the show-case questions."""
    while True:
        build = random.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
        try:
            trace = build(Composer(random))
        except ArithmeticError:
            continue
        trace = framed(random, as_written(trace))
        if not EXCLUDED.search(trace.question) and "{" not in trace.question:
            return stumbled(random, trace)


def traces(seed: int) -> Iterator[Trace]:
    """An endless stream; the same seed gives the same conversations."""
    random = Random(seed)
    while True:
        yield conversation(random)
