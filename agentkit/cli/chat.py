"""`agentkit chat`: a conversation that is kept, at a terminal or line by line from a pipe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkit.cli.approval import can_ask, echo
from agentkit.cli.approvals import decide, how_to_decide, lines_of
from agentkit.cli.chat_view import ChatView
from agentkit.cli.in_session import (
    FoundSession,
    TurnSettings,
    about,
    adopt,
    check_decided,
    check_prompt,
    find_session,
    new_name,
    settings_in,
    turn,
)
from agentkit.cli.keeping import (
    Keeps,
    another_model_option,
    check_keeps,
    continue_option,
    defer_option,
    find_store,
    name_option,
    store_option,
)
from agentkit.cli.options import Given, check_folder, trust_option, with_settings, with_view, yes_option
from agentkit.cli.question import checked_question
from agentkit.cli.run import begin, model_line
from agentkit.cli.stored_run import OpenedRun, joined_run, opened_run
from agentkit.cli.trust import own_settings
from agentkit.cli.view import View, output_console, print_table, say, shortened
from agentkit.errors import AgentkitError, ConfigurationError, did_you_mean, in_one_line
from agentkit.printable import json_text

if TYPE_CHECKING:
    from agentkit.runs.build import Runner
    from agentkit.sessions.session import Session
    from agentkit.sessions.store import Decision, Store, StoredRun

LEAVE = "Ctrl-D or /quit leaves; the session is kept"
SHORTEST_ID = 4  # characters of a call's id, which could be a message's first word
_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)


@click.command()
@with_settings()
@name_option
@continue_option
@another_model_option
@defer_option
@store_option
@trust_option
@yes_option
@with_view
def chat(
    given: Given,
    session: str | None,
    goes_on: bool,
    another_model: bool,
    defer: bool,
    store: str | None,
    trust: bool,
    yes: bool,
    view: View,
) -> int:
    """Talk with a model. What was asked and answered before is known to it, and kept.

    Without a terminal, each line of standard input is a question.
    """
    keeps = Keeps(store=store, session=session, goes_on=goes_on, another_model=another_model, defer=defer)
    check_keeps(keeps, yes=yes)
    with find_store(keeps.store) as found:
        conversation = Conversation(found, given, keeps, view, trust=trust, yes=yes)
        return conversation.at_terminal() if can_ask() else conversation.from_pipe()


class Conversation:
    """One conversation: what answers, the session that it is kept in, and the commands that begin with a slash."""

    def __init__(self, store: Store, given: Given, keeps: Keeps, view: View, *, trust: bool, yes: bool) -> None:
        if can_ask():
            view = ChatView(as_json=view.as_json, quiet=view.quiet, verbose=view.verbose)
        self._store, self._keeps, self._view, self._trust, self._yes = store, keeps, view, trust, yes
        self._unanswered: str | None = None  # the last question, where no answer came of it
        self._found = find_session(keeps, store) if keeps.is_in_session else None
        if self._found is not None:
            self._made_of = settings_in(self._found, given, keeps, store, view, trust=trust)
        else:
            settings, foreign = own_settings(given, view, trust=trust)
            self._made_of = TurnSettings(settings=settings, foreign=foreign)
        self._runner = self._begun(self._made_of)
        self._session: Session | None = None
        if self._found is not None:
            check_prompt(self._found, self._runner)
            view.note(about(self._found))
            self._show_what_waits()

    def _begun(self, made_of: TurnSettings) -> Runner:
        return begin(
            made_of.settings,
            self._view,
            yes=self._yes,
            prompt=made_of.prompt,
            foreign=made_of.foreign,
            defer=self._keeps.defer,
            store=self._keeps.store,
        )

    def _opened(self) -> Session | None:
        """The session; None where nothing was asked in it yet."""
        if self._session is None and self._found is not None and self._found.turns:
            adopt(self._found, self._store)
            self._session = self._joined(self._found.name)
        return self._session

    def _joined(self, name: str) -> Session:
        from agentkit.sessions.session import Session

        return Session(self._runner, name, store=self._store, go_on=True)

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
        if self._found is None:
            self._found = FoundSession(name=new_name(self._store, question))
        check_decided(self._store, self._last_run, self._found.name, self._view)
        session = self._opened() or self._joined(self._found.name)
        self._session = session
        self._view.wait("thinking …")
        with (
            self._may_be_interrupted(),
            turn(session, question, by_user=not self._made_of.foreign) as (executor, given),
        ):
            code = self._view.show(executor.events(given), model=self._made_of.settings.model)
        self._view.say_what_waits()
        return self._answered(code)

    def _answered(self, code: int) -> int:
        if code == 0:
            self._unanswered = None
        return code

    @contextmanager
    def _may_be_interrupted(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if isinstance(self._view, ChatView):
                self._view.leave_partial()
                left = (
                    f"interrupted: this turn is left out; /retry asks again, agentkit resume {self._last_run} goes on"
                )
                say(left, to=sys.stderr)
            raise

    @property
    def _last_run(self) -> str | None:
        """That of the last turn, whether it is in the conversation or not."""
        if self._session is not None:
            return next(iter(self._session.runs[-1:]), None)
        return self._found.turns[-1].id if self._found is not None and self._found.turns else None

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
            say(model_line(self._made_of.settings.model))
            return
        made_of = self._made_of.changed({"model": spec})
        self._runner = self._begun(made_of)
        self._made_of = made_of
        if self._session is not None:
            self._session = self._joined(self._session.name)

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
        session = self._opened()
        return None if session is None else session.undo()

    # -- what waits ------------------------------------------------------------------------------------------------

    def _approve(self, rest: str) -> None:
        asked, more = self._asked_about(rest)
        if more:
            raise ConfigurationError(f"/approve takes an id alone; {how_to_decide(asked, self._view)}")
        self._decide(asked, True)

    def _deny(self, rest: str) -> None:
        asked, message = self._asked_about(rest)
        self._decide(asked, False, message=message or None)

    def _answer(self, rest: str) -> None:
        asked, text = self._asked_about(rest)
        if not text:
            raise ConfigurationError(f"there is no answer; {how_to_decide(asked, self._view)}")
        self._decide(asked, None, message=text)

    def _waiting(self) -> list[Decision]:
        run = self._last_run
        return self._store.waiting(run) if run is not None else []

    def _show_what_waits(self) -> None:
        """What this conversation waits for, to whoever opens it."""
        if not isinstance(self._view, ChatView):
            return
        for one in self._waiting():
            for line in (*lines_of(one), how_to_decide(one, self._view)):
                say(line, to=sys.stderr)

    def _asked_about(self, rest: str) -> tuple[Decision, str]:
        """The call that is meant, which needs its id where there are several, and the text behind that."""
        if not (waiting := self._waiting()):
            raise ConfigurationError("nothing waits for a decision in this conversation")
        first, _, more = rest.partition(" ")
        named = [one for one in waiting if len(first) >= SHORTEST_ID and one.id.startswith(first)]
        if len(named) == 1:
            return named[0], more.strip()
        if len(waiting) > 1:
            ids = "; ".join(how_to_decide(one, self._view) for one in waiting)
            raise ConfigurationError(f"several calls wait, say which: {ids}")
        return waiting[0], rest

    def _decide(self, asked: Decision, says: bool | None, *, message: str | None = None) -> None:
        self._unanswered = self._store.run(asked.run).question
        with self._may_be_interrupted():
            code = decide(self._store, asked.id, says, self._view, self._going_on, trust=self._trust, message=message)
        self._answered(code)

    def _going_on(self, run: StoredRun) -> AbstractContextManager[OpenedRun]:
        """The run with what answers here; with what it was begun with, where that is another model."""
        if run.spec.settings.model != self._runner.spec({}).settings.model:
            more = {"trust": self._trust, "yes": self._yes, "defer": self._keeps.defer}
            return opened_run(self._store, run, self._view, {}, **more)
        return joined_run(self._store, run, self._runner, self._view)

    # -- what there is ---------------------------------------------------------------------------------------------

    def _steps(self, rest: str) -> None:
        from agentkit.cli.show import print_steps, story_of_run

        session = self._opened()
        if session is None or not (runs := session.runs):
            raise ConfigurationError("nothing was asked yet; write a question")
        story = story_of_run(self._store.run(runs[-1])).without_secrets()
        for run in story.runs:
            print_steps(run, output_console())

    def _save(self, name: str) -> None:
        if not name:
            raise ConfigurationError("give a file: /save talk.md, or talk.json")
        session = self._opened()
        messages = session.messages if session is not None else []
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
    "approve": ("[ID]: let a call run that waits", Conversation._approve),
    "deny": ("[ID] [MESSAGE]: do not let it run, and tell the model", Conversation._deny),
    "answer": ("[ID] TEXT: answer what a tool asks", Conversation._answer),
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
