"""The conversations that the model `small` learns from: those of the built-in model with any tools, and more kinds.

`dialogues(seed)` is an endless, deterministic stream of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from agentkit.errors import MalformedTurn, ToolError
from agentkit.react_json.parser import parse_turn
from agentkit.tool import Tool, does_not_fit
from agentkit.tools.calculator import calculate

from . import arithmetic, conversations
from .arithmetic import fill_numbers, reworded, wordings
from .comparisons import comparable, compared
from .contrasts import contrasted, priced
from .dialogue import KNOW, Dialogue, Form, Step
from .errands import Errand, Kind, Skinned, any_kind, errand, kinds, others, skinned
from .manners import facts, foreign, known_fact, manners, said, small_talk, unable, unread
from .mishaps import as_written, framed, refused, stumbled
from .names import load_templates
from .observations import observation
from .relations import Relation, relations_of
from .toolkit import (
    PLAIN_CALCULATOR,
    PLAIN_SEARCH,
    Skin,
    calculator_skin,
    printed_results,
    printed_value,
    search_skin,
    texts,
    value_text,
)
from .traces import EXCLUDED, NO_RESULT, Composer, Trace, Turn, number, plain, query_of

ACTION = re.compile(r"Action:\n```json\n(.*)\n```\Z", re.DOTALL)
QUIET = ("population_data", "patient_record", "inventory", "account_balance", "order_status", "air_quality", "bmi")


class Unfit(Exception):
    """A draw that makes no good conversation; another is made."""


@dataclass(frozen=True)
class Part:
    """A question or noun phrase with the bare actions that find its answer: (role, input, observation).

    Roles are "search", "calculate", or "errand", whose input is an `Errand`. `value` is the number in the answer.
    """

    text: str
    actions: tuple[tuple[str, Any, str], ...]
    answer: str
    value: str = ""
    about: str = ""


class Kit:
    """The tools of one conversation, or of several (`settled`)."""

    def __init__(self, random: Random) -> None:
        self.random = random
        usual = random.random() < 0.34
        self.search = PLAIN_SEARCH if usual else search_skin(random)
        self.calculator = PLAIN_CALCULATOR if usual else calculator_skin(random)
        if self.search.tool.name.casefold() == self.calculator.tool.name.casefold():
            self.search, self.calculator = PLAIN_SEARCH, PLAIN_CALCULATOR
        self.usual = usual
        self.skins: list[Skinned] = []  # of all other tools that were drawn
        self.settled: tuple[Tool, ...] = ()

    def settle(self, tools: tuple[Tool, ...]) -> None:
        """All conversations from now on have these tools."""
        self.settled, self.skins = tools, [skin for skin in self.skins if skin.tool in tools]

    def skinned(self, fits: Callable[[Kind], bool] = lambda _: True, *, counted: bool = False) -> Skinned:
        """Some tool for an errand, of a kind that fits; `counted` asks for one that tells a number."""
        if self.settled:
            fitting = [skin for skin in self.skins if fits(skin.kind) and (skin.kind.np or not counted)]
            if not fitting:
                raise Unfit
            return self.random.choice(fitting)
        kind = any_kind(self.random, counted=counted)
        if not fits(kind):
            kind = self.random.choice([each for each in kinds() if fits(each) and (each.np or not counted)])
        return self._kept(skinned(self.random, kind))

    def _kept(self, skin: Skinned) -> Skinned:
        self.skins.append(skin)
        return skin

    def tools(self, needed: Sequence[Tool], *, without: Sequence[str] = (), quiet: bool = False) -> tuple[Tool, ...]:
        """The needed tools among others, in any order; `without` names roles that must be missing."""
        random = self.random
        roles = (("search", self.search), ("calculate", self.calculator))
        if self.settled:
            missing = [skin.tool for role, skin in roles if role in without]
            loud = quiet and any(skin.kind.names[0] not in QUIET for skin in self.skins)
            if loud or any(tool not in self.settled for tool in needed) or any(t in self.settled for t in missing):
                raise Unfit
            return self.settled
        held = {each.name: each for each in needed}
        for role, skin in roles:
            if role not in without and random.random() < (0.94 if self.usual else 0.6):
                held.setdefault(skin.tool.name, skin.tool)
        most = random.choices((0, 1, 2, 3, 4, 6), (50, 17, 14, 10, 6, 3))[0]
        if most and not quiet:
            but = [*held.values(), self.search.tool, self.calculator.tool]
            held |= {each.tool.name: self._kept(each).tool for each in others(random, most, but)}
        elif most or not held:
            calm = [kind for kind in kinds() if kind.names[0] in QUIET]
            for kind in random.sample(calm, max(1, min(most, 3))):
                made = self._kept(skinned(random, kind)).tool
                held.setdefault(made.name, made)
        if len({name.casefold() for name in held}) < len(held):
            raise Unfit
        order = list(held.values())
        random.shuffle(order)
        return tuple(order)


# -- from bare actions to steps ----------------------------------------------------------------------------------------


def planned(place: int, count: int, deed: str) -> str:
    """A thought that says what is done now, and whether more is to come."""
    if count == 1:
        return f"I need to {deed}"
    word = "First" if place == 0 else "Last" if place == count - 1 else "Next"
    return f"{word} I need to {deed}"


def deed_of(kit: Kit, role: str, given: Any) -> str:
    if role == "search":
        return f"look up {given}"
    if role == "calculate":
        return f"calculate {given}"
    arguments = ", ".join(f"{name} {_short(value)}" for name, value in given.arguments.items())
    return f"use {given.tool.name} with {arguments}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def steps_of(kit: Kit, actions: Sequence[tuple[str, Any, str]], about: str = "") -> tuple[Step, ...]:
    """The steps of bare actions, sometimes with one that fails first."""
    steps: list[Step] = []
    for place, (role, given, seen) in enumerate(actions):
        thought = planned(place, len(actions), deed_of(kit, role, given))
        if role == "errand":
            steps += _errand_steps(kit, thought, given)
            continue
        skin = kit.search if role == "search" else kit.calculator
        if role == "calculate":
            value = value_text(given)
            if value is None:
                raise Unfit
            seen = printed_value(skin, given, value)
        else:
            seen = printed_results(kit.random, skin, seen, about or str(given))
        step = Step(thought, skin.tool.name, skin.input_of(given), seen)
        if kit.random.random() < 0.02:
            failed = kit.random.choice(texts("failure")).replace("{tool}", skin.tool.name)
            steps += [replace(step, observation=failed), replace(step, thought=again(deed_of(kit, role, given)))]
        else:
            steps.append(step)
    return tuple(steps)


def again(deed: str) -> str:
    return f"That did not work, so I need to {deed}"


def _errand_steps(kit: Kit, thought: str, given: Errand) -> list[Step]:
    step = Step(thought, given.tool.name, given.arguments, given.observation)
    chance = kit.random.random()
    required = [name for name in given.tool.schema["required"] if name in given.arguments]
    if chance < 0.04 and required:
        missing = kit.random.choice(required)
        short = {name: value for name, value in given.arguments.items() if name != missing}
        wrong = str(does_not_fit(given.tool.name, f"{missing}: missing", given.tool.schema))
        return [Step(thought, given.tool.name, short, wrong, learned=False), step]
    if chance < 0.06:
        failed = kit.random.choice(texts("failure")).replace("{tool}", given.tool.name)
        deed = deed_of(kit, "errand", given)
        return [replace(step, observation=failed), replace(step, thought=again(deed))]
    return [step]


def needed_tools(kit: Kit, actions: Sequence[tuple[str, Any, str]]) -> list[Tool]:
    skins = {"search": kit.search.tool, "calculate": kit.calculator.tool}
    return [given.tool if role == "errand" else skins[role] for role, given, _ in actions]


def dialogue(kit: Kit, kind: str, part: Part, *, answer: str = "", **more: Any) -> Dialogue:
    """The conversation that answers one part."""
    tools = kit.tools(needed_tools(kit, part.actions))
    return Dialogue(kind, part.text, tools, steps_of(kit, part.actions, part.about), answer or part.answer, **more)


# -- the built-in model's conversations, with these tools --------------------------------------------------------------


def adapted(kit: Kit, trace: Trace) -> Dialogue:
    """A conversation of the built-in model told with the tools of `kit`; raises `Unfit`."""
    tools = kit.tools(
        [kit.search.tool, kit.calculator.tool][: 2 if _calculates(trace) else 1]
        if _searches(trace)
        else [kit.calculator.tool]
    )
    schemas = {tool.name: tool.schema for tool in tools}
    *turns, last = trace.turns
    retries = {n for n in range(1, len(turns)) if trace.kind == "missing" or _failed(turns[n - 1])}
    count, place = len(turns) - len(retries), -1
    steps: list[Step] = []
    renamed: dict[str, str] = {}
    for index, turn in enumerate(turns):
        is_retry = index in retries
        place += 0 if is_retry else 1
        match = ACTION.search(turn.text)
        if match is None:
            try:
                parse_turn(turn.text, schemas)
            except MalformedTurn as error:
                steps.append(Step("", "", "", str(error), raw=turn.text, own_words=True, learned=False))
                continue
            raise Unfit
        call = json.loads(match[1])
        role = {"Search": "search", "Calculator": "calculate"}.get(call["action"], "")
        given = call["action_input"]
        for old, new in renamed.items():
            given = given.replace(old, new)
        deed = deed_of(kit, "calculate" if "calculate" in turn.text.split("\n")[0] else "search", given)
        thought = planned(max(place, 0), count, deed)
        if is_retry and turns[index - 1].learned:
            thought = again(deed)
        if not role:
            names = ", ".join(tool.name for tool in tools)
            if call["action"] in schemas:
                raise Unfit
            seen = f"{call['action']} is not a valid tool, try one of [{names}]."
            steps.append(Step(thought, call["action"], given, seen, learned=False))
            continue
        skin = kit.search if role == "search" else kit.calculator
        steps.append(
            Step(
                thought,
                skin.tool.name,
                skin.input_of(given),
                _seen(kit, skin, role, given, turn, renamed),
                learned=turn.learned,
            )
        )
    thought, _, answer = last.text.removeprefix("Thought: ").partition("\nFinal Answer: ")
    for old, new in renamed.items():
        answer = answer.replace(old, new)
    if thought == conversations.NOTHING:
        return Dialogue("missing", trace.question, tools, tuple(steps), said("notfound"), "My tools gave no answer")
    return Dialogue(trace.kind, trace.question, tools, tuple(steps), answer)


def _seen(kit: Kit, skin: Skin, role: str, given: str, turn: Turn, renamed: dict[str, str]) -> str:
    if role == "calculate" and turn.observation.startswith("Answer: "):
        value = value_text(given)
        if value is None:
            raise Unfit
        old = turn.observation.removeprefix("Answer: ")
        if old != value:
            renamed[old] = value
        return printed_value(skin, given, value)
    if role == "calculate":
        if turn.learned:
            return kit.random.choice(texts("failure")).replace("{tool}", skin.tool.name)
        try:
            calculate(given)
        except ToolError as error:
            return str(error)
        raise Unfit
    if turn.observation == NO_RESULT:
        return NO_RESULT if skin is PLAIN_SEARCH else kit.random.choice(texts("nothing"))
    return printed_results(kit.random, skin, turn.observation, given)


def _failed(turn: Turn) -> bool:
    """Whether the next turn is another try at the same thing."""
    return (
        not turn.learned
        or turn.observation == NO_RESULT
        or ('"Calculator"' in turn.text and not turn.observation.startswith("Answer: "))
    )


def _calculates(trace: Trace) -> bool:
    return any('"action": "Calculator"' in turn.text for turn in trace.turns)


def _searches(trace: Trace) -> bool:
    return any('"action": "Search"' in turn.text for turn in trace.turns)


def from_builtin(build: Callable[[Composer], Trace]) -> Callable[[Kit], Dialogue]:
    """A kind of conversation of the built-in model."""

    def make(kit: Kit) -> Dialogue:
        random = kit.random
        trace = framed(random, as_written(build(Composer(random))))
        queries = re.findall(r'"action": "Search", "action_input": "([^"]*)"', "\n".join(t.text for t in trace.turns))
        if any(len(query.split()) < 2 for query in queries[:1]):
            raise Unfit
        if trace.kind == "calculator":
            trace = Trace(trace.kind, oddly_written(random, trace.question), trace.turns)
        return adapted(kit, stumbled(random, trace))

    return make


def oddly_written(random: Random, question: str) -> str:
    """Numbers as some countries write them: 3,5 and 1 000 000; the calculator gets 3.5 and 1000000."""
    if re.search(r"\d,\d", question) or random.random() > 0.2:
        return question
    if random.random() < 0.5:
        return re.sub(r"\b(\d+)\.(\d{1,2})\b", r"\1,\2", question)
    return re.sub(
        r"(?<![\d.,])\d{4,9}(?![\d.,]?\d)",
        lambda m: f"{int(m[0]):,}".replace(",", random.choice((" ", " ", "'"))),
        question,
    )


# -- parts -------------------------------------------------------------------------------------------------------------


def searched(c: Composer, relation: Relation | None = None, *, entity: str = "") -> Part:
    """A question that one search answers."""
    relation, known = c.settle(relation or c.relation())
    form = c.random.choice(relation.ask)
    entity = entity or c.entity(relation)
    value, unit, answer = c.value(relation, form)
    marked = c.asked(relation, form, c.mention(relation, entity), unit)
    if relation.value == "moment":
        answer = re.findall(r"\d{4}|\d+", value)[-1] if re.search(r"\byear\b", marked) else value
    query = query_of(marked)
    if len(query.split()) < 2:
        raise Unfit
    seen = observation(c.random, relation, entity, value, unit, **known)
    return Part(plain(marked), (("search", query, seen),), answer, number(answer), entity)


def calculated(c: Composer) -> Part:
    """A question that one calculation answers."""
    question, expression = arithmetic.one_step(c.random)
    value = value_text(expression)
    if value is None:
        raise Unfit
    return Part(question, (("calculate", expression, ""),), value, value)


def numeric_relation(c: Composer) -> tuple[Relation, dict[str, str]]:
    while True:
        relation, known = c.settle(c.relation(numeric=True))
        if relation.np:
            return relation, known


def quantity(c: Composer, kit: Kit, *, nested: bool = False, errands: float = 0.15) -> Part:
    """A noun phrase for a number, with what finds it: a search, two, or a tool."""
    if nested:
        outer, inner = conversations.outer_and_inner(c, numeric=True)
        form = c.random.choice([f for f in outer.np if "{e}'s" not in f] or list(outer.np))
        phrase, turns, query, middle, unit = conversations.nested(c, outer, inner, form)
        if len(turns) != 1:
            raise Unfit
        first = json.loads(ACTION.search(turns[0].text)[1])["action_input"]  # type: ignore[index]
        value, _, answer = c.value(outer, "year")
        seen = observation(c.random, outer, middle, value, unit)
        actions = (("search", first, turns[0].observation), ("search", query, seen))
        return Part(plain(phrase), actions, answer, number(answer), middle)
    if c.random.random() < errands:
        made = errand(c.random, kit.skinned(counted=True), phrase=True)
        return Part(made.question, (("errand", made, ""),), made.answer, made.value)
    relation, known = numeric_relation(c)
    entity = c.entity(relation)
    value, unit, answer = c.value(relation, "year")
    phrase = c.fill(relation, c.random.choice(relation.np), c.mention(relation, entity), unit)
    query = query_of(phrase)
    if len(query.split()) < 2:
        raise Unfit
    seen = observation(c.random, relation, entity, value, unit, **known)
    return Part(plain(phrase), (("search", query, seen),), answer, number(answer), entity)


PAIRS = (
    ("What is the difference between {x} and {y}?", "large-small"),
    ("By how much do {x} and {y} differ?", "large-small"),
    ("What is {x} plus {y}?", "x+y"),
    ("Add {x} to {y}.", "x+y"),
    ("What is the sum of {x} and {y}?", "x+y"),
    ("What do {x} and {y} come to together?", "x+y"),
    ("Multiply {x} by {y}.", "x*y"),
    ("What is {x} times {y}?", "x*y"),
    ("What is the product of {x} and {y}?", "x*y"),
    ("Divide {x} by {y}.", "x/y"),
    ("What is the ratio of {x} to {y}?", "x/y"),
    ("Subtract {y} from {x}.", "x-y"),
    ("What is {x} minus {y}?", "x-y"),
    ("What is the average of {x} and {y}?", "(x+y)/2"),
    ("How much larger is {x} than {y}?", "x-y"),
    ("Find {x} and {y}, then add them.", "x+y"),
    ("Look up {x} and {y} and multiply them.", "x*y"),
    ("Tell me {x} divided by {y}.", "x/y"),
    ("Take {x}, then take away {y}.", "x-y"),
    ("Half of {x} plus {y}?", "x/2+y"),
    ("Twice {x} minus {y}?", "2*x-y"),
    ("What percentage of {y} is {x}?", "x/y*100"),
    ("Look up {x} and {y}. How far apart are the two?", "large-small"),
    ("I need {x} and {y}. What do they add up to?", "x+y"),
    ("{x} and {y}: how large is the gap?", "large-small"),
    ("How many times does {y} fit into {x}?", "x/y"),
    ("First find {x}, then {y}. What is the first minus the second?", "x-y"),
    ("What is left of {x} after taking away {y}?", "x-y"),
    ("How many do {x} and {y} make?", "x+y"),
    ("{x} per {y}: what number is that?", "x/y"),
    ("Find the mean of {x} and {y}.", "(x+y)/2"),
    ("{x} times {y}, please.", "x*y"),
)


def combined(kit: Kit, first: Part, second: Part, kind: str) -> Dialogue:
    """Two numbers found and calculated with."""
    form, rule = kit.random.choice(PAIRS)
    x, y = first.value, second.value
    if not (re.fullmatch(r"\d+(\.\d+)?", x) and re.fullmatch(r"\d+(\.\d+)?", y)):
        raise Unfit
    large, small = (x, y) if float(x) >= float(y) else (y, x)
    expression = rule.replace("large", large).replace("small", small)
    expression = re.sub(r"\b[xy]\b", lambda m: x if m[0] == "x" else y, expression)
    actions = (*first.actions, *second.actions, ("calculate", expression, ""))
    value = value_text(expression)
    if value is None:
        raise Unfit
    texts = {"x": first.text, "y": second.text}
    question = re.sub(r"\{([xy])\}", lambda m: texts[m[1]], form)
    question = reworded(kit.random, question[0].upper() + question[1:])
    return dialogue(kit, kind, Part(question, actions, value))


# -- kinds -------------------------------------------------------------------------------------------------------------


def pair(kit: Kit) -> Dialogue:
    c = Composer(kit.random)
    return combined(kit, quantity(c, kit), quantity(c, kit), "three")


def four(kit: Kit) -> Dialogue:
    c = Composer(kit.random)
    first, second = quantity(c, kit, nested=True), quantity(c, kit)
    if kit.random.random() < 0.5:
        first, second = second, first
    return combined(kit, first, second, "four")


BOTH = (
    "Give me {x} and {y}.",
    "What are {x} and {y}?",
    "Tell me both {x} and {y}.",
    "Find out {x} and also {y}",
    "Please look up {x} and {y}.",
    "{x}, and {y}?",
    "List {x}, then {y}.",
)


def told(kit: Kit, first: Part, second: Part) -> Dialogue:
    """Two numbers found and told, not calculated with."""
    form = kit.random.choice(BOTH)
    question = form.replace("{x}", first.text).replace("{y}", second.text)
    actions = (*first.actions, *second.actions)
    part = Part(question[0].upper() + question[1:], actions, f"{first.answer}, {second.answer}")
    return dialogue(kit, "two", part)


def both(kit: Kit) -> Dialogue:
    c = Composer(kit.random)
    return told(kit, quantity(c, kit), quantity(c, kit))


def twice(kit: Kit) -> Dialogue:
    """One tool for two things, whose numbers are told or calculated with."""
    skin = kit.skinned(counted=True)
    made = [errand(kit.random, skin, phrase=True) for _ in range(2)]
    if made[0].arguments == made[1].arguments:
        raise Unfit
    first, second = (Part(each.question, (("errand", each, ""),), each.answer, each.value) for each in made)
    return told(kit, first, second) if kit.random.random() < 0.3 else combined(kit, first, second, "three")


def larger_by(kit: Kit) -> Dialogue:
    """Which of two is larger, and by how much: the answer names both."""
    c = Composer(kit.random)
    relation, _ = c.settle(c.random.choice(comparable()))
    names = [c.entity(relation) for _ in range(2)]
    values = [c.value(relation, "") for _ in range(2)]
    numbers = [number(value) for value, _, _ in values]
    form = c.random.choice(load_templates("relations")["compare"]["who" if relation.subject == "person" else "which"])
    slots = {"u": values[0][1] or "points", "r": relation.slots["r"], "cmp": relation.slots.get("cmp", "")}
    question = c.names.fill(form, e=names[0], f=names[1], **slots).rstrip("?. ")
    question += c.random.choice((" and by how much?", ", and by how many?", ", and how large is the difference?"))
    actions = []
    for name, (value, unit, _) in zip(names, values, strict=True):
        query = c.say(f"{name.removeprefix('the ')} {relation.slots['r']}")
        actions.append(("search", query, observation(c.random, relation, name, value, unit)))
    large, small = sorted((0, 1), key=lambda place: float(numbers[place]), reverse=True)
    expression = f"{numbers[large]}-{numbers[small]}"
    apart = value_text(expression)
    if apart is None or apart == "0":
        raise Unfit
    part = Part(question, (*actions, ("calculate", expression, "")), f"{names[large]}, {apart}")
    return dialogue(kit, "compare", part)


def chain(kit: Kit) -> Dialogue:
    """Three searches, each for what the one before found: the home town of the wife of the director of X."""
    c = Composer(kit.random)
    outer, middle = conversations.outer_and_inner(c)
    inner = conversations.with_inner(c, middle)
    forms = [form for form in middle.np if "{e}'s" not in form]
    asks = [form for form in outer.ask if "{e}'s" not in form and not form.startswith("[{")]
    if inner is None or not forms or not asks:
        raise Unfit
    phrase, turns, query, found, unit = conversations.nested(c, middle, inner, c.random.choice(forms))
    if len(turns) != 1:
        raise Unfit
    first = json.loads(ACTION.search(turns[0].text)[1])["action_input"]  # type: ignore[index]
    value, unit, _ = c.value(middle, "")
    form = c.random.choice(asks)
    last, last_unit, answer = c.value(outer, form)
    template = c.fill(outer, form, "\0", last_unit)
    actions = (
        ("search", first, turns[0].observation),
        ("search", query, observation(c.random, middle, found, value, unit)),
        ("search", query_of(template).replace("\0", value), observation(c.random, outer, value, last, last_unit)),
    )
    return dialogue(kit, "three", Part(plain(template).replace("\0", plain(phrase)), actions, answer, about=value))


def applied(kit: Kit) -> Dialogue:
    """One number found, by a search, two or a tool, then calculated with."""
    c = Composer(kit.random)
    found = quantity(c, kit, nested=kit.random.random() < 0.45, errands=0.5)
    wording, expression = fill_numbers(c.random, *c.random.choice(wordings("apply")))
    if not re.fullmatch(r"-?\d+(\.\d+)?", found.value):
        raise Unfit
    value_in = f"({found.value})" if found.value.startswith("-") else found.value
    expression = expression.replace("{x}", value_in)
    value = value_text(expression)
    if value is None:
        raise Unfit
    question = reworded(c.random, wording).replace("{x}", found.text)
    question = question[0].upper() + question[1:]
    kind = "three" if len(found.actions) == 2 else "two"
    return dialogue(
        kit, kind, Part(question, (*found.actions, ("calculate", expression, "")), value, about=found.about)
    )


def several(kit: Kit) -> Dialogue:
    """Two or three questions at once that have nothing to do with each other."""
    c = Composer(kit.random)
    count = kit.random.choice((2, 2, 3))
    made = [kit.random.choice((searched, searched, calculated))(c) for _ in range(count)]
    if kit.random.random() < 0.2:
        made[kit.random.randrange(count)] = requested(kit)
    question = made[0].text
    for each in made[1:]:
        question = conversations.joined(c, question, each.text)
    actions = tuple(action for each in made for action in each.actions)
    return dialogue(kit, ("two", "three")[count - 2], Part(question, actions, ", ".join(each.answer for each in made)))


def requested(kit: Kit) -> Part:
    made = errand(kit.random, kit.skinned())
    return Part(made.question, (("errand", made, ""),), made.answer)


def typed(kit: Kit) -> Dialogue:
    """One call of a tool with typed arguments."""
    part = requested(kit)
    made: Errand = part.actions[0][1]
    if not made.acts and kit.random.random() < 0.03:
        tools = kit.tools([made.tool])
        seen = kit.random.choice(texts("nothing"))
        step = Step(planned(0, 1, deed_of(kit, "errand", made)), made.tool.name, made.arguments, seen)
        return Dialogue("missing", part.text, tools, (step,), said("notfound"), "My tools gave no answer")
    return dialogue(kit, "typed", part)


def told_apart(kit: Kit) -> Dialogue:
    """Of two values in one result the one that is asked for."""
    question, query, seen, answer, about = contrasted(kit.random)
    question = question[0].upper() + question[1:]
    return dialogue(kit, "search", Part(question, (("search", query, seen),), answer, about=about))


def bought(kit: Kit) -> Dialogue:
    """The price of one looked up, and many of it calculated."""
    question, query, seen, expression = priced(kit.random)
    value = value_text(expression)
    if value is None:
        raise Unfit
    question = question[0].upper() + question[1:]
    return dialogue(kit, "two", Part(question, (("search", query, seen), ("calculate", expression, "")), value))


FITS = {"town": "town", "city": "town", "country": "country", "person": "person", "work": "work", "company": "company"}


def searched_errand(kit: Kit) -> Dialogue:
    """Something looked up, then given to a tool: the weather in the capital of X."""
    c = Composer(kit.random)
    skin = kit.skinned(lambda kind: any(argument.kind in FITS for argument in kind.arguments))
    key, fits = c.random.choice([(a.key, FITS[a.kind]) for a in skin.kind.arguments if a.kind in FITS])
    fitting = [r for r in relations_of(value=fits) if r.np and not any("{p}" in form for form in r.np)]
    relation, _ = c.settle(c.random.choice(fitting))
    entity = c.entity(relation)
    value, unit, _ = c.value(relation, "")
    phrase = c.fill(relation, c.random.choice(relation.np), entity, unit)
    query = query_of(phrase)
    made = errand(c.random, skin, **{key: "\0"})
    if "\0" not in made.question or len(query.split()) < 2:
        raise Unfit
    put = lambda text: text.replace("\0", value)  # noqa: E731
    arguments = {name: put(v) if isinstance(v, str) else v for name, v in made.arguments.items()}
    made = replace(made, arguments=arguments, observation=put(made.observation), answer=put(made.answer))
    seen = observation(c.random, relation, entity, value, unit)
    actions = (("search", query, seen), ("errand", made, ""))
    return dialogue(kit, "two", Part(made.question.replace("\0", plain(phrase)), actions, made.answer, about=entity))


def follow_up(kit: Kit) -> Dialogue:
    """A question that refers to an earlier answer."""
    c = Composer(kit.random)
    if c.random.random() < 0.35:
        before = calculated(c) if c.random.random() < 0.5 else quantity(c, kit, errands=0)
        asked = before.text if before.actions[0][0] == "calculate" else f"What is {before.text}?"
        wording, expression = fill_numbers(c.random, *c.random.choice(wordings("it")))
        value = value_text(expression.replace("{x}", before.value))
        if value is None or not re.fullmatch(r"\d+(\.\d+)?", before.value):
            raise Unfit
        part = Part(
            wording[0].upper() + wording[1:], (("calculate", expression.replace("{x}", before.value), ""),), value
        )
        return dialogue(kit, "follow", part, history=((asked, before.answer),))
    outer, inner = conversations.outer_and_inner(c)
    forms = [form for form in outer.ask if conversations.refers(form)]
    if not forms:
        raise Unfit
    by_answer = c.random.random() < 0.5
    entity = c.entity(inner)
    middle, unit, answer = c.value(inner, "")
    first = c.fill(inner, c.random.choice([f for f in inner.ask if "{p}" not in f] or inner.ask), entity, unit)
    if not by_answer:  # it is what the question was about, not the answer
        fitting = [r for r in relations_of(subject=inner.subject) if any(map(conversations.refers, r.ask))]
        if not fitting or inner.subject == "person":
            raise Unfit
        outer, _ = c.settle(c.random.choice(fitting))
        forms = [form for form in outer.ask if conversations.refers(form)]
    subject = middle if by_answer else entity
    form = c.random.choice(forms)
    value, unit2, answer2 = c.value(outer, form)
    settled = c.fill(outer, form.replace("{e}", "\0"), "", unit2).replace("\0", "{e}")
    pronoun = conversations.pronouns(c, inner) if by_answer else ("it", "its")
    question = plain(conversations.referring(settled, *pronoun))
    if c.random.random() < 0.3:
        question = c.random.choice(("And ", "and ", "OK, ", "Thanks. ")) + question[0].lower() + question[1:]
    query = conversations.second_query(settled, "\0").replace("\0", subject)
    seen = observation(c.random, outer, subject, value, unit2)
    part = Part(question, (("search", query, seen),), answer2, about=subject)
    return dialogue(kit, "follow", part, history=(*_past(kit, 0.2), (plain(first), answer)))


def _past(kit: Kit, share: float) -> tuple[tuple[str, str], ...]:
    """Earlier questions that have nothing to do with this one."""
    pairs: list[tuple[str, str]] = []
    while kit.random.random() < share and len(pairs) < 3:
        try:
            part = kit.random.choice((searched, calculated))(Composer(kit.random))
        except (Unfit, ArithmeticError):
            continue
        pairs.append((part.text, part.answer))
    return tuple(pairs)


def refusal(kit: Kit) -> Dialogue:
    """A request that no tool of this conversation serves."""
    random, c = kit.random, Composer(kit.random)
    chance = random.random()
    if chance < 0.3:  # what no tool does
        trace = refused(c)
        lines = load_templates("talk")["scope"].strip().split("\n")
        greetings = {text.casefold() for text in lines[0].split("|")}
        if trace.question.strip(".!?").casefold() in greetings:
            raise Unfit
        return unable("scope", trace.question, kit.tools([], quiet=True))
    if chance < 0.65:  # what a tool does that is not here
        kind = random.choice(kinds())
        made = errand(random, skinned(random, kind))
        tools = kit.tools([], without=() if kind.acts else ("search",), quiet=random.random() < 0.4)
        mine = {name.casefold() for name in kind.names}
        similar = {_stem(tool.name) for tool in tools} & {_stem(name) for name in kind.names}
        if (
            similar
            or {tool.name.casefold() for tool in tools} & mine
            or any(t.description in kind.about for t in tools)
        ):
            raise Unfit
        if kind.names[0] in ("average", "bmi", "loan_payment", "convert") and any(
            t.name == kit.calculator.tool.name for t in tools
        ):
            raise Unfit
        return unable("scope", made.question, tools)
    if chance < 0.85:
        part = searched(c)
        return unable("scope", part.text, kit.tools([], without=("search",), quiet=True))
    part = calculated(c)
    return unable("scope", part.text, kit.tools([], without=("calculate",), quiet=True))


def _stem(name: str) -> str:
    return re.sub(r"[\W_\d]|tool|get|lookup", "", name.casefold())


def without_search(make: Callable[[Random, tuple[Tool, ...]], Dialogue]) -> Callable[[Kit], Dialogue]:
    return lambda kit: make(kit.random, kit.tools([], without=("search",), quiet=True))


def with_any(make: Callable[[Random, tuple[Tool, ...]], Dialogue]) -> Callable[[Kit], Dialogue]:
    return lambda kit: make(kit.random, kit.tools([]))


def looked_up_fact(kit: Kit) -> Dialogue:
    """What everyone knows is looked up all the same where there is a search."""
    question, answer = kit.random.choice(facts())
    form = kit.random.choice(("{a}", "{a}.", "The answer is {a}.", "It is {a}, as most people know."))
    query = re.sub(r"^(What|Who|Which|How) (is|was|are) (the )?|\?$", "", question)
    return dialogue(kit, "search", Part(question, (("search", query, form.replace("{a}", answer)),), answer))


def looked_up_errand(kit: Kit) -> Dialogue:
    """What a tool with typed arguments would tell, looked up where there is only a search."""
    made = errand(kit.random, skinned(kit.random, kit.random.choice([k for k in kinds() if not k.acts])))
    query = made.question.rstrip("?. ")
    part = Part(made.question, (("search", query, made.observation),), made.answer)
    tools = kit.tools([kit.search.tool], quiet=True)
    if any(tool.description == made.tool.description for tool in tools):
        raise Unfit
    return Dialogue("search", part.text, tools, steps_of(kit, part.actions), part.answer)


KINDS: tuple[tuple[Callable[[Kit], Dialogue], float], ...] = (
    (from_builtin(conversations.calculator), 14),
    (from_builtin(conversations.one_search), 10),
    (from_builtin(conversations.looked_up_calculation), 7),
    (from_builtin(conversations.two_searches), 8),
    (from_builtin(conversations.three_steps), 14),
    (from_builtin(compared), 6),
    (applied, 8),
    (pair, 12),
    (four, 5),
    (several, 7),
    (both, 5),
    (twice, 7),
    (larger_by, 4),
    (chain, 10),
    (typed, 22),
    (searched_errand, 4),
    (follow_up, 5),
    (refusal, 11),
    (with_any(small_talk), 2),
    (without_search(known_fact), 1.5),
    (looked_up_fact, 0.5),
    (told_apart, 4),
    (bought, 3),
    (looked_up_errand, 1.5),
    (with_any(foreign), 2.5),
    (with_any(unread), 1),
)


def misspelt(random: Random, made: Dialogue) -> Dialogue:
    """A question typed carelessly, but for the words that are copied."""
    if random.random() > 0.06 or not made.steps:
        return made
    copied = json.dumps([step.tool_input for step in made.steps], ensure_ascii=False)
    question = made.question
    for option in random.sample(manners("misspelt"), 12):
        right, wrong = option.split("=")
        if right in question and right not in copied:
            question = question.replace(right, wrong, 1)
    return replace(made, question=question)


def form_of(random: Random) -> Form:
    """Mostly the default prompt; native calls, or the steps in the question's message, for a share."""
    chance = random.random()
    return "native" if chance < 0.12 else "text" if chance < 0.15 else "react"


def in_form(made: Dialogue, form: Form) -> Dialogue:
    """The conversation in this form; where it cannot be, in the default prompt."""
    if form == "native" and all(not step.raw and step.tool in {t.name for t in made.tools} for step in made.steps):
        return replace(made, form=form)
    if form == "text" and not made.history:
        random = Random(made.question)
        steps = made.steps[: random.randint(0, len(made.steps))]
        if len(steps) == len(made.steps) and not any(step.raw for step in steps):
            return replace(made, form=form)
    return made


Maker = Callable[[Kit], Dialogue]


def drawn_kind(random: Random) -> Maker:
    return random.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]


def drawn(kit: Kit, make: Maker) -> Dialogue:
    """One conversation, never of the show-case questions; raises `Unfit`."""
    random = kit.random
    made = make(kit)
    if not made.history and random.random() < 0.05:
        made = replace(made, history=_past(kit, 0.7))
    if made.thought == KNOW and not made.steps:
        raise Unfit
    if EXCLUDED.search(made.question) or "{" in made.question or "\0" in made.question:
        raise Unfit
    return misspelt(random, made)


def companions(random: Random, count: int) -> list[Dialogue]:
    """Up to `count` conversations with the same tools in the same form, the first of a random kind."""
    form = form_of(random)
    while True:
        kit, first = Kit(random), drawn_kind(random)
        try:
            found = [drawn(kit, first)]
            break
        except (Unfit, ArithmeticError):
            continue
    kit.settle(found[0].tools)
    for _ in range(8 * count):
        if len(found) >= count:
            break
        try:
            found.append(drawn(kit, first if random.random() < 0.4 else drawn_kind(random)))
        except (Unfit, ArithmeticError):
            continue
    return [in_form(each, form) for each in found]


def conversation(random: Random) -> Dialogue:
    """One conversation of a random kind."""
    return companions(random, 1)[0]


def dialogues(seed: int) -> Iterator[Dialogue]:
    """An endless stream; the same seed gives the same conversations."""
    random = Random(seed)
    while True:
        yield conversation(random)
