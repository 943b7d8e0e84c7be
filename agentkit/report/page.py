"""A story as one HTML page that needs nothing else: no script, no font, no network.

What stands in a cassette comes from models and strangers: all of it is escaped, only http and https become links, and
the page's own policy lets nothing load or run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from agentkit.events import Source
from agentkit.number_words import count
from agentkit.printable import printable
from agentkit.report.exchange import Exchange
from agentkit.report.story import Story, StoryCall, StoryRun, StoryStep
from agentkit.report.wording import compaction, cost, duration, ending, exchange, input_text, made_with, tokens

SHOWN_CHARS = 1_200
BAR_WIDTH = 1000
BAR_HEIGHT = 28
BAR_GAP = 3  # between steps
_GENERATOR = b'<meta name="generator" content="agentkit">'
_URL = re.compile(r"https?://[^\s<>\"'`\\^{|}]+[^\s<>\"'`\\^{|}.,;:!?)\]]")
_JSON = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\btrue\b|\bfalse\b|\bnull\b)')


def is_page(path: Path) -> bool:
    """Whether a file is a page of these, which may be written again."""
    with path.open("rb") as file:
        return _GENERATOR in file.read(400)


def page(story: Story) -> str:
    """The page's HTML."""
    folder = files("agentkit.report")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = story.runs[0].question if story.runs else story.path.name
    return Template(folder.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        style=style,
        style_hash=f"sha256-{digest}",
        title=_text(" ".join(title.split())[:120]),
        body="\n".join(_run(run, story) for run in story.runs) or _empty(story),
        footer=f"{_text(story.path.name)}, {_text(story.made)}. Shown by agentkit.",
    )


def _empty(story: Story) -> str:
    return f'<p class="over">{_text(story.path.name)}</p><h1>Nothing was recorded here.</h1>'


def _run(run: StoryRun, story: Story) -> str:
    chips = "".join(f"<li>{_text(chip)}</li>" for chip in made_with(story))
    note = story.head.get("note")
    parts = [
        f'<article class="run"><header><p class="over">{_text(story.made.capitalize())}</p>',
        f"<h1>{_text(run.question)}</h1>",
        f'<ul class="chips" aria-label="How it ran">{chips}</ul>',
        f'<p class="note">{_linked(str(note))}</p>' if note else "",
        "</header>",
        _outcome(run),
        _totals(run, story),
        timeline(run),
        f'<ol class="steps">{"".join(_step(number, step) for number, step in enumerate(run.steps, 1))}</ol>',
        f'<p class="banner">{_text(_sentence(ending(run)))}</p>' if ending(run) else "",
        _prompt(run),
        "</article>",
    ]
    return "\n".join(filter(None, parts))


def _outcome(run: StoryRun) -> str:
    title = "Answer" if run.answered else "No answer"
    text = input_text(run.output) if run.output is not None else _sentence(ending(run))
    unconfirmed = ", ".join(run.ungrounded)
    remark = f'<p class="unconfirmed">Not confirmed by any tool: {_text(unconfirmed)}</p>' if unconfirmed else ""
    sources = f'<p class="label">Sources</p>{_sources(run.sources)}' if run.sources else ""
    kind = "outcome" if run.answered else "outcome none"
    return (
        f'<section class="{kind}"><h2>{title}</h2><p class="answer">{_linked(str(text))}</p>{remark}{sources}</section>'
    )


def _totals(run: StoryRun, story: Story) -> str:
    usage = run.usage
    figures = [("Turns", f"{len(run.steps)}", ""), ("Tool calls", f"{run.tools_executed}", "")]
    if usage.total_tokens:
        figures.append(("Tokens", f"{usage.total_tokens:,}", tokens(usage).removesuffix(" tokens")))
    if run.invented_observations:
        figures.append(("Observations made up", f"{run.invented_observations}", "cut off"))
    if cost(usage):
        figures.append(("Cost", cost(usage), ""))
    if story.seconds and len(story.runs) == 1:
        figures.append(("Time", duration(story.seconds * 1000), ""))
    shown = (
        f"<div><dt>{name}</dt><dd>{_text(value)}{f'<small>{_text(small)}</small>' if small else ''}</dd></div>"
        for name, value, small in figures
    )
    return f'<dl class="totals">{"".join(shown)}</dl>'


# -- time -------------------------------------------------------------------------------------------------------------


def timeline(run: StoryRun) -> str:
    """An SVG figure of the model's and the tools' time, step by step; "" for a run without times."""
    total_ms = run.model_ms + run.tools_ms
    if not total_ms:
        return ""
    shares = ", ".join(f"{name} {duration(ms)}" for name, ms in (("model", run.model_ms), ("tools", run.tools_ms)))
    return (
        f'<figure class="timeline"><svg viewBox="0 0 {BAR_WIDTH} {BAR_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Where the time went: {shares}">{"".join(_bars(run, total_ms))}</svg>'
        f'<figcaption><span class="key model">model {duration(run.model_ms)}</span>'
        f'<span class="key tools">tools {duration(run.tools_ms)}</span>'
        f"<span>{count(len(run.steps), 'step')} from left to right</span></figcaption></figure>"
    )


def _bars(run: StoryRun, total_ms: int) -> Iterator[str]:
    scale = (BAR_WIDTH - BAR_GAP * (len(run.steps) - 1)) / total_ms
    x = 0.0
    for number, step in enumerate(run.steps, 1):
        for name, ms in (("model", step.model_ms), ("tools", step.tools_ms)):
            width = ms * scale
            if width > 0:
                yield (
                    f'<rect class="{name}" x="{x:.1f}" y="0" width="{width:.1f}" height="{BAR_HEIGHT}">'
                    f"<title>Step {number}, {name}: {duration(ms)}</title></rect>"
                )
            x += width
        x += BAR_GAP


# -- steps -------------------------------------------------------------------------------------------------------------


def _step(number: int, step: StoryStep) -> str:
    wrong = step.rejection is not None or step.came_to_nothing
    kind = "final" if step.answer is not None else "wrong" if wrong else ""
    parts = [*_before(step), *_turn(step), *map(_call, step.calls), *_after(step)]
    return (
        f'<li class="{kind}"><span class="number" aria-hidden="true">{number}</span>'
        f'<section class="card" aria-label="Step {number}">{"".join(filter(None, parts))}</section></li>'
    )


def _before(step: StoryStep) -> Iterator[str]:
    if step.kept:
        yield '<p class="remark">Kept from the run that this one was forked from</p>'
    for failed in step.failures:
        yield f'<p class="banner bad">Failed: {_text(exchange(failed))}</p>'
    figures = [f"model {duration(step.model_ms)}" if step.model_ms else "", tokens(step.usage), cost(step.usage)]
    if step.tools_ms:
        figures.insert(1, f"tools {duration(step.tools_ms)}")
    if shown := "".join(f"<span>{_text(figure)}</span>" for figure in figures if figure):
        yield f'<p class="meter">{shown}</p>'
    yield from map(_remark, step.exchanges)
    for event in step.compactions:
        yield f'<div class="remark">{_long(compaction(event), "p")}</div>'


def _turn(step: StoryStep) -> Iterator[str]:
    if step.thinking:
        yield f"<details><summary>Thinking, {count(len(step.thinking), 'character')}</summary>"
        yield f'<p class="text thinking">{_text(step.thinking)}</p></details>'
    if step.thought:
        yield f'<div><h3 class="label">Thought</h3><p class="thought">{_linked(step.thought)}</p></div>'
    if step.rejection is not None or (step.came_to_nothing and step.text):
        title = "Broken off" if step.broken_off else "The model wrote"
        yield f'<div><h3 class="label">{title}</h3>{_long(step.text, "pre")}</div>'
    if step.answer is not None:
        yield f'<div><h3 class="label">Final answer</h3><p class="answer">{_linked(str(step.answer))}</p></div>'


def _after(step: StoryStep) -> Iterator[str]:
    if step.rejection is not None:
        yield f'<p class="banner">Not understood. The model was told: {_text(step.rejection)}</p>'


def _call(call: StoryCall) -> str:
    took = f'<span class="ms">{duration(call.ms)}</span>' if call.ms else ""
    tool = f'<code class="tool">{_text(call.tool)}</code>'
    parts = [
        f'<div class="action"><span class="label">Action</span>{tool}{took}</div>',
        f"<pre>{_code(call.tool_input)}</pre>",
        *(f'<p class="remark">Read as: {_text(reading)}</p>' for reading in call.readings),
        *map(_remark, call.exchanges),
        f'<div><h3 class="label">Observation</h3>{_observation(call)}</div>',
        _sources(call.sources),
    ]
    return f'<div class="call">{"".join(parts)}</div>'


def _observation(call: StoryCall) -> str:
    if call.observation is None:
        return '<p class="observation missing">None in this recording.</p>'
    value = call.observation
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)
    not_run = "" if call.executed else '<p class="remark warn">The tool did not run.</p>'
    return _long(text, "p") + not_run


def _remark(one: Exchange) -> str:
    return f'<p class="remark">HTTP: {_text(exchange(one))}</p>'


def _sources(sources: Iterable[Source]) -> str:
    items = "".join(f"<li>{_source(source)}</li>" for source in sources)
    return f'<ul class="sources">{items}</ul>' if items else ""


def _source(source: Source) -> str:
    if not _is_web(source.link):
        return _text(f"{source.title} ({source.link})" if source.link != source.title else source.link)
    return f'<a href="{_text(source.link)}" rel="noopener noreferrer nofollow">{_text(source.title)}</a>'


def _prompt(run: StoryRun) -> str:
    prompt = next((step.prompt for step in run.steps if step.prompt), ())
    if not prompt:
        return ""
    messages = "".join(f'<h3 class="label">{_text(role)}</h3><pre>{_text(text)}</pre>' for role, text in prompt)
    return f'<details class="prompt"><summary>What the model was asked first</summary>{messages}</details>'


# -- text --------------------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Text as HTML; characters that could not be seen are marked."""
    return escape(printable(text), quote=True)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _linked(text: str) -> str:
    parts, place = [], 0
    for match in _URL.finditer(text):
        if _is_web(match[0]):
            parts += [_text(text[place : match.start()]), _source(Source(match[0], match[0]))]
            place = match.end()
    return "".join([*parts, _text(text[place:])])


def _is_web(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _long(text: str, tag: str) -> str:
    """Text of which the first part shows, and the rest on demand."""
    kind = "observation" if tag == "p" else "text"
    if len(text) <= SHOWN_CHARS * 1.25:
        return f'<{tag} class="{kind}">{_linked(text)}</{tag}>'
    space = text.rfind(" ", SHOWN_CHARS // 2, SHOWN_CHARS)
    place = space + 1 if space > 0 else SHOWN_CHARS
    rest = f"<details><summary>{count(len(text) - place, 'more character')}</summary>"
    return (
        f'<{tag} class="{kind}">{_linked(text[:place])}…</{tag}>{rest}'
        f'<{tag} class="{kind}">{_linked(text[place:])}</{tag}></details>'
    )


def _code(value: Any) -> str:
    """A tool's input, JSON coloured."""
    if isinstance(value, str):
        return _text(value)
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    parts, place = [], 0
    for match in _JSON.finditer(text):
        kind = "n" if match[3] else "k" if match[2] else "s"
        parts += [_text(text[place : match.start()]), f'<span class="{kind}">{_text(match[1] or match[3])}</span>']
        place = match.end(1) if match[1] else match.end()
    return "".join([*parts, _text(text[place:])])
