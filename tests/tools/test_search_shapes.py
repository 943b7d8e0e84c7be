"""Every shape of SerpAPI's answer as text with sources, capped in tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.approximate_tokens import count_tokens, cut_to_tokens
from agentkit.events import Source
from agentkit.tools.search_text import MOST_TOKENS, NOTHING_FOUND
from agentkit.tools.serpapi_answer import serpapi_result

ORGANIC = {"title": "Vittoria Ceretti - Wikipedia", "link": "https://en.wikipedia.org/wiki/Vittoria_Ceretti",
           "snippet": "Italian model, born\n7 June 1998."}  # fmt: skip


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({}, NOTHING_FOUND),
        ({"answer_box": []}, NOTHING_FOUND),
        ({"answer_box": None, "shopping_results": [], "images_results": []}, NOTHING_FOUND),
        (
            {"answer_box": {"type": "organic_result", "title": "A page", "link": "https://a", "answer": "25 years"}},
            "25 years",
        ),
        ({"answer_box": [{"answer": 25}, {"answer": "second"}]}, "25\nsecond"),
        ({"answer_box": {"type": "calculator_result", "result": "4"}}, "4"),
        ({"answer_box": {"title": "Population of Oslo", "result": "709,037"}}, "Population of Oslo: 709,037"),
        (
            {"answer_box": {"snippet": "Oslo is the\ncapital.", "link": "https://o", "title": "Oslo"}},
            "Oslo is the capital.",
        ),
        ({"answer_box": {"title": "Steps", "list": ["Mix", "Bake"]}}, "Steps: Mix, Bake"),
        (
            {"answer_box": {"contents": {"table": [["City", "People"], ["Oslo", "709,037"]]}}},
            "City, People; Oslo, 709,037",
        ),
        ({"answer_box": {"snippet_highlighted_words": ["25 years"]}}, "25 years"),
        (
            {
                "answer_box": {
                    "type": "weather_result",
                    "temperature": "7",
                    "unit": "Celsius",
                    "location": "Oslo",
                    "weather": "Rain",
                    "date": "Friday",
                }
            },
            "Oslo, Rain, 7 Celsius, Friday",
        ),
        (
            {"answer_box": {"type": "finance_results", "stock": "AAPL", "price": 227.5, "currency": "USD"}},
            "AAPL 227.5 USD",
        ),
        ({"answer_box": {"type": "dictionary_results", "definitions": ["a fruit", "a tree"]}}, "a fruit, a tree"),
        (
            {
                "knowledge_graph": {
                    "title": "Oslo",
                    "type": "Capital of Norway",
                    "description": "A city.",
                    "president": "Jo",
                    "population": 709037,
                    "kgmid": "/m/1",
                    "header_images": [{}],
                    "people_also_search_for": [{"name": "Bergen"}],
                    "image": "x.png",
                }
            },
            "Oslo (Capital of Norway): A city.\nPresident: Jo; Population: 709037",
        ),
        (
            {
                "sports_results": {
                    "title": "Lakers",
                    "rankings": "3rd",
                    "games": [
                        {
                            "date": "Feb 1",
                            "status": "Final",
                            "teams": [{"name": "Lakers", "score": "101"}, {"name": "Suns", "score": "99"}],
                        }
                    ],
                }
            },
            "Lakers 101 - Suns 99 (Final, Feb 1)\nLakers: 3rd",
        ),
        ({"ai_overview": {"text_blocks": [{"type": "paragraph", "snippet": "Oslo is cold."}]}}, "Oslo is cold."),
        (
            {
                "organic_results": [ORGANIC, ORGANIC, {"title": "No link"}, {}, None],
                "top_stories": [{"title": "News", "link": "https://n", "date": "today"}],
            },
            "1. Vittoria Ceretti - Wikipedia\n   https://en.wikipedia.org/wiki/Vittoria_Ceretti\n"
            "   Italian model, born 7 June 1998.\n2. No link\n3. News\n   https://n\n   today",
        ),
        (
            {"local_results": {"places": [{"title": "Café", "address": "Main St 1"}], "more_locations_link": "x"}},
            "1. Café\n   Main St 1",
        ),
        (
            {"shopping_results": [{"title": "Pen", "product_link": "https://p", "price": "$2"}]},
            "1. Pen\n   https://p\n   $2",
        ),
        (
            {"related_questions": [{"question": "Who?", "snippet": "Her.", "link": "https://q"}]},
            "1. Who?\n   https://q\n   Her.",
        ),
        ({"answer_box": {"answer": "\ud800Oslo"}}, "?Oslo"),
        ({"images_results": [{"title": "A cat", "original": "https://c.jpg"}]}, "1. A cat\n   https://c.jpg"),
        (
            {
                "answer_box": {
                    "type": "population_result",
                    "place": "Oslo",
                    "population": "709,037",
                    "year": "(2023)",
                    "sources": [{"title": "SSB", "link": "https://ssb"}],
                }
            },
            "Oslo: 709,037 (2023)",
        ),
        (
            {
                "answer_box": {
                    "type": "translation_result",
                    "translation": {
                        "source": {"language": "English", "text": "cat"},
                        "target": {"language": "Spanish", "text": "gato"},
                    },
                }
            },
            "gato",
        ),
        (
            {
                "answer_box": {
                    "type": "currency_converter",
                    "result": "0.92 Euro",
                    "price": 0.92,
                    "currency": "Euro",
                    "currency_converter": {"from": {"price": 1}},
                    "chart": [{"date": "x"}],
                }
            },
            "0.92 Euro",
        ),
        (
            {"answer_box": {"type": "unit_converter", "unit_type": "Length", "formula": "multiply by 0.3048"}},
            "Unit type: Length, Formula: multiply by 0.3048",
        ),
        (
            {
                "answer_box": {
                    "type": "google_flights",
                    "title": "Oslo to Rome",
                    "flights": [{"link": "https://f", "flight_info": ["SAS", "3h 5m", "from $89"]}],
                }
            },
            "Oslo to Rome: Flights: Flight info: SAS, 3h 5m, from $89",
        ),
        ({"place_results": {"title": "Café", "rating": 4.5, "address": "Main St 1"}}, "1. Café\n   Main St 1, 4.5"),
        (
            {"inline_images": [{"title": "Cat", "source": "zoo.org", "original": "https://z/c.jpg"}]},
            "1. Cat\n   https://z/c.jpg\n   zoo.org",
        ),
        (
            {"jobs_results": [{"title": "Cook", "company_name": "Inn", "location": "Oslo", "share_link": "https://j"}]},
            "1. Cook\n   https://j\n   Inn, Oslo",
        ),
        (
            {"top_sights": {"sights": [{"title": "Fortress", "description": "A castle.", "link": "https://s"}]}},
            "1. Fortress\n   https://s\n   A castle.",
        ),
        (
            {"properties": [{"name": "Hotel Bo", "link": "https://h", "description": "By the sea."}]},
            "1. Hotel Bo\n   https://h\n   By the sea.",
        ),
        (
            {
                "best_flights": [
                    {
                        "price": 89,
                        "total_duration": 185,
                        "flights": [
                            {
                                "departure_airport": {"name": "Oslo"},
                                "arrival_airport": {"name": "Rome"},
                                "airline": "SAS",
                            }
                        ],
                    }
                ]
            },
            "1. Oslo to Rome, SAS\n   89, 185",
        ),
        (
            {
                "answer_box": {"answer": "25 years"},
                "organic_results": [{"title": "T", "link": "https://t", "snippet": "S"}],
            },
            "25 years\n1. T\n   https://t\n   S",
        ),
    ],
)
def test_every_shape_becomes_text(results: dict[str, Any], text: str) -> None:
    assert serpapi_result(results).text == text


def test_the_sources_are_those_of_what_is_shown() -> None:
    results = {
        "answer_box": {"snippet": "Oslo.", "title": "Capitals", "link": "https://c"},
        "ai_overview": {
            "text_blocks": [{"snippet": "Oslo is it."}],
            "references": [{"title": "R", "link": "https://r"}],
        },
        "knowledge_graph": {"title": "Oslo", "source": {"name": "Wikipedia", "link": "https://w"}},
        "organic_results": [{"title": f"T{n}", "link": f"https://{n}", "snippet": "word " * 60} for n in range(9)],
    }
    head = [Source("Capitals", "https://c"), Source("R", "https://r"), Source("Wikipedia", "https://w")]
    assert list(serpapi_result(results, most_results=1).sources) == [*head, Source("T0", "https://0")]
    assert list(serpapi_result(results, most_tokens=20).sources) == head
    without_head = {"organic_results": [*results["organic_results"], {"title": "no link"}]}
    found = serpapi_result(without_head, most_results=99, most_tokens=200)
    assert [f"https://{n}" for n in range(found.text.count("https://"))] == [source.link for source in found.sources]


def test_the_text_is_capped_at_whole_results() -> None:
    results = [{"title": f"T{n}", "link": f"https://{n}", "snippet": "word " * 200} for n in range(30)]
    text = serpapi_result({"organic_results": results}, most_tokens=250, most_results=30).text
    assert count_tokens(text) <= 250
    assert text.startswith("1. T0\n   https://0\n   word")
    assert text.endswith("word...")
    assert count_tokens(serpapi_result({"answer_box": {"answer": "long " * 1000}}, most_tokens=75).text) <= 75


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a b", 2),
        ("hello", 1),
        ("elephant", 2),
        ("25.5", 4),
        ("https://a.de", 7),
        ("休暇です", 4),
        ("_x_", 3),
        (" \n", 0),
    ],
)
def test_tokens_are_counted_without_a_tokenizer(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@given(st.text(max_size=200), st.integers(4, 40))
def test_a_cut_text_has_no_more_tokens_than_it_may(text: str, most: int) -> None:
    cut = cut_to_tokens(text, most)
    assert count_tokens(cut) <= most
    assert cut == text or text.startswith(cut.removesuffix("..."))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["title", "link", "snippet", "answer", "places", "list", "teams", "games"]), inner
        )
    ),
    max_leaves=12,
)
KEYS = [
    "answer_box",
    "knowledge_graph",
    "sports_results",
    "organic_results",
    "local_results",
    "ai_overview",
    "top_stories",
]


@pytest.mark.slow
@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_no_shape_crashes_or_prints_python(results: dict[str, Any]) -> None:
    found = serpapi_result(results)
    assert found.text
    assert count_tokens(found.text) <= MOST_TOKENS
    assert "None" not in found.text or "None" in json.dumps(results)
    assert all(isinstance(source.link, str) and source.link for source in found.sources)
