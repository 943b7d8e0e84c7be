"""One file that records a whole run and replays it: no key, no network, no model, nothing that differs unnoticed.

In a script:

    with Cassette("cassettes/age.yaml", mode="record"):    # later: mode="replay"
        executor.invoke({"input": "..."})

- `Cassette(path, mode, run=RunSpec | None)` records into, or replays from, one YAML file while its block lasts.
- `RunSpec.of(inputs, **settings)` describes a run so that `agentkit replay` and `record` can start it again.
- `Replay(path)` is a described run: `.title`, `.inputs`, `.model`, and `.events()`, which raises `CassetteDrift`.
  `replay_run(path)` is its events; `read_run_spec(path)` its description.

For who builds runs:

- `active()` is the cassette of this context, or `None`; it costs nothing to ask.
- `cassette.backend(llm)`, `cassette.turn_model(model, model_id=…)` and `cassette.toolbox(toolbox, deterministic=…)`
  wrap what a run is made of. Wrapping both a chat model and its backend records each turn once. HTTP needs none.

A `CassetteDrift` raised from here has `details`, the whole difference line by line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentkit.cassette.current import active

if TYPE_CHECKING:
    from agentkit.cassette.cassette import Cassette
    from agentkit.cassette.replay import Replay, read_run_spec, replay_run
    from agentkit.cassette.run_spec import RunSpec

__all__ = ["Cassette", "Replay", "RunSpec", "active", "read_run_spec", "replay_run"]

_HOME = {
    "Cassette": "cassette",
    "Replay": "replay",
    "RunSpec": "run_spec",
    "read_run_spec": "replay",
    "replay_run": "replay",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
