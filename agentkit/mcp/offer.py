"""What a server offers: its list of tools, page by page, held to what a prompt and a run can have."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError, in_one_line, short_repr
from agentkit.react_json.hostile import check_offered
from agentkit.tool import Tool
from agentkit.toolbox.registry import check_names, plain_name

MOST_TOOLS = 1000
MOST_CHARACTERS = {"name": 128, "description": 20_000, "schema": 100_000}  # of one tool; all of it is in every prompt
MOST_TOGETHER = 400_000  # about 100,000 tokens; GitHub's server of some hundred tools has half of it
MOST_IDLE_PAGES = 10  # in a row that bring no tool
MOST_NAMED = 3  # of the tools that are left out
MOST_REASON = 1000

logger = logging.getLogger("agentkit")


async def listed(client: Any) -> list[dict[str, Any]]:
    """The tools of a server; raises `ValueError` for a list that is too long or does not end."""
    tools: list[dict[str, Any]] = []
    names: set[str] = set()
    cursors: set[str] = set()
    cursor, characters, idle = None, 0, 0
    while True:
        page = wire(await client.list_tools(cursor=cursor) if cursor else await client.list_tools())
        more = [_offered(tool) for tool in page["tools"]]
        tools += more
        characters += sum(map(_length, more))
        if len(tools) > MOST_TOOLS or characters > MOST_TOGETHER:
            raise ValueError(f"more than {MOST_TOOLS} tools, or {MOST_TOGETHER} characters of them")
        cursor = page.get("nextCursor")
        if not cursor:
            return tools
        idle = 0 if names.symmetric_difference(names := names | {tool["name"] for tool in more}) else idle + 1
        if cursor in cursors or idle > MOST_IDLE_PAGES:
            raise ValueError("a list of tools without an end")
        cursors.add(cursor)


class Sieve:
    """Takes out of lists on their way what is no tool for a run; keeps why.

    For one tool of another shape the package refuses all of them.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {}

    def take_out(self, result: Any) -> None:
        """Change a result, as it is on the wire, if it is a list of tools."""
        if not isinstance(result, dict) or not isinstance(tools := result.get("tools"), list):
            return
        tools = tools[: MOST_TOOLS + 1]  # one more is refused with all of them
        wrong = [_wrong(tool) for tool in tools]
        self._reasons |= dict.fromkeys([reason for reason in wrong if reason][:MOST_TOOLS])
        result["tools"] = [tool for tool, reason in zip(tools, wrong, strict=True) if not reason]

    def usable(self, offered: Sequence[dict[str, Any]], server: str) -> list[dict[str, Any]]:
        """The tools that a run can have, once it is said which others there are; raises `ValueError` where none is.

        Of two with one name it has neither: it could not tell which of them it is that only reads.
        """
        named: dict[str, list[dict[str, Any]]] = {}
        for tool in offered:
            named.setdefault(plain_name(tool["name"]), []).append(tool)
        reasons = [*self._reasons, *filter(None, (_one_of_several(same) for same in named.values()))]
        tools = [tool for same in named.values() if len(same) == 1 for tool in same]
        if reasons and not tools:
            raise ValueError(reasons[0])
        if reasons:
            more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
            logger.warning("MCP server %r: left out: %s%s", server, "; ".join(reasons[:MOST_NAMED]), more)
        return tools


def wire(message: Any) -> dict[str, Any]:
    """A message as the protocol writes it."""
    plain: dict[str, Any] = message.model_dump(mode="json", by_alias=True, exclude_none=True)
    return plain


def invalid(error: Any) -> str:
    """What is wrong with a reply, as pydantic has it, in one line."""
    first = error.errors(include_url=False)[0]
    wrong = in_one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 300)
    return f"no {error.title} of the protocol ({wrong})"


def _offered(tool: Mapping[str, Any]) -> dict[str, Any]:
    hints = tool.get("annotations") or {}
    return {
        "name": tool["name"],
        "description": tool.get("description") or tool["name"],
        "schema": tool["inputSchema"],
        "read_only": hints.get("readOnlyHint") is True,
        "idempotent": hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True,
    }


def _length(tool: Mapping[str, Any]) -> int:
    """How long a tool's name, description and schema are together; raises `ValueError` for one that is too long."""
    lengths = {part: len(text if isinstance(text := tool[part], str) else json.dumps(text)) for part in MOST_CHARACTERS}
    for part, most in MOST_CHARACTERS.items():
        if lengths[part] > most:
            raise ValueError(f"tool {short_repr(tool['name'])} with a {part} of more than {most} characters")
    return sum(lengths.values())


def _wrong(listed: Any) -> str:
    """Why no run can have a tool that is offered; "" for one that it can."""
    from mcp.types import Tool as Listed
    from pydantic import ValidationError

    try:
        Listed.model_validate(listed, by_name=False)
        tool = _offered(listed)
        _length(tool)
        check_offered([Tool(**{part: tool[part] for part in MOST_CHARACTERS}, run=str)])
    except ValidationError as error:
        name = listed.get("name") if isinstance(listed, dict) else listed
        return f"tool {short_repr(name)}, which is {invalid(error)}"
    except (ValueError, ConfigurationError) as error:
        return in_one_line(error, MOST_REASON)
    return ""


def _one_of_several(same: Sequence[Mapping[str, Any]]) -> str:
    try:
        check_names([tool["name"] for tool in same])
    except ConfigurationError as error:
        return str(error)
    return ""
