"""`Session`: a conversation that is kept, turn by turn, and goes on in any process that has the store.

session = Session(executor, "trip")
session.ask("What is 17 * 3?")["output"]            # "51"
session.ask("And times 2?")["output"]               # "102"
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Protocol, Self

from agentkit.cassette.format.run_spec import RunSpec
from agentkit.core.history import Exchange, History
from agentkit.core.run import Within, entered_in_thread
from agentkit.errors import ConfigurationError, StoreError, described
from agentkit.events import Event
from agentkit.secrets import public_address
from agentkit.sessions.store import WAIT_S, Store
from agentkit.sessions.stored_runs import exchange_of, kept


class Asked(Protocol):
    """What a session asks: an `AgentExecutor`, or a `Runner`."""

    def spec(self, inputs: dict[str, Any]) -> RunSpec:
        """What a run of it is made of."""
        ...

    def joined(self, within: Within) -> Self:
        """The same for one run, which belongs to this."""
        ...


class Session:
    """The conversation of this name with `executor`, an `AgentExecutor` or a `Runner`, kept in `store`.

    Without a store it is the user's own. The model sees the questions and answers of earlier turns, and of the steps
    those that fit. What another process adds meanwhile is seen at the next question; one that is under way is waited
    for, `wait_s` seconds. A session that was held with another model or prompt is a `ConfigurationError`, unless
    `go_on` says that it is meant. Raises `StoreError`.
    """

    def __init__(
        self,
        executor: Any,
        name: str = "default",
        *,
        store: Store | str | os.PathLike[str] | None = None,
        go_on: bool = False,
        wait_s: float = WAIT_S,
    ) -> None:
        self.name = name
        self.store = found_store(store)
        self._executor = executor
        self._go_on = go_on
        self._wait_s = wait_s
        self._exchanges: dict[str, Exchange | None] = {}
        _check_asked(executor)

    def __repr__(self) -> str:
        return f"Session({self.name!r} in {self.store.address})"

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(self, question: str, **inputs: Any) -> dict[str, Any]:
        """The next turn: what `executor.invoke` gives. `inputs` are other values that the prompt has a place for."""
        with self.turn(question, **inputs) as (executor, given):
            result: dict[str, Any] = executor.invoke(given)
            return result

    async def aask(self, question: str, **inputs: Any) -> dict[str, Any]:
        """`ask`, awaiting."""
        async with self.aturn(question, **inputs) as (executor, given):
            result: dict[str, Any] = await executor.ainvoke(given)
            return result

    def stream(self, question: str, **inputs: Any) -> Iterator[dict[str, Any]]:
        """The next turn in the chunks of `executor.stream`; a turn that is left before its end can be resumed."""
        with self.turn(question, **inputs) as (executor, given):
            yield from executor.stream(given)

    async def astream(self, question: str, **inputs: Any) -> AsyncIterator[dict[str, Any]]:
        """`stream`, awaiting."""
        async with self.aturn(question, **inputs) as (executor, given):
            async for chunk in executor.astream(given):
                yield chunk

    def events(self, question: str, **inputs: Any) -> Iterator[Event]:
        """The next turn as it happens."""
        with self.turn(question, **inputs) as (executor, given):
            yield from executor.events(given)

    async def aevents(self, question: str, **inputs: Any) -> AsyncIterator[Event]:
        """`events`, awaiting."""
        async with self.aturn(question, **inputs) as (executor, given):
            async for event in executor.aevents(given):
                yield event

    @contextmanager
    def turn(self, question: str, **inputs: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
        """The block of one turn: what runs it, and its inputs. Nobody else asks in this session meanwhile."""
        given = {**inputs, "input": question}
        spec = self._executor.spec(given)
        with self.store.held_session(self.name, wait_s=self._wait_s):
            before, now = self.store.session(self.name).facts, facts_of(spec)
            self._check_same(before, now)
            runs = self.store.turns(self.name)
            self._check_decided(runs)
            within = kept(self.store, spec, self._history(runs), session=self.name)
            yield self._executor.joined(within), given
            if before != now and self.store.run(self.store.turns(self.name)[-1]).status in ("finished", "waiting"):
                self.store.keep_facts(self.name, now)  # of a turn that failed they are nobody's

    def aturn(self, question: str, **inputs: Any) -> AbstractAsyncContextManager[tuple[Any, dict[str, Any]]]:
        """`turn`, awaiting; another process may hold the session."""
        return entered_in_thread(self.turn(question, **inputs))

    # -- what was said -------------------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[dict[str, str]]:
        """Questions and answers so far, as chat messages of `role` and `content`."""
        return [
            message
            for exchange in self._history(self.runs).exchanges
            for message in (
                {"role": "user", "content": exchange.question},
                {"role": "assistant", "content": exchange.answer},
            )
        ]

    @property
    def runs(self) -> list[str]:
        """The ids of its turns' runs, in their order."""
        self.store.session(self.name)
        return self.store.turns(self.name)

    def undo(self) -> str | None:
        """Take the last turn off and give its question; None where there is none. Its run stays in the log."""
        with self.held():
            while (run := self.store.undo(self.name)) is not None:
                if self.store.run(run).status in ("finished", "waiting"):
                    return self.store.run(run).question
        return None

    def fork(self, name: str) -> Session:
        """Another session with the turns so far, which goes on by itself."""
        self.store.session(self.name)
        self.store.fork(self.name, name)
        return Session(self._executor, name, store=self.store, go_on=self._go_on, wait_s=self._wait_s)

    def held(self) -> AbstractContextManager[None]:
        """The block in which nobody else asks in this session."""
        self.store.session(self.name)
        return self.store.held_session(self.name, wait_s=self._wait_s)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _history(self, runs: list[str]) -> History:
        return History(tuple(exchange for run in runs if (exchange := self._exchange(run)) is not None))

    def _exchange(self, run: str) -> Exchange | None:
        """A turn as later ones see it; it is read once, for it does not change when it has ended."""
        if run not in self._exchanges:
            exchange = exchange_of(self.store.run(run))
            if exchange is None:  # it was broken off or waits, and may go on
                return None
            self._exchanges[run] = exchange
        return self._exchanges[run]

    def _check_decided(self, runs: list[str]) -> None:
        waiting = self.store.waiting(runs[-1]) if runs and runs[-1] not in self._exchanges else []
        if waiting:
            raise ConfigurationError(
                f"session {self.name!r} waits for a decision: {waiting[0].id}, {waiting[0].tool}; agentkit approvals "
                "lists and takes them, and so does executor.decide"
            )

    def _check_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = [name for name in now if name in before and before[name] != now[name]]
        if changed and not self._go_on:
            raise ConfigurationError(
                f"session {self.name!r} was held with {_named(before, changed)}, this is {_named(now, changed)}; "
                "go_on=True goes on with it all the same, or name another session"
            )


def facts_of(spec: RunSpec) -> dict[str, Any]:
    """What a session keeps beside its turns: another model or prompt reads them otherwise."""
    return {"model": public_address(spec.settings.model), "prompt": spec.settings.prompt}


def _named(facts: Mapping[str, Any], names: Sequence[str]) -> str:
    return " and ".join(f"{name} {facts[name]}" for name in names)


def found_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """The store that is meant: by its address, by AGENTKIT_STORE, or the user's own. Raises `StoreError`."""
    if isinstance(store, Store):
        return store
    if (found := Store.find(store)) is None:
        raise StoreError("What is to be kept needs a store, and AGENTKIT_STORE says none; give one: store=FILE")
    return found


def _check_asked(executor: Any) -> None:
    if not all(callable(getattr(executor, name, None)) for name in ("spec", "joined")):
        raise ConfigurationError(
            f"expected an AgentExecutor, saw {described(executor)}; AgentExecutor.from_model(MODEL, TOOLS) makes one"
        )
