"""Search through SerpAPI, against a server on this machine that answers as SerpAPI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agentkit.errors import ToolError
from agentkit.events import Source
from agentkit.tool import Result
from agentkit.tools import SerpAPIWrapper
from agentkit.tools.search_text import NOTHING_FOUND
from tests.doubles.server import ChatServer, body, serving, silent

KEY = "0123456789abcdef-secret"
ORGANIC = {"title": "Vittoria Ceretti - Wikipedia", "link": "https://en.wikipedia.org/wiki/Vittoria_Ceretti",
           "snippet": "Italian model, born\n7 June 1998."}  # fmt: skip


class SerpAPI(ChatServer):
    """Answers every request alike; with nothing at all where it is told so."""

    def answers(self, value: Any, status: int = 200) -> None:
        self.plays = [body(value if isinstance(value, bytes) else json.dumps(value).encode(), status)]

    def is_silent(self) -> None:
        self.plays = [silent]

    @property
    def asked(self) -> list[tuple[str, dict[str, str]]]:
        """Path and parameters of each request."""
        parts = [urlsplit(request.path) for request in self.requests]
        return [(one.path, {name: values[0] for name, values in parse_qs(one.query).items()}) for one in parts]


@pytest.fixture
def serpapi() -> Iterator[SerpAPI]:
    with serving(SerpAPI(keep_alive=False)) as server:
        yield server  # type: ignore[misc]


def refused(wrapper: SerpAPIWrapper, query: str = "vittoria ceretti age") -> str:
    """The error's text; neither it nor what hangs on it may hold the key."""
    with pytest.raises(ToolError) as caught:
        wrapper.search(query)
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


def test_sources_come_with_the_text(serpapi: SerpAPI) -> None:
    serpapi.answers(
        {"answer_box": {"answer": "25 years", "title": "Age", "link": "https://age"}, "organic_results": [ORGANIC]}
    )
    assert SerpAPIWrapper(KEY, base_url=serpapi.url).search("age") == Result(
        "25 years\n1. Vittoria Ceretti - Wikipedia\n   https://en.wikipedia.org/wiki/Vittoria_Ceretti\n"
        "   Italian model, born 7 June 1998.",
        (Source("Age", "https://age"), Source("Vittoria Ceretti - Wikipedia", ORGANIC["link"])),
    )


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


@pytest.mark.parametrize(("status", "again"), [(503, True), (429, False), (401, False), (400, False)])
def test_only_what_may_pass_is_worth_another_try(serpapi: SerpAPI, status: int, again: bool) -> None:
    serpapi.answers({"error": "x"}, status)
    with pytest.raises(ToolError) as caught:
        SerpAPIWrapper(KEY, base_url=serpapi.url).run("age")
    assert isinstance(caught.value.__cause__, ConnectionError) is again


def test_a_server_that_says_nothing_is_given_up(serpapi: SerpAPI) -> None:
    serpapi.is_silent()
    assert "no answer within 0.05 s" in refused(SerpAPIWrapper(KEY, base_url=serpapi.url, timeout_s=0.05))


def test_a_server_that_is_not_there() -> None:
    with serving(SerpAPI()) as closed:
        url = closed.url
    assert "could not be reached (ConnectionError)" in refused(SerpAPIWrapper(KEY, base_url=url))


@pytest.mark.parametrize("query", ["", " \n", "x" * 2001])
def test_queries_that_cannot_be_sent(serpapi: SerpAPI, query: str) -> None:
    assert "quer" in refused(SerpAPIWrapper(KEY, base_url=serpapi.url), query)
    assert serpapi.asked == []


def test_nothing_found_is_no_error(serpapi: SerpAPI) -> None:
    serpapi.answers({"error": "Google hasn't returned any results for this query."})
    assert SerpAPIWrapper(KEY, base_url=serpapi.url).run("xqzw") == NOTHING_FOUND == "No good search result found"
