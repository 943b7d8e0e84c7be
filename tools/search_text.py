"""A search engine's answer as one text: the answer line, the knowledge graph, then numbered title, link, snippet.

The shapes are those of SerpAPI's JSON (https://serpapi.com/search-api); any part of it may be missing, null, empty, a
list instead of an object or the other way round. What is not understood is left out, never printed as Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_RESULTS = 6
MOST_CHARACTERS = 2400
LONGEST_SNIPPET = 400
LONGEST_ANSWER = 800
MOST_FACTS = 8
NOTHING_FOUND = "No good search result found"

_ANSWER_KEYS = (
    "answer",
    "result",
    "snippet",
    "price",
    "translation",
    "definition",
    "description",
    "contents",
    "expanded_list",
)
_ANSWER_LISTS = ("list", "definitions", "steps", "rows", "table", "formatted", "snippet_highlighted_words")
_VERTICALS = (
    "organic_results", "news_results", "top_stories", "local_results", "places_results", "shopping_results",
    "inline_shopping_results", "video_results", "inline_videos", "images_results", "events_results", "jobs_results",
    "recipes_results", "questions_and_answers", "related_questions", "discussions_and_forums", "twitter_results",
)  # fmt: skip
_NESTED = ("places", "results", "tweets", "items")
_TITLES = ("title", "name", "question")
_SNIPPETS = ("snippet", "description", "answer", "rich_snippet_text", "price", "address", "date", "source")
_LINKS = ("link", "url", "product_link", "website", "original")
_TECHNICAL = frozenset(
    {"link", "links", "image", "images", "thumbnail", "thumbnails", "serpapi", "kgmid", "id", "photo", "photos", "logo",
     "icon", "type", "references", "index", "entity", "stick", "tabs", "header", "position", "html"}
)  # fmt: skip
_IN_THE_HEAD = frozenset({"title", "type", "description", "source"})


def search_text(
    results: Mapping[str, Any], *, most_results: int = MOST_RESULTS, most_characters: int = MOST_CHARACTERS
) -> str:
    """The observation for one search."""
    head = list(dict.fromkeys([*_answer_box(results), *_sports(results), *_overview(results), *_knowledge(results)]))
    pieces = ["\n".join(head)] if head else []
    for number, result in enumerate(_listed(results, most_results), 1):
        pieces.append(f"{number}. {result}")
    return _capped(pieces, most_characters) or NOTHING_FOUND


def _capped(pieces: list[str], most: int) -> str:
    """As many whole pieces as fit; the first one is cut if it must be."""
    text = ""
    for piece in pieces:
        longer = f"{text}\n{piece}" if text else _cut(piece, most)
        if len(longer) > most:
            break
        text = longer
    return text


def _answer_box(results: Mapping[str, Any]) -> Iterator[str]:
    for name in ("answer_box", "answer_box_list"):
        for box in _objects(results.get(name)):
            if line := _cut(_answer(box), LONGEST_ANSWER):
                title = _first(box, _TITLES)
                yield f"{title}: {line}" if title and _says_more(title, line, box) else line


def _says_more(title: str, line: str, box: Mapping[str, Any]) -> bool:
    """Whether the title tells what the answer is about; the title of a web page that only holds it does not."""
    return title not in line and not box.get("link") and not box.get("answer")


def _answer(box: Mapping[str, Any]) -> str:
    if weather := _weather(box):
        return weather
    if box.get("price") and (stock := _first(box, ("stock", "title"))):
        return _joined([stock, _line(box["price"]), _line(box.get("currency"))], " ")
    for key in _ANSWER_KEYS:
        if text := _line(box.get(key)):
            return text
    for key in _ANSWER_LISTS:
        if text := _line(box.get(key)):
            return text
    return ""


def _weather(box: Mapping[str, Any]) -> str:
    if "temperature" not in box:
        return ""
    unit = _line(box.get("unit"))
    degrees = f"{_line(box['temperature'])} {unit}".strip()
    return _joined([_line(box.get("location")), _line(box.get("weather")), degrees, _line(box.get("date"))], ", ")


def _sports(results: Mapping[str, Any]) -> Iterator[str]:
    for sport in _objects(results.get("sports_results")):
        spotlight = next(iter(_objects(sport.get("game_spotlight"))), {})
        for game in [spotlight, *_objects(sport.get("games"))][:4]:
            teams = [
                _joined([_first(team, ("name",)), _line(team.get("score"))], " ")
                for team in _objects(game.get("teams"))
            ]
            if any(teams):
                when = _joined([_line(game.get("status")), _line(game.get("date"))], ", ")
                yield _joined([_joined(teams, " - "), f"({when})" if when else ""], " ")
        if ranking := _joined([_first(sport, ("title",)), _first(sport, ("rankings",))], ": "):
            yield ranking


def _overview(results: Mapping[str, Any]) -> Iterator[str]:
    for overview in _objects(results.get("ai_overview")):
        if text := _line(overview.get("text_blocks")):
            yield _cut(text, LONGEST_ANSWER)


def _knowledge(results: Mapping[str, Any]) -> Iterator[str]:
    for graph in _objects(results.get("knowledge_graph")):
        title = _joined([_first(graph, ("title",)), _bracketed(_first(graph, ("type",)))], " ")
        if line := _joined([title, _cut(_line(graph.get("description")), LONGEST_ANSWER)], ": "):
            yield line
        facts = [f"{_label(key)}: {text}" for key, value in graph.items() if (text := _fact(key, value))]
        if facts:
            yield "; ".join(facts[:MOST_FACTS])


def _fact(key: str, value: Any) -> str:
    """A plain value of the knowledge graph; pictures, links and ids are none."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not plain or key in _IN_THE_HEAD or _is_technical(key):
        return ""
    return _cut(_line(value), 160)


def _label(key: str) -> str:
    return key.replace("_", " ").strip().capitalize()


def _listed(results: Mapping[str, Any], most: int) -> Iterator[str]:
    for item in _items(results, most):
        lines = [
            _first(item, _TITLES) or _first(item, _LINKS),
            _first(item, _LINKS),
            _cut(_snippet(item), LONGEST_SNIPPET),
        ]
        yield "\n   ".join(dict.fromkeys(line for line in lines if line))


def _items(results: Mapping[str, Any], most: int) -> list[Mapping[str, Any]]:
    """The results to list: the organic ones, then other verticals; nothing twice."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in _VERTICALS:
        for item in _flat(results.get(name)):
            key = _first(item, _LINKS) or _first(item, _TITLES)
            if key and (_first(item, _TITLES) or _snippet(item)):
                found.setdefault(key, item)
    return list(found.values())[:most]


def _flat(value: Any) -> Iterator[Mapping[str, Any]]:
    """Results, also where they sit in a `places` list one level down."""
    for item in _objects(value):
        inner = [entry for key in _NESTED for entry in _objects(item.get(key))]
        yield from inner or [item]


def _snippet(item: Mapping[str, Any]) -> str:
    if text := _first(item, _SNIPPETS[:4]):
        return text
    if extensions := _line(item.get("extensions")):
        return extensions
    return _joined([_line(item.get(key)) for key in _SNIPPETS[4:]], ", ")


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """`value` as a list of objects, whatever it is."""
    if isinstance(value, Mapping):
        return [value] if value else []
    return [item for item in value if isinstance(item, Mapping) and item] if isinstance(value, list) else []


def _first(item: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((text for key in keys if (text := _line(item.get(key)))), "")


def _line(value: Any, depth: int = 0) -> str:
    """Text on one line; a list is joined with semicolons, an object by its texts."""
    if isinstance(value, bool) or value is None or depth > 4:
        return ""
    if isinstance(value, str | int | float):
        return " ".join(str(value).encode("utf-8", "replace").decode().split())  # no lone surrogates
    if isinstance(value, list):
        separator = (
            "; " if any(len(_line(item, depth + 1)) > 24 or isinstance(item, list) for item in value[:20]) else ", "
        )
        return _joined([_line(item, depth + 1) for item in value[:20]], separator)
    if isinstance(value, Mapping):
        pairs = [(key, _line(inner, depth + 1)) for key, inner in value.items() if not _is_technical(key)]
        return _joined([text if key in _SPEAKING else f"{_label(key)}: {text}" for key, text in pairs if text], ", ")
    return ""


_SPEAKING = frozenset(
    {*_ANSWER_KEYS, *_ANSWER_LISTS, *_TITLES, "text", "name", "value", "extracted", "source_text", "target_text"}
)


def _is_technical(key: str) -> bool:
    """Links, pictures and ids, which say nothing to a reader: `header_images`, `kgmid`, but not `president`."""
    return not _TECHNICAL.isdisjoint(key.lower().split("_"))


def _joined(texts: list[str], separator: str) -> str:
    return separator.join(text for text in texts if text)


def _bracketed(text: str) -> str:
    return f"({text})" if text else ""


def _cut(text: str, most: int) -> str:
    """The text, or its beginning up to a word's end."""
    if len(text) <= most:
        return text
    head = text[: most - 3]
    return (head.rsplit(None, 1)[0] if " " in head[most // 2 :] else head) + "..."
