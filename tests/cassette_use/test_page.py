"""The page of a run: it holds what was recorded, needs nothing else, and lets nothing in it run."""

from __future__ import annotations

import base64
import hashlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.events import Source, Usage
from agentkit.report.exchange import Exchange
from agentkit.report.page import page, timeline
from agentkit.report.story import Story, StoryCall, StoryRun, StoryStep, read_story
from tests.cassette_use.recordings import QUESTION, TURNS, record
from tests.doubles.models import action, final
from tests.test_cli import SEEDS_RUN

TAGS = set(
    "html head meta title style body main footer article header h1 h2 h3 p ul ol li section div span dl dt dd small "
    "figure figcaption svg rect code pre details summary a".split()
)
ATTRIBUTES = set(
    "lang charset name content http-equiv class aria-label aria-hidden role href rel viewbox preserveaspectratio x y "
    "width height".split()
)
EMPTY = {"meta"}
HOSTILE = (
    "<script>alert(1)</script>",
    "</p></section><img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)",
    "javascript:alert(1)",
    'https://example.org/"><svg onload=alert(1)>',
    "</style><style>*{display:none}",
    "&lt;b&gt; &amp; $body ${style} $$",
    "\x00\x1b[2J\u202etxt.exe",
)


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.policies: list[str] = []
        self.text = ""
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        given = dict(attrs)
        if tag == "a":
            self.links.append(given.get("href") or "")
            assert given["rel"] == "noopener noreferrer nofollow"
        if given.get("http-equiv"):
            self.policies.append(given.get("content") or "")
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text += data

    @property
    def is_harmless(self) -> bool:
        links = all(link.startswith(("http://", "https://")) for link in self.links)
        return self.tags - {"svg", "rect"} <= TAGS and self.attributes <= ATTRIBUTES and links


def story(step: StoryStep, output: str | None, answered: bool) -> Story:
    run = StoryRun(question=QUESTION, steps=(step,), output=output, answered=answered, stop_reason="answer")
    return Story(
        path=Path("x.yaml"), runs=(run,), spec=None, models=("m",), complete=True, seconds=1.0, head={"note": "n"}
    )


def test_a_run_is_all_there(tmp_path: Path) -> None:
    shown = Page(page(read_story(record(tmp_path / "run.yaml"))))
    for part in (
        QUESTION,
        "I look it up.",
        "whom to ask",
        "who is 25",
        "Ada is 25.",
        "I would say 125.",
        "Ada, and 125",
    ):
        assert part in shown.text
    assert "The model was told: Invalid format" in shown.text
    assert shown.is_harmless
    assert "https://example.org/ada" in shown.links
    assert "javascript:alert(1)" in shown.text


def test_the_page_asks_for_nothing_and_lets_nothing_run() -> None:
    html = page(read_story(SEEDS_RUN))
    shown = Page(html)
    digest = base64.b64encode(hashlib.sha256(shown.style.encode()).digest()).decode()
    assert shown.policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]
    assert "url(" not in shown.style
    assert "@import" not in shown.style
    assert shown.is_harmless


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_strangers_wrote_is_text(tmp_path: Path, hostile: str) -> None:
    turns = (action("Search", {"query": hostile}, f"I think {hostile}."), hostile, final(hostile))
    run = record(tmp_path / "run.yaml", turns, question=hostile, found=hostile)
    shown = Page(page(read_story(run)))
    assert shown.is_harmless
    assert hostile.split("\x00")[0] in shown.text


WORDS = st.text(max_size=40) | st.sampled_from(HOSTILE)
CALLS = st.builds(
    StoryCall,
    tool=WORDS,
    tool_input=WORDS | st.dictionaries(WORDS, WORDS | st.integers() | st.none() | st.booleans(), max_size=3),
    observation=WORDS | st.none() | st.lists(WORDS, max_size=2),
    executed=st.booleans(),
    ms=st.integers(0, 10**7),
    sources=st.tuples(st.builds(Source, WORDS, WORDS)),
    readings=st.tuples(WORDS),
    exchanges=st.tuples(st.builds(Exchange, request=WORDS, outcome=WORDS, ms=st.integers(0, 10**6))),
)
STEPS = st.builds(
    StoryStep,
    text=WORDS,
    thought=WORDS,
    thinking=WORDS,
    calls=st.lists(CALLS, max_size=2).map(tuple),
    rejection=st.none() | WORDS,
    answer=st.none() | WORDS,
    usage=st.builds(Usage, st.integers(0, 9**9), st.integers(0, 9**9), st.integers(0, 9), st.none() | st.floats(0, 9)),
    model_ms=st.integers(0, 10**7),
    tools_ms=st.integers(0, 10**7),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(step=STEPS, output=st.none() | WORDS, answered=st.booleans())
def test_nothing_recorded_breaks_a_page(step: StoryStep, output: str | None, answered: bool) -> None:
    shown = Page(page(story(step, output, answered)))
    assert shown.is_harmless


def test_long_text_is_shown_once_and_whole(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(1000))
    html = page(read_story(record(tmp_path / "run.yaml", (TURNS[0], final("x")), found=words)))
    shown = Page(html)
    assert "more characters" in shown.text
    assert all(shown.text.count(f"word{number} ") == 1 for number in (0, 500, 998))


def test_time_goes_where_it_went() -> None:
    steps = (StoryStep(text="a", model_ms=750, tools_ms=150), StoryStep(text="b", model_ms=100))
    bar = timeline(StoryRun(question="q", steps=steps))
    assert [part.split(" y=")[0] for part in bar.split("<rect ")[1:]] == [
        'class="model" x="0.0"',
        'class="tools" x="747.8"',
        'class="model" x="900.3"',
    ]
    assert "model 850 ms, tools 150 ms" in bar
    assert timeline(StoryRun(question="q", steps=())) == ""
