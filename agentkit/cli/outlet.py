"""`agentkit mcp`: our tools and the agent, served."""

from __future__ import annotations

import sys
import threading
from typing import Any

from agentkit.cli.approval import approver
from agentkit.errors import AgentkitError
from agentkit.settings import Settings


def serve(settings: Settings, *, port: int | None, yes: bool) -> int:
    """Serve until the client leaves, or for ever over HTTP."""
    from agentkit.cli.live import build_tools
    from agentkit.langchain.tools import as_langchain, from_langchain
    from agentkit.mcp import serving

    serving.check_installed()
    tools = [from_langchain(as_langchain(tool)) for tool in build_tools(settings)]
    server = serving.server_of([*tools, serving.ask_agent(_Agent(settings, yes=yes))])
    if port is None:
        serving.serve_stdio(server)
    else:
        serving.serve_http(server, port, listening=lambda address: print(f"serving {address}", file=sys.stderr))
    return 0


class _Agent:
    """Answers questions; its model is loaded at the first one."""

    def __init__(self, settings: Settings, *, yes: bool) -> None:
        self._settings = settings
        self._yes = yes
        self._lock = threading.Lock()
        self._executor: Any = None

    def __call__(self, question: str) -> str:
        from agentkit.events import Finished

        for event in self._built().events({"input": question}, stream=False):
            last = event
        assert isinstance(last, Finished)
        if not last.answered:
            raise AgentkitError(f"no answer: {last.output}")
        return str(last.output)

    def _built(self) -> Any:
        from agentkit.cli.live import build_executor

        with self._lock:
            if self._executor is None:
                self._executor = build_executor(self._settings, approve=approver(yes=self._yes))
            return self._executor
