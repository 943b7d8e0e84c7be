"""Which template of the curriculum, if any, gives a question with other names and numbers."""

from __future__ import annotations

import functools
import re

from small_model.arithmetic import wordings
from small_model.contrasts import lists
from small_model.curriculum import BOTH, PAIRS
from small_model.errands import PHRASE, kinds
from small_model.imagined import imagined_lists
from small_model.manners import manners
from tests.builtin.wordings import NAME, NUMBER, NUMBERS, expanded, produced

SLOT = re.compile(rf"{PHRASE.pattern}|\{{(?P<slot>\w+)\}}")


@functools.cache
def patterns() -> tuple[re.Pattern[str], ...]:
    """What only the larger curriculum asks."""
    found = []
    for kind in kinds():
        slots = {argument.key: _values(argument.type, argument.kind) for argument in kind.arguments}
        found += [_pattern(form, slots) for form in kind.ask]
    for form in (*BOTH, *(form for form, _ in PAIRS), *(form for form, _ in wordings("it")), *manners("asks_foreign")):
        found += [_pattern(option, {}) for option in expanded(form)]
    for key in ("greet", "thank", "bye", "self", "can"):
        found += [re.compile(re.escape(text) + r"\W*", re.IGNORECASE) for text in manners(key)]
    found += [re.compile(re.escape(fact.split("=")[0]), re.IGNORECASE) for fact in manners("facts")]
    found += [re.compile(form, re.IGNORECASE) for form in (*_imagined(), *_contrasts())]
    return tuple(found)


def _imagined() -> list[str]:
    """What is asked of tools that are made up."""
    made = imagined_lists()
    alternatives = {
        "noun": [each.split(":")[0] for each in made["nouns"]],
        "fact": [each.split(":")[0] for each in made["facts"]],
        "verb": [each.split(":")[0] for each in made["verbs"]],
        "thing": made["things"],
        "option": [each.split(":")[0] for each in made["options"]],
        "options": [value for each in made["options"] for value in each.split(":")[1:]],
    }
    found = []
    for form in (*made["asks"], *(order.split("|")[0] for order in made["orders"])):
        pieces = re.split(r"\[(\w+)\]|\{(\w+)\}", re.sub(r"<<.*?>>", "", form).rstrip(".?! "))
        out = ""
        for text, tool_slot, slot in zip(pieces[::3], [*pieces[1::3], ""], [*pieces[2::3], ""], strict=True):
            out += re.escape(text)
            if tool_slot or slot:
                named = alternatives.get((tool_slot or "").lower())
                out += f"(?:{'|'.join(named)})" if named else NUMBER if slot == "count" else NAME
        found.append(out + r"[.?! ]*")
    return found


def _contrasts() -> list[str]:
    """What is asked of results with several values, and of prices."""
    sides = [side for key in ("sides", "classes", "times") for each in lists()[key] for side in each.split("|")]
    slots = {"a": f"(?:{'|'.join(sides)})", "n": NUMBER}
    found = []
    for key in ("meeting_asks", "class_asks", "time_asks", "goods_asks"):
        for ask in lists()[key]:
            pieces = re.split(r"\{(\w+)\}", ask.split("|")[0].rstrip(".?! "))
            first, *texts = map(re.escape, pieces[::2])
            named = (slots.get(slot, NAME) for slot in pieces[1::2])
            found.append(first + "".join(map("".join, zip(named, texts, strict=True))) + r"[.?! ]*")
    return found


def _values(json_type: str, kind: str) -> str:
    word, _, rest = kind.partition(" ")
    if word in ("words", "enum"):
        return "(?:" + "|".join(map(re.escape, rest.split(","))) + ")"
    return NUMBER if json_type in ("integer", "number") else NAME


def _pattern(form: str, slots: dict[str, str]) -> re.Pattern[str]:
    form = form.rstrip(".?! ")
    out, at = [], 0
    for match in SLOT.finditer(form):
        out.append(re.escape(form[at : match.start()]))
        at = match.end()
        slot = match["slot"]
        if slot is None:
            out.append(rf"(?:{re.escape(match[4])})?")
        else:
            out.append(slots.get(slot, NUMBER if slot in NUMBERS else NAME))
    return re.compile("".join([*out, re.escape(form[at:])]) + r"[.?! ]*", re.IGNORECASE)


def could_be_generated(question: str) -> bool:
    """Whether some template gives this question, with whatever names and numbers."""
    return produced(question) or any(pattern.fullmatch(question) for pattern in patterns())
