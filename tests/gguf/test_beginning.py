"""What was computed of a system text serves later processes: the same replies, sooner, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from agentkit.models.backend import Completion
from agentkit.models.gguf import beginning, engine
from agentkit.models.gguf.backend import GgufBackend

from .conftest import write_adapter, write_model
from .test_grammars import completion

SYSTEM = {"role": "system", "content": "You answer questions, and say only what is known. " * 10}
TOKENS = 3 + len("system\n\nuser\n") + len(SYSTEM["content"])  # one for each byte


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With so much room that nobody has to count first."""
    return write_model(tmp_path_factory.mktemp("gguf") / "roomy.gguf", context=4096)


@contextmanager
def opened(file: Path, **options: object) -> Iterator[GgufBackend]:
    made = GgufBackend(file, **options)
    try:
        yield made
    finally:
        made.close()


def asked(backend: GgufBackend, question: str = "hello", **options: object) -> Completion:
    messages = [SYSTEM, {"role": "user", "content": question}]
    return completion(backend, messages=messages, options={"max_new_tokens": 8, **options})


def reply(file: Path, question: str = "hello", **options: object) -> Completion:
    """The first reply of a process of its own, as far as llama.cpp sees it."""
    with opened(file, **options) as backend:
        return asked(backend, question)


def cached(of: Completion) -> int:
    assert of.usage is not None
    return of.usage.cached_tokens


def files() -> list[Path]:
    return sorted(beginning.folder().glob("*"))


def test_a_later_process_computes_only_what_is_new(file: Path) -> None:
    first = reply(file)
    assert cached(first) == 0
    (kept,) = files()
    assert kept.stat().st_mode & 0o077 == 0
    later = reply(file)
    assert cached(later) == TOKENS
    assert later.text == first.text
    assert cached(reply(file, "something else")) == TOKENS
    assert files() == [kept]


def together(backend: GgufBackend, *questions: str) -> list[Completion]:
    with ThreadPoolExecutor(len(questions)) as threads:
        return list(threads.map(partial(asked, backend), questions))


def test_slots_that_compute_together_have_it_computed_once(file: Path) -> None:
    questions = ("hello", "goodbye", "something else", "more")
    alone = [reply(file, question, reuse=False).text for question in questions]
    with opened(file, batch_size=4) as backend:
        first, later = together(backend, *questions), together(backend, *questions[::-1])
    assert [each.text for each in first] == alone
    assert sorted(map(cached, first)) == [0, TOKENS, TOKENS, TOKENS]
    assert min(map(cached, later)) >= TOKENS
    assert len(files()) == 1


def test_what_begins_no_process_is_kept_where_it_comes_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(file, batch_size=4) as backend:
        asked(backend)
        monkeypatch.setitem(SYSTEM, "content", SYSTEM["content"].upper())
        asked(backend)
        assert len(files()) == 1
        least, *others = sorted(map(cached, together(backend, "a", "b", "c")))
        assert least < 10
        assert others == [TOKENS, TOKENS]
    assert len(files()) == 2


def test_the_reply_is_that_of_a_model_that_keeps_nothing(file: Path) -> None:
    alone = reply(file, reuse=False)
    assert files() == []
    assert [reply(file).text for _ in range(2)] == [alone.text] * 2


def test_another_model_adapter_scale_or_text_has_another_file(file: Path, tmp_path: Path) -> None:
    other, adapter = (
        write_model(tmp_path / "other.gguf", seed=3, context=4096),
        write_adapter(tmp_path / "adapter.gguf"),
    )
    for options in ({}, {"adapter": adapter}, {"adapter": adapter, "adapter_scale": 0.5}):
        plain = reply(file, reuse=False, **options)
        assert cached(reply(file, **options)) == 0
        again = reply(file, **options)
        assert (cached(again), again.text) == (TOKENS, plain.text)
    assert cached(reply(other)) == 0
    with opened(file) as backend:
        backend.template = backend.template.told({})
        other_text = [{"role": "system", "content": SYSTEM["content"] + "!"}, {"role": "user", "content": "hello"}]
        assert completion(backend, messages=other_text, options={"max_new_tokens": 2}).usage.cached_tokens == 0
    assert len(files()) == 5


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:50] + b"\xff" * 40 + data[90:], bytes])
def test_a_damaged_file_is_computed_again(file: Path, damage: object) -> None:
    first = reply(file)
    (kept,) = files()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole) if damage is not bytes else b"")
    again = reply(file)
    assert (cached(again), again.text) == (0, first.text)
    assert [each.read_bytes() for each in files()] == [whole]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_what_another_user_can_write_is_not_read(file: Path) -> None:
    reply(file)
    (kept,) = files()
    kept.chmod(0o666)
    assert cached(reply(file)) == 0
    beginning.folder().chmod(0o777)
    assert cached(reply(file)) == 0


def test_a_folder_that_cannot_be_made_costs_nothing(file: Path, tmp_path: Path) -> None:
    beginning.folder().parent.mkdir(parents=True)
    beginning.folder().write_text("in the way")
    first = reply(file)
    assert (cached(first), reply(file).text) == (0, first.text)


def test_the_line_may_break(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> dict[str, int]:
        raise OSError("llama.cpp's server: status 500")

    monkeypatch.setattr(engine.Engine, "ask", ask)
    with opened(file) as backend:
        assert asked(backend).text == reply(file, reuse=False).text
    assert files() == []


def test_only_the_first_reply_asks_and_forgetting_ends_it(file: Path) -> None:
    reply(file)
    with opened(file) as backend:
        assert [cached(asked(backend)), cached(asked(backend, "other"))] == [TOKENS, TOKENS]
        assert len(files()) == 1
    with opened(file) as backend:
        backend.forget()
        assert cached(asked(backend)) == 0


def test_a_short_system_text_is_not_worth_a_file(file: Path) -> None:
    with opened(file) as backend:
        completion(backend, messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}])
    assert files() == []


def test_the_longest_unused_make_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reply(file)
    (first,) = files()
    os.utime(first, (1, 1))
    monkeypatch.setattr(beginning, "MOST_BYTES", first.stat().st_size + 10)
    reply(file, adapter_scale=1.0, n_ctx=1024)
    (second,) = files()
    assert second != first


def test_a_full_disk_keeps_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp does not notice that the last of what it wrote is not there, and ends the process that reads it."""
    real = engine.Engine.ask

    def ask(of: engine.Engine, address: str, body: dict[str, str]) -> dict[str, int]:
        answer = real(of, address, body)
        if "save" in address:
            written = beginning.folder() / body["filename"]
            os.truncate(written, written.stat().st_size - 9)
        return answer

    monkeypatch.setattr(engine.Engine, "ask", ask)
    first = reply(file)
    assert (cached(first), files()) == (0, [])
