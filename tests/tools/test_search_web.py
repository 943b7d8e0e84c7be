"""The web search without a key, with an engine of our own, and ddgs where nothing can answer."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit.errors import ToolError
from agentkit.events import Source
from agentkit.tool import Result
from agentkit.tools.search_text import NOTHING_FOUND
from agentkit.tools.web_search import WebSearch

FOUND = [
    {"title": "Oslo", "href": "https://oslo", "body": "Oslo is the\ncapital of Norway."},
    {"title": "", "href": "https://bare", "body": ""},
    {"title": "no address", "href": "", "body": "left out"},
    {"title": None, "href": "https://odd", "body": ["a", "b"]},
    "no mapping",
]


class DDGSException(Exception):
    """Named as ddgs names its own: their names tell them apart."""


class RatelimitException(DDGSException):
    pass


class TimeoutException(DDGSException):
    pass


def failing(error: Exception) -> WebSearch:
    def engine(query: str) -> Sequence[Any]:
        raise error

    return WebSearch(engine)


def test_results_have_the_shape_of_every_search() -> None:
    asked = []

    def engine(query: str) -> Sequence[Any]:
        asked.append(query)
        return FOUND

    assert WebSearch(engine).search(" capital \n of Norway ") == Result(
        "1. Oslo\n   https://oslo\n   Oslo is the capital of Norway.\n2. https://bare\n3. https://odd\n   a, b",
        (Source("Oslo", "https://oslo"), Source("https://bare", "https://bare"), Source("https://odd", "https://odd")),
    )
    assert asked == ["capital of Norway"]
    assert WebSearch(engine, most_tokens=20).search("x").sources == (Source("Oslo", "https://oslo"),)


@pytest.mark.parametrize("found", [[], [{}], ["x"]])
def test_nothing_found(found: list[Any]) -> None:
    assert WebSearch(lambda query: found).search("x") == Result(NOTHING_FOUND)


def test_nothing_found_by_ddgs_may_mean_refused() -> None:
    text = failing(DDGSException("No results found.")).search("x").text
    assert text == f"{NOTHING_FOUND}: there is none, or the engines that need no key refuse this machine for now."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RatelimitException("https://x 202 Ratelimit"), "refused for now; wait some minutes, or set SERPAPI_API_KEY"),
        (DDGSException("https://x 429"), "refused for now"),
        (TimeoutException("https://x > operation timed out"), "gave no answer in time; try again"),
        (
            DDGSException("DNSError: DNSError('error sending request for url (https://x?q=secret)')"),
            "could not be reached",
        ),
        (DDGSException("ConnectError: refused"), "could not be reached; check the network connection"),
        (ValueError("line one\nline two"), "failed (ValueError); try again"),
        (
            ModuleNotFoundError("No module named 'ddgs'", name="ddgs"),
            "ddgs, needed to search without a key, is not installed; run pip install 'ddgs>=9.10'",
        ),
        (
            ModuleNotFoundError("No module named 'primp'", name="primp"),
            "ddgs, needed to search without a key, is installed but does not import: No module named 'primp'",
        ),
    ],
)
def test_failures_are_one_line_with_what_to_do(error: Exception, said: str) -> None:
    with pytest.raises(ToolError) as caught:
        failing(error).search("x")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "https://" not in str(caught.value)


@pytest.mark.parametrize("query", ["", " ", "x" * 2001])
def test_queries_that_cannot_be_asked(query: str) -> None:
    with pytest.raises(ToolError, match="quer"):
        WebSearch(lambda query: FOUND).search(query)


def test_ddgs_that_reaches_nothing(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ddgs")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(ToolError, match="could not be reached"):
            WebSearch().search("capital of Norway")
    assert WebSearch().is_installed
    assert capfd.readouterr() == ("", "")
