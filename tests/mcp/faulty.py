"""An MCP server without any package, for tests: `python -m tests.mcp.faulty KIND [NAME …]`, with one fault.

Its tools are the names (`look`), each of which gives the process' number, or what the kind says.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

READS = {"readOnlyHint": True}
LAST_WORDS = {
    "python": 'Traceback (most recent call last):\n  File "s.py", line 3\nModuleNotFoundError: No module named pgdb',
    "node": "s.js:3\n    throw 1\n    ^\n\nError: DATABASE_URL is not set\n    at main (s.js:3)\n\nNode.js v22.1.0",
    "npm": "npm error code E404\nnpm error 404 Not Found\nnpm error A complete log of this run can be found in: /x.log",
    "group": "  | ValueError: no database\n  +------------------------------------",
    "colour": "\x1b[31mError: no database\x1b[0m\n\n",
    "notes": "Error: no database\nINFO: shutting down",
    "note": "INFO: shutting down",
}


def main(kind: str, *names: str) -> None:
    """Serve until the input ends."""
    if kind in LAST_WORDS:
        sys.stderr.write(f"{LAST_WORDS[kind]}\n")
        sys.exit(1)
    if kind == "says":
        sys.exit(names[0].format(**os.environ))
    pages = 0
    for line in sys.stdin:
        asked = json.loads(line)
        method, number = asked["method"], asked.get("id")
        if method == "initialize":
            about = {"name": "faulty", "version": "1"}
            version = asked["params"]["protocolVersion"]
            send(number, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about})
        elif method == "tools/list":
            pages += 1
            send(number, listed(kind, names or ("look",), pages))
        elif method == "tools/call":
            called(kind, number)
        elif number is not None:
            write({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}})


def listed(kind: str, names: tuple[str, ...], page: int) -> dict[str, Any]:
    """A page of tools."""
    schema = {"type": "object", "properties": {}}
    text = "x" * 15_000 if kind == "long" else os.environ.get("LOOK", "Looks.").format(**os.environ)
    hints = {} if kind.startswith("writing") else READS
    tools = [{"name": name, "description": text, "inputSchema": schema, "annotations": hints} for name in names]
    if kind == "pages without tools":
        return {"tools": [], "nextCursor": f"page {page}"}
    if kind == "pages with the same tools":
        return {"tools": tools, "nextCursor": f"page {page}"}
    if kind == "long":
        return {"tools": [{**tools[0], "name": f"look{number}"} for number in range(30)]}
    return {"tools": tools}


def called(kind: str, number: Any) -> None:
    """The reply to a call, or what comes in its place."""
    result = {"content": [{"type": "text", "text": str(os.getpid())}]}
    reply = {"jsonrpc": "2.0", "id": number, "result": result}
    match kind:
        case "another number":
            write({**reply, "id": 999})
        case "an error without a number":
            write({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})
        case "no version":
            write({"id": number, "result": result})
        case "a batch":
            write([reply])
        case "number as text":
            write({**reply, "id": str(number)})
        case "noise first":
            sys.stdout.write("looking …\n")
            write(reply)
        case "environment":
            send(number, {"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]})
        case "failing":
            text = "needs DATABASE_URL, has {KEY}".format(**os.environ)
            send(number, {"content": [{"type": "text", "text": text}], "isError": True})
        case "ending" | "writing, ending":
            write(reply)
            sys.exit()
        case "crashing" | "writing, crashing":
            sys.stderr.write("Error: the disk is full\n")
            sys.stderr.flush()
            os._exit(3)
        case _:
            write(reply)


def send(number: Any, result: dict[str, Any]) -> None:
    """A reply with its result."""
    write({"jsonrpc": "2.0", "id": number, "result": result})


def write(message: Any) -> None:
    """A line of the protocol."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
