"""Where the time of a run went, as a bar."""

from __future__ import annotations

from collections.abc import Iterator

from agentkit.report.story import StoryRun
from agentkit.report.wording import duration

WIDTH = 1000
HEIGHT = 28
GAP = 3  # between steps


def timeline(run: StoryRun) -> str:
    """An SVG figure of the model's and the tools' time, step by step; "" for a run without times."""
    total_ms = run.model_ms + run.tools_ms
    if not total_ms:
        return ""
    shares = ", ".join(f"{name} {duration(ms)}" for name, ms in (("model", run.model_ms), ("tools", run.tools_ms)))
    return (
        f'<figure class="timeline"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Where the time went: {shares}">{"".join(_bars(run, total_ms))}</svg>'
        f'<figcaption><span class="key model">model {duration(run.model_ms)}</span>'
        f'<span class="key tools">tools {duration(run.tools_ms)}</span>'
        f"<span>{len(run.steps)} steps from left to right</span></figcaption></figure>"
    )


def _bars(run: StoryRun, total_ms: int) -> Iterator[str]:
    scale = (WIDTH - GAP * (len(run.steps) - 1)) / total_ms
    x = 0.0
    for number, step in enumerate(run.steps, 1):
        for name, ms in (("model", step.model_ms), ("tools", step.tools_ms)):
            width = ms * scale
            if width > 0:
                yield (
                    f'<rect class="{name}" x="{x:.1f}" y="0" width="{width:.1f}" height="{HEIGHT}">'
                    f"<title>Step {number}, {name}: {duration(ms)}</title></rect>"
                )
            x += width
        x += GAP
