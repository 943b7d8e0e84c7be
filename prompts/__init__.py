"""Prompts that ship with agentkit: one text file each, read as package data."""

from __future__ import annotations

from importlib.resources import files


def names() -> list[str]:
    """Names of the prompts here, without `.txt`."""
    return sorted(entry.name.removesuffix(".txt") for entry in files(__name__).iterdir() if entry.name.endswith(".txt"))


def text(name: str) -> str:
    """A prompt's file."""
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


def lines(name: str) -> list[str]:
    """The lines of a file of JSON Lines."""
    return files(__name__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
