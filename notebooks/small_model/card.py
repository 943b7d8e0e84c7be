"""The model card, from card.md.in and the evaluation's numbers: `python -m small_model.card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentkit.models.builtin import builtin_folder

NAMES = {
    "calculator": "one-step calculator",
    "search": "one-step search",
    "two": "two steps",
    "three": "three steps",
    "recovery": "recovery after an error or an empty search",
    "scope": "says what it cannot do",
}


COLUMNS = {
    "with the copying grammar": ("copy", "right"),
    "of these, worded as no template": ("copy", "right_new_wording"),
    "without a grammar": ("off", "right"),
}


def accuracy_table(evaluation: dict[str, Any]) -> str:
    """A Markdown table of right answers by kind."""
    lines = ["| kind | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    for kind, name in NAMES.items():
        cells = []
        for way, part in COLUMNS.values():
            right, count = evaluation[way][part][kind]
            cells.append(f"{right} of {count} ({100 * right / count:.0f} %)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    strange = (str(evaluation[way]["ungrounded"]) for way in ("copy", "off"))
    return "\n".join([*lines, "| answers with a number or name from nowhere | {} | | {} |".format(*strange)])


def fresh_line(evaluation: dict[str, Any]) -> str:
    """The right answers of the second set in one line."""
    right = evaluation["copy"]["right"]
    return ", ".join(f"{NAMES[kind]} {right[kind][0]} of {right[kind][1]}" for kind in NAMES if kind in right)


def model_card() -> str:
    """The text of README.md beside the weights."""
    evaluation = json.loads((builtin_folder() / "evaluation.json").read_text(encoding="utf-8"))
    fresh = json.loads((builtin_folder() / "evaluation_fresh.json").read_text(encoding="utf-8"))
    template = (Path(__file__).parent / "card.md.in").read_text(encoding="utf-8")
    *_, last = (builtin_folder() / "log.csv").read_text(encoding="utf-8").split()
    minutes, _, tokens, *_ = last.split(",")
    template = template.replace("{minutes}", f"{float(minutes):.0f}").replace("{tokens}", f"{int(tokens) / 1e6:.0f}")
    return template.replace("{accuracy}", accuracy_table(evaluation)).replace("{fresh}", fresh_line(fresh))


def main() -> None:
    """Write the card."""
    (builtin_folder() / "README.md").write_text(model_card(), encoding="utf-8")


if __name__ == "__main__":
    main()
