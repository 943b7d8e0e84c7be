"""The command line over a store of the test's own, in this process: scripted replies of a server, and tools that note
what they did."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentkit.cli import main
from agentkit.sessions.store import Store
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, say, serving

TOOLS = '''
import os
from agentkit.errors import Ask
from agentkit.tool import Tool

def send(text):
    with open(os.environ["OUTBOX"], "a") as file:
        print(text, file=file)
    return f"sent {text}"

def pay(text):
    raise Ask("Which account?")

def mail(to: str, text: str):
    """Sends a mail."""
    return send(f"{to}: {text}")

send_tool = Tool(name="Send", description="Sends.", run=send, side_effects=True)
pay_tool = Tool(name="Pay", description="Pays.", run=pay, side_effects=False)
'''
ENTRIES = "[agentkit.tools]\nsend = outbox:send_tool\npay = outbox:pay_tool\nmail = outbox:mail\n"


@dataclass
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


@dataclass
class Bench:
    """A folder, a store in it, a server that plays turns, and what `send` sent."""

    folder: Path
    server: ChatServer
    patch: pytest.MonkeyPatch
    capture: Any
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> list[str]:
        outbox = self.folder / "outbox.txt"
        return outbox.read_text().splitlines() if outbox.exists() else []

    @property
    def store(self) -> Store:
        """The user's own."""
        return Store(self.folder / "data" / "agentkit" / "agentkit.db")

    def plays(self, *turns: str) -> None:
        """What the model says from now on, the last one again and again."""
        self.server.requests.clear()
        self.server.plays = [say(turn) for turn in turns]

    def run(self, *words: str, stdin: str = "") -> Done:
        """A command, nobody at a terminal."""
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", ["agentkit", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
            with pytest.raises(SystemExit) as ended:
                main()
        shown = self.capture.readouterr()
        return Done(int(ended.value.code or 0), shown.out, shown.err)

    def ask(self, *words: str, stdin: str = "") -> Done:
        """A command that asks the server's model."""
        model = ("--model", self.server.url, "--mode", "react-json")
        tools = ("--tools", "send,pay,mail,calculator")
        return self.run(words[0], *model, *tools, *words[1:], stdin=stdin)

    def ids(self) -> list[str]:
        """Decisions that wait."""
        with self.store as store:
            return [one.id for one in store.waiting()]


@contextmanager
def bench(folder: Path, patch: pytest.MonkeyPatch, capture: Any) -> Iterator[Bench]:
    package = folder / "package"
    (package / "outbox-1.dist-info").mkdir(parents=True)
    (package / "outbox.py").write_text(TOOLS)
    (package / "outbox-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: outbox\nVersion: 1\n")
    (package / "outbox-1.dist-info" / "entry_points.txt").write_text(ENTRIES)
    patch.syspath_prepend(str(package))
    for name in [one for one in os.environ if one.startswith("AGENTKIT_")]:
        patch.delenv(name)
    for name in ("data", "state", "cache", "config"):
        patch.setenv(f"XDG_{name.upper()}_HOME", str(folder / name))
    patch.setenv("OUTBOX", str(folder / "outbox.txt"))
    patch.chdir(folder)
    with serving(ChatServer(models=None)) as server:
        yield Bench(folder, server, patch, capture)
    sys.modules.pop("outbox", None)


def conversation(*answers: str) -> Sequence[str]:
    return [final(answer) for answer in answers]


__all__ = ["Bench", "Done", "action", "bench", "conversation", "final"]
