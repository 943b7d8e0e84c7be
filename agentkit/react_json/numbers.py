"""The numbers that a calculation may use: those of the question and the observations, and those that words imply."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentkit.react_json.spans import union

NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\.\d+|\d+")
EXPONENT = re.compile(r"\d+(?:\.\d+)?e[-+]?\d+")
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
WORDS += "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MEANT = {**{word: n for n, word in enumerate(WORDS)}, **{word: 10 * n for n, word in enumerate(TENS, 2)}}
GROUPS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
SPELLED = re.compile(
    rf"\b(?:a |one )?(?:{'|'.join([*MEANT, *GROUPS])})\b(?:(?: and |[ -])(?:{'|'.join([*MEANT, *GROUPS])})\b)*", re.I
)
IMPLIED = {
    re.compile(pattern, re.I): meant
    for pattern, meant in {
        r"%|per ?cent|discount|\boff\b|\btip\b": "1 100",
        r"root|√|sqrt": "1",
        r"squared?|half|halve|doubled?|twice|\bmean\b|average|²|perimeter|rectangle|two|second": "2",
        r"cubed?|thirds?|tripled?|thrice|\bmean\b|average|³|three": "3 1 2",
        r"quarters?|fourth|perimeter|square|legs|wheels|\bmean\b|average|four": "4 3 1",
        r"fifth|\bmean\b|average|five": "5 1",
        r"sixth": "6 1",
        r"seventh|weeks?": "7 1",
        r"eighth": "8 1",
        r"ninth": "9 1",
        r"tenth": "10 1",
        r"months?|years?|dozens?": "12",
        r"hours?|days?": "24",
        r"minutes?|hours?|seconds?": "60",
        r"years?|days?": "365",
        r"cents?|centi": "100",
        r"\bkilo|\bkm|grams?|milli|\bkg": "1000",
    }.items()
}


def written_numbers(text: str) -> list[str]:
    """The numbers of a text as the calculator takes them: 1,200 is 1200, twenty-five is 25, half a dozen has 12."""
    found = [number.replace(",", "") for number in EXPONENT.findall(text) + NUMBER.findall(text)]
    for match in SPELLED.finditer(text):
        words = re.findall(r"[a-z]+", match[0].lower())
        found += [str(MEANT.get(word) or GROUPS.get(word)) for word in words if word in MEANT or word in GROUPS]
        for part in (match[0], *re.split(r" and ", match[0])):
            found.append(str(_meaning(re.findall(r"[a-z]+", part.lower()))))
    return found


def _meaning(words: Sequence[str]) -> int:
    """The number that English number words make together: three hundred and twelve is 312."""
    total = group = 0
    for word in words:
        if word in ("thousand", "million"):
            total, group = total + (group or 1) * GROUPS[word], 0
        elif word in GROUPS:
            group = (group or 1) * GROUPS[word]
        else:
            group += MEANT.get(word, 0)
    return total + group


def numbers(sources: Sequence[str]) -> str:
    """The numbers that stand in the sources, and the small ones that words of the question stand for."""
    stated = [number for text in sources for number in written_numbers(text)]
    implied = [number for pattern, meant in IMPLIED.items() if pattern.search(sources[0]) for number in meant.split()]
    return union([*stated, *implied] or ["0"])
