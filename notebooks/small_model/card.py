"""The model cards, from card*.md.in and the numbers of evaluations: `python -m small_model.card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentkit.models.builtin import builtin_folder
from agentkit.models.small import adapter_file

HERE = Path(__file__).parent
TRAINED = HERE / "trained"
NAMES = {
    "calculator": "one-step calculator",
    "search": "one-step search",
    "two": "two steps",
    "three": "three steps",
    "recovery": "recovery after an error or an empty search",
    "typed": "a tool with typed arguments",
    "scope": "says what it cannot do",
    "refusal": "refuses what no tool can do",
    "plain": "plain questions, without tools",
}


COLUMNS = {
    "with the copying grammar": ("copy", "right"),
    "of these, worded as no template": ("copy", "right_new_wording"),
    "without a grammar": ("off", "right"),
}


def markdown_table(columns: dict[str, dict[str, list[int]]], kinds: list[str]) -> list[str]:
    """Right answers by kind, one column for each way."""
    lines = ["| kind | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for kind in kinds:
        numbers = (column.get(kind, [0, 0]) for column in columns.values())
        cells = (f"{right} of {count} ({100 * right / count:.0f} %)" if count else "" for right, count in numbers)
        lines.append(f"| {NAMES[kind]} | " + " | ".join(cells) + " |")
    return lines


def accuracy_table(evaluation: dict[str, Any]) -> str:
    """A Markdown table of right answers by kind."""
    columns = {title: evaluation[way][part] for title, (way, part) in COLUMNS.items()}
    strange = (str(evaluation[way]["ungrounded"]) for way in ("copy", "off"))
    lines = markdown_table(columns, [kind for kind in NAMES if kind in evaluation["copy"]["right"]])
    return "\n".join([*lines, "| answers with a number or name from nowhere | {} | | {} |".format(*strange)])


def fresh_line(evaluation: dict[str, Any]) -> str:
    """The right answers of the second set in one line."""
    right = evaluation["copy"]["right"]
    return ", ".join(f"{NAMES[kind]} {right[kind][0]} of {right[kind][1]}" for kind in NAMES if kind in right)


def model_card() -> str:
    """The text of README.md beside the built-in model's weights."""
    evaluation = json.loads((builtin_folder() / "evaluation.json").read_text(encoding="utf-8"))
    fresh = json.loads((builtin_folder() / "evaluation_fresh.json").read_text(encoding="utf-8"))
    template = (HERE / "card.md.in").read_text(encoding="utf-8")
    *_, last = (builtin_folder() / "log.csv").read_text(encoding="utf-8").split()
    minutes, _, tokens, *_ = last.split(",")
    template = template.replace("{minutes}", f"{float(minutes):.0f}").replace("{tokens}", f"{int(tokens) / 1e6:.0f}")
    return template.replace("{accuracy}", accuracy_table(evaluation)).replace("{fresh}", fresh_line(fresh))


def small_card() -> str:
    """The text of README.md beside the adapter of `small`."""
    counts = json.loads((TRAINED / "counts.json").read_text(encoding="utf-8"))
    measured = json.loads((TRAINED / "evaluation.json").read_text(encoding="utf-8"))
    started = json.loads((TRAINED / "log.jsonl").read_text(encoding="utf-8").split("\n")[0])
    columns: dict[str, dict[str, list[int]]] = {}
    for title, found in measured.items():
        right = found["right"]
        columns[title] = {kind: numbers for kind, numbers in right.items() if not kind.endswith(")")}
        columns[f"{title}, held back"] = {
            k.removesuffix(" (held back)"): n for k, n in right.items() if k.endswith(")")
        }
    kinds = [kind for kind in NAMES if kind in next(iter(columns.values()))]
    state, more, whole = counts["state"], counts["continued"], counts["validation"].values()
    known = {
        "table": "\n".join(markdown_table(columns, kinds)),
        "rows": "\n".join(f"- **{title}**: {found['how']}" for title, found in measured.items()),
        "rank": counts["rank"],
        "conversations": f"{state['conversations']:,}",
        "tokens": f"{state['tokens'] / 1e6:.0f}",
        "device": f"one {started['device']}, torch {started['torch']}",
        "seconds": f"{state['seconds']:.0f}",
        "steps": f"{state['step']:,}",
        "rate": state["rate"],
        "whole": sum(right for right, _ in whole),
        "validated": sum(total for _, total in whole),
        "more_steps": more["step"],
        "more_conversations": f"{more['conversations']:,}",
        "more_tokens": f"{more['tokens']:,}",
        "more_rate": more["rate"],
    }
    text = (HERE / "card_small.md.in").read_text(encoding="utf-8")
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def main() -> None:
    """Write the cards."""
    (builtin_folder() / "README.md").write_text(model_card(), encoding="utf-8")
    adapter_file().with_name("README.md").write_text(small_card(), encoding="utf-8")


if __name__ == "__main__":
    main()
