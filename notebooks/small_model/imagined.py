"""Tools made up anew for each conversation, from templates/imagined.toml: only their texts tell what they do."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from .names import load_templates

NUMERIC = ("int", "decimal", "money")


@cache
def imagined_lists() -> dict[str, Any]:
    """The parsed file."""
    return load_templates("imagined")


def imagined(random: Random, *, counted: bool = False) -> dict[str, Any]:
    """One such tool, as templates/errands.toml writes one; `counted` asks for one that tells a number."""
    return _lookup(random, counted) if counted or random.random() < 0.6 else _deed(random)


def _lookup(random: Random, counted: bool) -> dict[str, Any]:
    """It tells something about a thing that has a name or a number."""
    lists = imagined_lists()
    noun, key_kind = random.choice(lists["nouns"]).split(":")
    facts = [line.split(":") for line in lists["facts"]]
    told = random.sample([f for f in facts if not counted or f[1].split()[0] in NUMERIC], 3)
    (fact, kind), (other, other_kind), _ = told
    slug, fact_slug = noun.replace(" ", "_"), fact.replace(" ", "_")
    chosen = not counted and random.random() < 0.4  # which fact is an argument
    arguments = [f"{slug}|{slug}_name|name|which|{slug}_id|item:string:{key_kind}"]
    fields = {"noun": noun, "fact": fact, "Fact": fact.capitalize(), "other": other, "k": f"{{{slug}}}"}
    asked = random.choice(lists["asks"])
    if chosen:
        options = random.sample([each[0] for each in told], 3)
        arguments.append(f"field|figure|what|detail:string:enum {','.join(options)}")
        asked = asked.replace("[fact]", f"<<!field={fact}:{fact}>>").replace("[Fact]", f"<<!field={fact}:{fact}>>")
        names = [f"{slug}_facts", f"{slug}_data", f"{slug}_card", f"about_{slug}"]
        abouts = ["A fact about a [noun].", "Data of a [noun].", "Tells one thing about a [noun]."]
    else:
        names = [f"{slug}_{fact_slug}", f"{fact_slug}_of_{slug}", f"find_{fact_slug}", f"{slug}_{fact_slug[:4]}", slug]
        abouts = lists["lookup_about"]
    see = random.choice(lists["lookup_see"])
    return {
        "names": " ".join(names),
        "about": [_put(about, fields) for about in abouts],
        "args": arguments,
        "ask": [_put(asked, fields)],
        "out": [f"t:{kind}", f"u:{other_kind}"],
        "see": [_put(see, fields)],
        "answer": ["{t}"],
        "np": "" if chosen or kind.split()[0] not in NUMERIC else _put("the [fact] of [noun] [k]", fields),
    }


def _deed(random: Random) -> dict[str, Any]:
    """It does something and says so in its own way, which is the answer."""
    lists = imagined_lists()
    verb, does = random.choice(lists["verbs"]).split(":")
    thing, flag = random.choice(lists["things"]), random.choice(lists["flags"])
    option, *options = random.choice(lists["options"]).split(":")
    fields = {"verb": verb, "Verb": verb.capitalize(), "does": does, "thing": thing, "flag": flag, "option": option}
    arguments = {
        "count": "count|number|amount|how_many|quantity:integer:int 2 60",
        "who": "who|person|customer|name|to:string:person",
        "flag": f"{flag}|is_{flag}:boolean:flag",
        "option": f"{option}|{option}_name:string:enum {','.join(options)}",
        "code": "code|number|id|reference|plate:string:code",
        "left": f"{random.choice(lists['unasked'])}:integer?:int 1 9",
    }
    form, *keys = random.choice(lists["orders"]).split("|")
    form = form.replace("<<flag=", f"<<{flag}=").replace(
        "[options]", "".join(f"<<!{option}={each}:{each}>>" for each in options)
    )
    see = _put(random.choice(lists["deed_see"]), fields)
    told = [arguments[key] for key in keys] + ([arguments["left"]] if random.random() < 0.3 else [])
    return {
        "names": f"{verb}_{thing} {thing}_{verb} {verb}_{thing}s {thing}_desk {thing}_service",
        "about": [_put(about, fields) for about in lists["deed_about"]],
        "args": told,
        "ask": [_put(form, fields)],
        "out": ["t:code", "c:clock", "n:int 2 90"],
        "see": [see],
        "answer": ["{t}" if "{" in see.replace("{t}", "").replace("{c}", "").replace("{n}", "") else see],
        "acts": True,
    }


def _put(text: str, fields: dict[str, str]) -> str:
    for name, value in fields.items():
        text = text.replace(f"[{name}]", value)
    return text
