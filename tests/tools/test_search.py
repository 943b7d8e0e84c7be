"""Search through SerpAPI, against a server on this machine that answers as SerpAPI does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import ToolError
from agentkit.tools.search import SerpAPIWrapper, search
from agentkit.tools.search_text import NOTHING_FOUND, search_text

KEY = "0123456789abcdef-secret"
ORGANIC = {"title": "Vittoria Ceretti - Wikipedia", "link": "https://en.wikipedia.org/wiki/Vittoria_Ceretti",
           "snippet": "Italian model, born\n7 June 1998."}  # fmt: skip


class SerpAPI(ThreadingHTTPServer):
    """Answers every request with `status` and `body`, and keeps the requests' parameters."""

    daemon_threads = True
    status = 200
    body = b"{}"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answers(self, body: Any, status: int = 200) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class Answering(BaseHTTPRequestHandler):
    server: SerpAPI

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append((parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}))
        if self.server.status == 0:
            self.rfile.read(1)  # says nothing until the client gives up
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: object) -> None:
        return None


@pytest.fixture
def serpapi() -> Iterator[SerpAPI]:
    with SerpAPI() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refused(wrapper: SerpAPIWrapper, query: str = "vittoria ceretti age") -> str:
    """The error's text; neither it nor what hangs on it may hold the key."""
    with pytest.raises(ToolError) as caught:
        wrapper.run(query)
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in f"{error}{error!r}{error.args}"
        error = error.__cause__ or error.__context__
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_request_is_the_one_langchain_users_know(serpapi: SerpAPI) -> None:
    serpapi.answers({"organic_results": [ORGANIC]})
    text = SerpAPIWrapper(KEY, base_url=serpapi.url).run(" vittoria \n ceretti ")
    assert text == (
        "1. Vittoria Ceretti - Wikipedia\n"
        "   https://en.wikipedia.org/wiki/Vittoria_Ceretti\n"
        "   Italian model, born 7 June 1998."
    )
    expected = {"engine": "google", "google_domain": "google.com", "gl": "us", "hl": "en", "q": "vittoria ceretti"}
    assert serpapi.asked == [("/search", {**expected, "api_key": KEY, "output": "json", "source": "python"})]


async def test_async_and_raw_results(serpapi: SerpAPI) -> None:
    serpapi.answers({"answer_box": {"answer": "25 years"}})
    wrapper = SerpAPIWrapper(serpapi_api_key=KEY, params={"engine": "bing"}, base_url=serpapi.url)
    assert await wrapper.arun("age") == "25 years"
    assert await wrapper.aresults("age") == wrapper.results("age") == {"answer_box": {"answer": "25 years"}}
    assert serpapi.asked[0][1]["engine"] == "bing"
    assert KEY not in repr(wrapper)


def test_the_key_is_read_when_it_is_needed(serpapi: SerpAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = SerpAPIWrapper(base_url=serpapi.url)
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    assert refused(wrapper) == (
        "Error: Search needs a SerpAPI key, and SERPAPI_API_KEY is not set; "
        "get one at https://serpapi.com/manage-api-key and set it."
    )
    monkeypatch.setenv("SERPAPI_API_KEY", f" {KEY}\n")
    assert wrapper.run("age") == NOTHING_FOUND
    assert serpapi.asked[0][1]["api_key"] == KEY


def test_the_tool_without_a_key_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    assert (search.name, search.takes_one_string, search.deterministic) == ("Search", True, False)
    with pytest.raises(ToolError, match="SERPAPI_API_KEY is not set"):
        search.call({"query": "age"})


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (
            400,
            {"error": f"Unsupported `gl` for key {KEY}."},
            "refused the request (400), which said: Unsupported `gl` for",
        ),
        (401, {"error": f"Invalid API key {KEY}"}, "401: the key was refused; check SERPAPI_API_KEY"),
        (403, {"error": "no"}, "403: the account may not do this"),
        (429, {"error": "Your account has run out of searches."}, "429: the searches of this plan are used up"),
        (500, b"<html>oops</html>", "SerpAPI is failing (500); try again"),
        (503, b"", "SerpAPI is failing (503); try again"),
        (404, b"", "refused the request (404); change"),
        (200, b"<html>a proxy's page</html>", "no usable answer"),
        (200, b"[1, 2]", "no usable answer"),
        (200, b"[" * 100_000, "no usable answer"),
        (200, {"error": "Something else\nwent wrong"}, "which said: Something else went wrong"),
    ],
)
def test_failures_are_one_line_with_what_to_do(serpapi: SerpAPI, status: int, body: Any, said: str) -> None:
    serpapi.answers(body, status)
    assert said in refused(SerpAPIWrapper(KEY, base_url=serpapi.url))


def test_a_server_that_says_nothing_is_given_up(serpapi: SerpAPI) -> None:
    serpapi.status = 0
    assert "no answer within 0.05 s" in refused(SerpAPIWrapper(KEY, base_url=serpapi.url, timeout_s=0.05))


def test_a_server_that_is_not_there() -> None:
    with SerpAPI() as closed:
        url = closed.url
    assert "could not be reached (ConnectionError)" in refused(SerpAPIWrapper(KEY, base_url=url))


@pytest.mark.parametrize("query", ["", " \n", "x" * 2001])
def test_queries_that_cannot_be_sent(serpapi: SerpAPI, query: str) -> None:
    assert "quer" in refused(SerpAPIWrapper(KEY, base_url=serpapi.url), query)
    assert serpapi.asked == []


def test_nothing_found_is_no_error(serpapi: SerpAPI) -> None:
    serpapi.answers({"error": "Google hasn't returned any results for this query."})
    assert SerpAPIWrapper(KEY, base_url=serpapi.url).run("xqzw") == NOTHING_FOUND == "No good search result found"


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
                "answer_box": {"answer": "25 years"},
                "organic_results": [{"title": "T", "link": "https://t", "snippet": "S"}],
            },
            "25 years\n1. T\n   https://t\n   S",
        ),
    ],
)
def test_every_shape_becomes_text(results: dict[str, Any], text: str) -> None:
    assert search_text(results) == text


def test_the_text_is_capped_at_whole_results() -> None:
    results = [{"title": f"T{n}", "link": f"https://{n}", "snippet": "word " * 200} for n in range(30)]
    text = search_text({"organic_results": results}, most_characters=1000)
    assert len(text) <= 1000
    assert text.startswith("1. T0\n   https://0\n   word")
    assert text.endswith("word...")
    assert len(search_text({"answer_box": {"answer": "long " * 1000}}, most_characters=300)) <= 300


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


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), json_values))
def test_no_shape_crashes_or_prints_python(results: dict[str, Any]) -> None:
    text = search_text(results)
    assert text
    assert len(text) <= 2400
    assert "None" not in text or "None" in json.dumps(results)
