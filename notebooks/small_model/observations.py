"""What a search gives back: answer lines, prose with distractors, numbered results."""

from __future__ import annotations

import re
from random import Random

from .names import Names, load_templates
from .relations import Relation, passages_of, related, relations_of

SLOT_OF_PASSAGE = re.compile(r"\{#(\w+)\}")


def value_of(random: Random, relation: Relation) -> tuple[str, str]:
    """(value, unit) of a fresh answer to `relation`; the value is as prose writes it."""
    names = Names(random)
    if relation.value.startswith("number"):
        _, low, high, units = relation.value.split(":")
        span = float(high) / float(low)
        number = int(float(low) * span ** random.random()) if span > 20 else random.randint(int(low), int(high))
        if relation.family == "measure" and random.random() < 0.12:
            value = f"{number}.{random.randint(1, 9)}"
        else:
            value = f"{number:,}" if random.random() < 0.75 else str(number)
        return value, random.choice(units.split()) if units else relation.word
    if relation.value == "moment":
        return names.draw(random.choice(("year", "year", "year", "date"))), ""
    return names.draw(relation.value), ""


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def fact(random: Random, relation: Relation, entity: str, value: str, unit: str, **known: str) -> str:
    """One sentence that states the value."""
    names = Names(random)
    form = random.choice(relation.fact)
    if relation.family == "text" and " " in value[12:] and form.startswith("{v} "):
        form = relation.fact[0]
    if relation.subject == "person" and " " in entity and random.random() < 0.12 and "{e}" in form:
        entity = entity.split()[-1]
    if "{an}" in form:
        following = form.split("{an} ", 1)[1]
        slot = following[1 : following.index("}")] if following.startswith("{") else ""
        word = names.kind_noun(relation.subject) if slot == "kind" else names.draw(slot) if slot else following
        form = form.replace("{an} {" + slot + "}", f"{_article(word)} {word}", 1) if slot else form
    form = form.replace("{an}", "a").replace("{an2}", _article(value))
    slots = {**relation.slots, "kind": names.kind_noun(relation.subject), "e": entity, "v": value, "u": unit, **known}
    slots |= {"R": relation.slots.get("r", "").capitalize(), "B": relation.slots.get("b", "").capitalize()}
    return sentence(names.fill(names.fill(form, **{k: v for k, v in slots.items() if v}), e=entity))


def cluttered(random: Random, text: str, entity: str) -> str:
    """The sentence with a clause before or behind it that offers other names and numbers."""
    names, talk = Names(random), load_templates("talk")
    if random.random() < 0.6:
        behind = names.fill(random.choice(talk["behind"].strip("\n").split("\n")), e=entity)
        text = text.rstrip(".") + behind + "."
    if random.random() < 0.5:
        front = names.fill(random.choice(talk["front"].strip().split("\n")), e=entity)
        opens = text.split(" ", 1)[0] in ("The", "It", "With", "At", "In", "A", "An", "As", "After", "Since", "Born")
        text = sentence(front) + " " + (text[0].lower() + text[1:] if opens else text)
    return text


def _article(word: str) -> str:
    return "an" if word[:1].lower() in "aeio" else "a"


def distractors(random: Random, relation: Relation | None, subject: str, entity: str, count: int) -> list[str]:
    """Sentences near the topic that do not answer the question."""
    names = Names(random)
    found: list[str] = []
    pool = relations_of(subject=subject)
    while len(found) < count:
        if random.random() < 0.45 or not pool:
            form = random.choice(load_templates("talk")["filler"].strip().split("\n"))
            form = form.replace("{an} {occupation}", "a {occupation}").replace("{an}", "a")
            found.append(sentence(names.fill(form, e=entity)))
            continue
        other = random.choice(pool)
        if relation is not None and relation.clashes(other):
            continue
        value, unit = value_of(random, other)
        text = fact(random, other, entity, value, unit)
        if " " in text and len(text) > 24:
            found.append(text if text[-1] in '.?!"' else text + ".")
    return found


def observation(random: Random, relation: Relation, entity: str, value: str, unit: str, **known: str) -> str:
    """A search result that contains the answer: a short line, prose, or numbered results."""
    if not known and random.random() < 0.4:
        whole = passage(random, relation, entity, value)
        if whole is not None:
            return (
                whole
                if random.random() < 0.7
                else numbered(random, entity, whole, distractors(random, relation, relation.subject, entity, 1))
            )
    gold = fact(random, relation, entity, value, unit, **known)
    if " " in gold and random.random() < 0.3 and gold[-1] not in '?!"':
        gold = cluttered(random, gold, entity)
    size = random.random()
    if size < 0.42:
        return gold
    others = distractors(random, relation, relation.subject, entity, random.choice((1, 1, 2, 2, 3)))
    if gold[-1] not in '.?!"':
        gold += "."
    if size < 0.85:
        place = random.choice((0, 0, random.randint(0, len(others))))
        return " ".join([*others[:place], gold, *others[place:]])
    return numbered(random, entity, gold, others)


def passage(random: Random, relation: Relation, entity: str, value: str) -> str | None:
    """A whole paragraph about the entity with this value among others; None where no template states it."""
    fitting = passages_of(relation.subject, relation.identity)
    if not fitting:
        return None
    names, (text, key) = Names(random), random.choice(fitting)
    values = {key: value}
    for slot in dict.fromkeys(SLOT_OF_PASSAGE.findall(text)):
        if slot not in values:
            values[slot] = value_of(random, related(relation.subject, slot))[0]
    text = SLOT_OF_PASSAGE.sub(lambda match: values[match[1]], text.replace("{an}", "a").replace("{e}", entity))
    text = names.fill(text)
    return sentence(re.sub(r"\ba (?=[AEIOaeio])", "an ", text))


def numbered(random: Random, entity: str, gold: str, others: list[str]) -> str:
    """Numbered results as the web search prints them."""
    names, lines = Names(random), []
    snippets = others[:2]
    snippets.insert(random.choice((0, 0, 0, random.randint(0, len(snippets)))), gold)
    slug = entity.replace(" ", random.choice("_-")).lower()
    hosts = (
        "en.wikipedia.org/wiki/",
        "www.britannica.com/",
        "www.imdb.com/title/",
        "example.org/",
        f"www.{names.draw('lword')}.com/",
    )
    for number, snippet in enumerate(snippets, 1):
        title = sentence(entity) + random.choice(
            (" - Wikipedia", "", " | Britannica", f" - {names.draw('site')}", " - Facts", f" ({names.draw('year')})")
        )
        lines.append(f"{number}. {title}\n   https://{random.choice(hosts)}{slug}\n   {snippet}")
    return "\n".join(lines)


def irrelevant(random: Random, relation: Relation, entity: str) -> str:
    """A search result without the answer."""
    return " ".join(distractors(random, relation, relation.subject, entity, random.choice((1, 1, 2))))
