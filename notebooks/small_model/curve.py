"""The learning curve of a training run as a small SVG, drawn by hand: loss (log scale) over tokens seen."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 56, 40, 24


def learning_curve(log: Path) -> str:
    """The SVG text of a log.csv with the columns tokens and loss."""
    with log.open(newline="") as file:
        rows = [(float(row["tokens"]) / 1e6, float(row["loss"])) for row in csv.DictReader(file)]
    return draw(rows)


def draw(points: Sequence[tuple[float, float]]) -> str:
    """The SVG text of (million tokens, loss) points."""
    most = max(x for x, _ in points)
    low = math.floor(math.log10(min(y for _, y in points)))
    high = math.ceil(math.log10(max(y for _, y in points)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 16) * x / most
        down = TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(y)) / (high - low)
        return across, down

    line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        _, y = place(0, 10.0**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for tenth in range(6):
        x, _ = place(most * tenth / 5, 10.0**low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{most * tenth / 5:.1f}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">million tokens</text>')
    parts.append(f'<text x="{LEFT}" y="14">loss on the model\'s own turns (log scale)</text>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>", ""])
