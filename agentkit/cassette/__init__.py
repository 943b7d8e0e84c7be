"""One file that records a whole run and replays it: no key, no network, no model, nothing that differs unnoticed.

In a script:

    with Cassette("cassettes/age.yaml", mode="record"):    # later: mode="replay"
        executor.invoke({"input": "..."})                  # or executor.batch([...]): several runs in one file

- `Cassette(path, mode, run=RunSpec | None)` records into, replays from, or resumes one YAML file while its block lasts.
  Recording writes `NAME.partial.yaml` as the run goes on and renames it at the end; `mode="resume"` plays what is there
  and goes on live. A tool with side effects that was under way when a recording ended runs again only when
  `run_again(tool, tool_input)` says so.
- `RunSpec.of(inputs, **settings)` describes a run so that `agentkit replay` and `record` can start it again; its
  `settings` are an `agentkit.settings.RunSettings`.
- `Replay(path)` is a described run: `.title`, `.inputs`, `.model`, and `.events()`, which raises `CassetteDrift`.
  `replay_run(path)` is its events; `read_run_spec(path)` its description.
- `resume(path, build=…, run_again=None, **settings)` and `fork(path, into, step=N, build=…, **settings)` are described
  runs that go on live: `.title`, `.inputs`, `.model`, `.path` (the file that is written), `.run` and `.events()`.
  `build(settings: RunSettings, prompt: Prompt)` makes what runs it, `agentkit.runs.build.build` unless another is
  given; `settings` replace those of the recording (`max_iterations=30`, `model="hf:ORG/NAME"`). `fork` keeps the first
  N turns and their observations as they are, whatever the new model or prompt would have said; its RunSpec has
  `forked_from`.

For who builds runs:

- `active()` is the cassette of this context, or `None`; it costs nothing to ask.
- `cassette.backend(llm)`, `cassette.chat(model, model_id=…)` and `cassette.toolbox(toolbox)`
  wrap what a run is made of; `toolbox` begins a run. Wrapping both a chat model and its backend records each turn once.
  HTTP needs none.
- `cassette.event(event)` is told of each event of a run; a replay with other events has drifted.
- `cassette.remembered(name, compute)` is a value found out once per run and kept in the file's head; a replay of a
  recording without it has drifted, unless a `default` is given.
- `cassette.plays` says whether what happens now was recorded, so that nothing needs to be waited for.

A `CassetteDrift` raised from here has `details`, the whole difference line by line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentkit.recorder import active

if TYPE_CHECKING:
    from agentkit.cassette.cassette import Cassette
    from agentkit.cassette.format.run_spec import RunSpec
    from agentkit.runs.replay import Replay, read_run_spec, replay_run
    from agentkit.runs.resume import Continuation, fork, resume

__all__ = [
    "Cassette",
    "Continuation",
    "Replay",
    "RunSpec",
    "active",
    "fork",
    "read_run_spec",
    "replay_run",
    "resume",
]

_HOME = {
    "Cassette": "agentkit.cassette.cassette",
    "Continuation": "agentkit.runs.resume",
    "Replay": "agentkit.runs.replay",
    "RunSpec": "agentkit.cassette.format.run_spec",
    "fork": "agentkit.runs.resume",
    "read_run_spec": "agentkit.runs.replay",
    "replay_run": "agentkit.runs.replay",
    "resume": "agentkit.runs.resume",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
