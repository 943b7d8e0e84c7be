"""SerpAPI's JSON (https://serpapi.com/search-api) as answer lines, hits and sources.

Any part of it may be missing, null, empty, a list instead of an object or the other way round. What is not understood
is left out, never printed as Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentkit.events import Source
from agentkit.tool import Result
from agentkit.tools.json_text import first, is_technical, joined, label, line_of, objects
from agentkit.tools.search_text import LONGEST_SNIPPET, MOST_RESULTS, MOST_TOKENS, Hit, cut, search_result

LONGEST_ANSWER = 800
MOST_FACTS = 8

_ANSWER_KEYS = (
    "translation", "answer", "result", "snippet", "price", "population", "definition", "description", "contents",
    "expanded_list", "list", "definitions", "steps", "rows", "table", "formatted", "snippet_highlighted_words",
)  # fmt: skip
_VERTICALS = (
    "organic_results", "answers", "place_results", "news_results", "top_stories", "local_results", "places_results",
    "shopping_results", "inline_shopping_results", "immersive_products", "product_result", "product_results",
    "properties", "best_flights", "other_flights", "video_results", "inline_videos", "short_videos", "images_results",
    "inline_images", "events_results", "jobs_results", "jobs", "recipes_results", "top_sights", "available_on",
    "questions_and_answers", "related_questions", "discussions_and_forums", "perspectives", "twitter_results",
    "latest_posts", "scholarly_articles", "books_results", "apps_results", "products",
)  # fmt: skip
_NESTED = ("places", "results", "tweets", "items", "sights", "stories", "jobs", "events", "videos", "perspectives")
_TITLES = ("title", "name", "question", "author")
_SNIPPETS = ("snippet", "description", "answer", "rich_snippet_text", "summary")
_FACTS = (
    "company_name", "price", "total_duration", "address", "location", "rating", "reviews", "hours", "phone", "date",
    "when", "published_date", "source", "channel",
)  # fmt: skip
_LINKS = ("link", "url", "product_link", "share_link", "website", "original")
_IN_THE_HEAD = frozenset({"title", "type", "description", "source"})


def serpapi_result(
    results: Mapping[str, Any], *, most_results: int = MOST_RESULTS, most_tokens: int = MOST_TOKENS
) -> Result:
    """The observation for one search, with its sources."""
    head = [*_answer_box(results), *_sports(results), *_overview(results), *_knowledge(results)]
    hits = [_hit(item) for item in _items(results)[:most_results]]
    return search_result(head, hits, sources=list(_head_sources(results)), most_tokens=most_tokens)


def _head_sources(results: Mapping[str, Any]) -> Iterator[Source]:
    """Where the answer lines come from: the answer box's page, the overview's references, the graph's source."""
    boxes = [box for name in ("answer_box", "answer_box_list") for box in objects(results.get(name))]
    pages = [page for overview in objects(results.get("ai_overview")) for page in objects(overview.get("references"))]
    graphs = [page for graph in objects(results.get("knowledge_graph")) for page in objects(graph.get("source"))]
    for item in [*boxes, *pages[:MOST_RESULTS], *graphs]:
        if link := first(item, _LINKS):
            yield Source(first(item, _TITLES) or link, link)


def _answer_box(results: Mapping[str, Any]) -> Iterator[str]:
    for name in ("answer_box", "answer_box_list"):
        for box in objects(results.get(name)):
            if line := cut(_answer(box), LONGEST_ANSWER):
                title = first(box, _TITLES)
                yield f"{title}: {line}" if title and _says_more(title, line, box) else line


def _says_more(title: str, line: str, box: Mapping[str, Any]) -> bool:
    """Whether the title tells what the answer is about; the title of a web page that only holds it does not."""
    return title not in line and not box.get("link") and not box.get("answer")


def _answer(box: Mapping[str, Any]) -> str:
    if special := _special(box):
        return special
    for key in _ANSWER_KEYS:
        if text := line_of(box.get(key)):
            return text
    facts = {key: value for key, value in box.items() if key not in _IN_THE_HEAD and key not in _TITLES}
    return line_of(facts)  # a kind of box not known here


def _special(box: Mapping[str, Any]) -> str:
    """Weather, the price of a share, a population or a translation, as one would write it."""

    def value(key: str) -> str:
        return line_of(box.get(key))

    if "temperature" in box:
        degrees = joined([value("temperature"), value("unit")], " ")
        return joined([value("location"), value("weather"), degrees, value("date")], ", ")
    if box.get("price") and (stock := first(box, ("stock", "title"))):
        return joined([stock, value("price"), value("currency")], " ")
    if box.get("population"):
        year = value("year").strip("()")
        return joined([joined([value("place"), value("population")], ": "), f"({year})" if year else ""], " ")
    translations = objects(box.get("translation"))
    targets = [target for translation in translations for target in objects(translation.get("target"))]
    return first(targets[0], ("text",)) if targets else ""


def _sports(results: Mapping[str, Any]) -> Iterator[str]:
    for sport in objects(results.get("sports_results")):
        spotlight = next(iter(objects(sport.get("game_spotlight"))), {})
        for game in [spotlight, *objects(sport.get("games"))][:4]:
            teams = [
                joined([first(team, ("name",)), line_of(team.get("score"))], " ") for team in objects(game.get("teams"))
            ]
            if any(teams):
                when = joined([line_of(game.get("status")), line_of(game.get("date"))], ", ")
                yield joined([joined(teams, " - "), f"({when})" if when else ""], " ")
        if ranking := joined([first(sport, ("title",)), first(sport, ("rankings",))], ": "):
            yield ranking


def _overview(results: Mapping[str, Any]) -> Iterator[str]:
    for overview in objects(results.get("ai_overview")):
        if text := line_of(overview.get("text_blocks")):
            yield cut(text, LONGEST_ANSWER)


def _knowledge(results: Mapping[str, Any]) -> Iterator[str]:
    for graph in objects(results.get("knowledge_graph")):
        kind = first(graph, ("type",))
        title = joined([first(graph, ("title",)), f"({kind})" if kind else ""], " ")
        if line := joined([title, cut(line_of(graph.get("description")), LONGEST_ANSWER)], ": "):
            yield line
        facts = [f"{label(key)}: {text}" for key, value in graph.items() if (text := _fact(key, value))]
        if facts:
            yield "; ".join(facts[:MOST_FACTS])


def _fact(key: str, value: Any) -> str:
    """A plain value of the knowledge graph; pictures, links and ids are none."""
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not plain or key in _IN_THE_HEAD or is_technical(key):
        return ""
    return cut(line_of(value), 160)


def _items(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results to list: the organic ones, then other verticals; nothing twice."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in _VERTICALS:
        for item in _flat(results.get(name)):
            hit = _hit(item)
            key = hit.link or hit.title
            if key and (first(item, _TITLES) or hit.snippet):
                found.setdefault(key, item)
    return list(found.values())


def _flat(value: Any) -> Iterator[Mapping[str, Any]]:
    """Results, also where they sit in a `places` list one level down."""
    for item in objects(value):
        inner = [entry for key in _NESTED for entry in objects(item.get(key))]
        yield from inner or [item]


def _hit(item: Mapping[str, Any]) -> Hit:
    return Hit(first(item, _TITLES) or _route(item), first(item, _LINKS), cut(_snippet(item), LONGEST_SNIPPET))


def _route(item: Mapping[str, Any]) -> str:
    """The title of a flight: its airports and airlines."""
    legs = objects(item.get("flights"))
    if not legs:
        return ""
    ends = [leg.get(key) for leg in (legs[0], legs[-1]) for key in ("departure_airport", "arrival_airport")]
    airports = [first(end, ("name", "id")) for end in (ends[0], ends[-1]) if isinstance(end, Mapping)]
    airlines = joined(list(dict.fromkeys(first(leg, ("airline",)) for leg in legs)), ", ")
    return joined([joined(airports, " to "), airlines], ", ")


def _snippet(item: Mapping[str, Any]) -> str:
    if text := first(item, _SNIPPETS):
        return text
    if extensions := line_of(item.get("extensions")):
        return extensions
    return joined([line_of(item.get(key)) for key in _FACTS], ", ")
