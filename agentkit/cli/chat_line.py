"""The line that is typed in a conversation: with editing, what was typed before, and the commands' names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from agentkit.user_files import user_folder

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "
FURTHER = ". "
HISTORY = "chat-history"


class Line:
    """Reads what is typed at the terminal, one message after another; `words` complete what begins with a slash."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._session = self._made()

    def read(self) -> str | None:
        """The next message; None at the end, and "" for one that was taken back. Raises `KeyboardInterrupt` on an empty
        line."""
        try:
            return self._session.prompt(PROMPT, prompt_continuation=_further)
        except EOFError:
            return None
        except KeyboardInterrupt:
            if self._session.default_buffer.text.strip():
                return ""
            raise

    def _made(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.output import create_output

        completer = WordCompleter([*self._words], sentence=True)
        return PromptSession(
            output=create_output(stdout=sys.stderr),
            history=_history(),
            auto_suggest=AutoSuggestFromHistory(),
            completer=completer,
            complete_while_typing=False,
            key_bindings=_keys(),
            multiline=True,
            enable_history_search=True,
        )


def _further(width: int, line: int, is_soft_wrap: int) -> str:
    """What stands before another line; one that the terminal breaks is none."""
    return "" if is_soft_wrap else FURTHER


def _keys() -> KeyBindings:
    """Enter sends, Alt-Enter begins another line."""
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def another_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history() -> History:
    """What was typed before, without secrets, in a file of the user's alone; where there can be none, in memory."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from agentkit.secrets import Secrets

    class Kept(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(Secrets(os.environ).scrub_text(string))

    file = user_folder("data", os.environ) / HISTORY
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, flags, 0o600))
    except OSError:
        return InMemoryHistory()
    return Kept(str(file))
