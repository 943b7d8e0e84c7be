"""Conversations about two things: which is larger, by how much, how many years apart."""

from __future__ import annotations

import functools

from . import chat
from .names import load_templates
from .observations import observation
from .relations import Relation, relations_of
from .traces import Composer, Trace, Turn, number


@functools.cache
def comparable() -> tuple[Relation, ...]:
    """Measured relations whose comparative stands for this noun alone, ages more often."""
    nouns = ("height", "length", "depth", "width", "weight", "age", "speed", "area", "price", "net worth", "population")
    fitting = [r for r in relations_of(numeric=True) if r.slots.get("cmp") and r.slots["r"] in nouns]
    return (*fitting, *relations_of(family="age") * 8, *relations_of(family="population") * 2)


def years_apart(c: Composer) -> Trace:
    """Two dates looked up and the years between them."""
    relation, _ = c.settle(c.random.choice(relations_of(family="when")))
    first, second = c.entity(relation), c.entity(relation)
    earlier, later = sorted(c.random.sample(range(1500, 2024), 2))
    form = c.random.choice(load_templates("relations")["compare"]["years"])
    participle = relation.slots["b"]
    question = c.names.fill(form, e=first, f=second, b=participle)
    turns = []
    for entity, year in ((first, earlier), (second, later)):
        query = c.say(f"{entity.removeprefix('the ')} {participle}")
        turns.append(Turn(chat.action("Search", query), observation(c.random, relation, entity, str(year), "")))
    more, result = c.calculation(f"{later}-{earlier}")
    return Trace("compare", c.say(question), (*turns, *more, Turn(chat.final(result))))


def compared(c: Composer) -> Trace:
    """Two things looked up and compared or combined; the larger one is told by the sign of the difference."""
    if c.random.random() < 0.1:
        return years_apart(c)
    counts = c.random.random() < 0.25
    pool = relations_of(family="count") if counts else comparable()
    relation, _ = c.settle(c.random.choice(pool))
    first, second = c.entity(relation), c.entity(relation)
    values = [c.value(relation, "") for _ in range(2)]
    unit = values[0][1]
    size = lambda value: float(number(value[0]))  # noqa: E731
    group = c.random.choice(("difference", "difference", "total", "which"))
    if not counts:
        group = c.random.choice((group, group, group, "ratio"))
        group = "who" if group == "which" and relation.subject == "person" else group
    form = c.random.choice(load_templates("relations")["compare"][f"count_{group}" if counts else group])
    if group in ("difference", "ratio") and ("{cmp}" in form or " more " in form):
        values.sort(key=size, reverse=True)
    slots = {"u": unit or "points", "r": relation.slots["r"], "cmp": relation.slots.get("cmp", "")}
    question = c.names.fill(form, e=first, f=second, **slots)
    turns = []
    for entity, (value, _, _) in zip((first, second), values, strict=True):
        query = c.say(f"{entity.removeprefix('the ')} {relation.slots['r']}")
        turns.append(Turn(chat.action("Search", query), observation(c.random, relation, entity, value, unit)))
    operator = {"total": "+", "ratio": "/"}.get(group, "-")
    if "difference" in form:  # without a sign: the larger minus the smaller
        values.sort(key=size, reverse=True)
    more, result = c.calculation(operator.join(number(value) for value, _, _ in values))
    if group in ("which", "who"):
        result = c.say(second if result.startswith("-") else first)
    return Trace("compare", c.say(question), (*turns, *more, Turn(chat.final(result))))
