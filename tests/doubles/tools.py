"""Tools that several tests give their agents."""

from __future__ import annotations

from langchain_core.tools import tool
from pydantic import BaseModel


class Point(BaseModel):
    x: int
    y: int


@tool
def distance(start: Point, end: Point) -> str:
    """The distance between two points."""
    return str(abs(start.x - end.x) + abs(start.y - end.y))
