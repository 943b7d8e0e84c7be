"""`agentkit chat`: a conversation that is kept, at a terminal or line by line from a pipe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkit.cli.approval import can_ask, echo
from agentkit.cli.chat_view import ChatView
from agentkit.cli.keeping import (
    Keeps,
    about,
    check_keeps,
    continue_option,
    defer_option,
    find_session,
    find_store,
    joined_session,
    name_option,
    new_name,
    store_option,
    turn,
)
from agentkit.cli.options import Given, check_folder, trust_option, with_settings, with_view, yes_option
from agentkit.cli.question import checked_question
from agentkit.cli.run import begin, model_line, own_settings, say_what_waits
from agentkit.cli.view import View, output_console, print_table, say, shortened
from agentkit.errors import AgentkitError, ConfigurationError, did_you_mean, in_one_line
from agentkit.printable import json_text

if TYPE_CHECKING:
    from agentkit.runs.build import Runner
    from agentkit.sessions.session import Session
    from agentkit.sessions.store import Store
    from agentkit.settings import RunSettings

LEAVE = "Ctrl-D or /quit leaves; the session is kept"
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


@click.command()
@with_settings()
@name_option
@continue_option
@defer_option
@store_option
@trust_option
@yes_option
@with_view
def chat(
    given: Given,
    session: str | None,
    goes_on: bool,
    defer: bool,
    store: str | None,
    trust: bool,
    yes: bool,
    view: View,
) -> int:
    """Talk with a model. What was asked and answered before is known to it, and kept.

    Without a terminal, each line of standard input is a question.
    """
    keeps = Keeps(store=store, session=session, goes_on=goes_on, defer=defer)
    check_keeps(keeps, yes=yes)
    settings, foreign = own_settings(given, view, trust=trust)
    with find_store(keeps.store) as found:
        conversation = Conversation(found, settings, foreign, keeps, view, yes=yes)
        return conversation.at_terminal() if can_ask() else conversation.from_pipe()


class Conversation:
    """One conversation: what answers, the session that it is kept in, and the commands that begin with a slash."""

    def __init__(
        self, store: Store, settings: RunSettings, foreign: Collection[str], keeps: Keeps, view: View, *, yes: bool
    ) -> None:
        if can_ask():
            view = ChatView(as_json=view.as_json, quiet=view.quiet, verbose=view.verbose)
        self._store, self._keeps, self._view, self._yes = store, keeps, view, yes
        self._foreign = foreign
        self._settings = settings
        self._session: Session | None = None
        self._unanswered: str | None = None  # the last question, where no answer came of it
        name = find_session(keeps, store, "") if keeps.session is not None or keeps.goes_on else None
        self._runner = self._begun(settings, foreign)
        if name is not None:
            self._session = joined_session(name, store, self._runner, view, yes=yes)
            view.note(about(self._session))

    def _begun(self, settings: RunSettings, foreign: Collection[str]) -> Runner:
        return begin(
            settings, self._view, yes=self._yes, foreign=foreign, defer=self._keeps.defer, store=self._keeps.store
        )

    # -- asking ----------------------------------------------------------------------------------------------------

    def from_pipe(self) -> int:
        """Each line is a question; the exit code is that of the last one without an answer."""
        code = 0
        for line in sys.stdin:
            if line.strip():
                code = self._ask(checked_question(line)) or code
        return code

    def at_terminal(self) -> int:
        """Until whoever types leaves."""
        from agentkit.cli.chat_line import Line

        line = Line([f"/{name}" for name in COMMANDS])
        self._view.note(f"/help lists the commands; {LEAVE}")
        while True:
            try:
                say("", to=sys.stderr)
                typed = line.read()
            except KeyboardInterrupt:
                say(LEAVE, to=sys.stderr)
                continue
            if typed is None:
                return 0
            with suppress(KeyboardInterrupt), echo(False):  # it would stand in the middle of the answer
                if typed.strip() and self._taken(typed) is LEFT:
                    return 0

    def _taken(self, typed: str) -> object:
        """What came of a message: a command, or a question. What goes wrong with it ends no conversation."""
        try:
            if (command := _COMMAND.fullmatch(typed.strip())) is not None:
                return self._command(command[1], (command[2] or "").strip())
            self._ask(checked_question(typed))
        except AgentkitError as error:
            self._view.settle()
            say(f"error: {in_one_line(_without_secrets(str(error)))}", to=sys.stderr)
        except Exception as error:  # a tool's bug: the conversation is as it was
            self._view.settle()
            say(f"error: {type(error).__name__}: {in_one_line(_without_secrets(str(error)))}", to=sys.stderr)
        return None

    def _ask(self, question: str) -> int:
        self._unanswered = question
        session = self._session
        if session is None:
            name = new_name(self._store, question)
            session = self._session = joined_session(name, self._store, self._runner, self._view, yes=self._yes)
        self._view.wait("thinking …")
        try:
            with turn(session, question, by_user=not self._foreign) as (executor, given):
                code = self._view.show(executor.events(given), model=self._settings.model)
        except KeyboardInterrupt:
            if isinstance(self._view, ChatView):
                self._view.leave_partial()
                run = next(iter(session.runs[-1:]), None)
                left = f"interrupted: this turn is left out; /retry asks again, agentkit resume {run} goes on"
                say(left, to=sys.stderr)
            raise
        if code == 0:
            self._unanswered = None
        say_what_waits(self._view)
        return code

    # -- commands --------------------------------------------------------------------------------------------------

    def _command(self, name: str, rest: str) -> object:
        if (known := COMMANDS.get(name)) is None:
            commands = ", ".join(f"/{one}" for one in COMMANDS)
            near = did_you_mean(name, COMMANDS).replace("mean '", "mean '/")
            raise ConfigurationError(f"no command is called /{name}{near or f'; there are {commands}'}")
        return known[1](self, rest)

    def _help(self, rest: str) -> None:
        print_table(("command", "does"), [(f"/{name}", about) for name, (about, _) in COMMANDS.items()])
        say("Alt-Enter begins another line; Ctrl-C ends the turn that is under way.")

    def _tools(self, rest: str) -> None:
        rows = [(tool.name, " ".join(tool.description.split())) for tool in self._runner.tools]
        print_table(("name", "what it does"), rows)

    def _model(self, spec: str) -> None:
        if not spec:
            say(model_line(self._settings.model))
            return
        from agentkit.runs.build import settled

        settings, foreign = settled(replace(self._settings, model=spec)), {*self._foreign} - {"model"}
        self._runner = self._begun(settings, foreign)
        self._settings, self._foreign = settings, foreign
        if self._session is not None:
            from agentkit.sessions.session import Session

            self._session = Session(self._runner, self._session.name, store=self._store, go_on=True)

    def _retry(self, rest: str) -> None:
        question = self._unanswered or self._undone()
        if question is None:
            raise ConfigurationError("nothing was asked yet; write a question")
        self._view.note(f"again: {shortened(question)}")
        self._ask(question)

    def _undo(self, rest: str) -> None:
        question = self._undone()
        if question is None:
            raise ConfigurationError("there is no turn to take off")
        self._unanswered = None
        self._view.note(f"taken off: {shortened(question)}; its run stays in the log")

    def _undone(self) -> str | None:
        """The question of the last turn, which is taken off; one that waits for a decision is a turn, too."""
        if self._session is None:
            return None
        last = next(iter(self._session.runs[-1:]), None)
        if last is None or not self._store.waiting(last):
            return self._session.undo()
        with self._session.held():
            self._store.undo(self._session.name)
        return self._store.run(last).question

    def _steps(self, rest: str) -> None:
        from agentkit.cli.show import print_steps, story_of_run

        if self._session is None or not (runs := self._session.runs):
            raise ConfigurationError("nothing was asked yet; write a question")
        story = story_of_run(self._store.run(runs[-1])).without_secrets()
        for run in story.runs:
            print_steps(run, output_console())

    def _save(self, name: str) -> None:
        if not name:
            raise ConfigurationError("give a file: /save talk.md, or talk.json")
        messages = self._session.messages if self._session is not None else []
        file = Path(name).expanduser()
        check_folder(file)
        if file.suffix.lower() == ".json":
            text = json_text(messages)
        else:
            titles = {"user": "You", "assistant": "Answer"}
            text = "\n".join(f"## {titles[one['role']]}\n\n{one['content']}\n" for one in messages)
        try:
            with file.open("x", encoding="utf-8", errors="backslashreplace") as written:
                written.write(text)
        except FileExistsError:
            raise ConfigurationError(f"{file} is there already; give another name") from None
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be written ({error.strerror}); give another name") from None
        self._view.note(f"written: {file}")

    def _sessions(self, rest: str) -> None:
        from agentkit.cli.sessions import print_sessions

        print_sessions(self._store)

    def _quit(self, rest: str) -> object:
        return LEFT


LEFT = object()
COMMANDS: Mapping[str, tuple[str, Callable[[Conversation, str], object]]] = {
    "help": ("what there is", Conversation._help),
    "tools": ("the tools that the model may use", Conversation._tools),
    "model": ("SPEC: go on with another model; alone, which one it is", Conversation._model),
    "retry": ("ask the last question again", Conversation._retry),
    "undo": ("take the last turn off", Conversation._undo),
    "steps": ("the steps of the last turn, whole", Conversation._steps),
    "save": ("FILE: write the conversation, as Markdown or *.json", Conversation._save),
    "sessions": ("the sessions that are kept", Conversation._sessions),
    "quit": ("leave; the session is kept", Conversation._quit),
}


def _without_secrets(text: str) -> str:
    from agentkit.secrets import Secrets

    return Secrets(os.environ).scrub_text(text)
