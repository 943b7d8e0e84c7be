"""No secret reaches a cassette, in whatever form, and none is needed to replay."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.cassette.format.event_stream import scrubbed_lines
from agentkit.cassette.format.file import load
from agentkit.cassette.format.turns import to_chunks
from agentkit.errors import CassetteError
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.scripted import ScriptedBackend
from agentkit.secrets import REDACTED, Secrets
from tests.cassette.runs import TURNS, Tools, answer, run
from tests.doubles.models import action, final

KEY = "s3cr3t/+key=value&more"
ENVIRONMENT = {
    "SERPAPI_API_KEY": KEY,
    "HOME": "/home/ada-lovelace",
    "SHORT_KEY": "abc",
    "TOKENIZERS_PARALLELISM": "falsehood",
}
FAKE_HF = "hf_" + "Ab3dEfGhIjKlMnOpQrStUv"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"key {KEY} here", f"key {REDACTED} here"),
        (f"u?api_key={quote(KEY, safe='')}&q=1", f"u?api_key={REDACTED}&q=1"),
        (f"in a path {quote(KEY, safe='').lower()}", f"in a path {REDACTED}"),
        (
            "https://serpapi.com/search?q=a&api_key=0123abc&num=5",
            f"https://serpapi.com/search?q=a&api_key={REDACTED}&num=5",
        ),
        ('{"api_key": "0123456"}', f'{{"api_key": "{REDACTED}"}}'),
        (f"token {FAKE_HF}", f"token {REDACTED}"),
        ("sk-proj-" + "a1b2" * 8, REDACTED),
        ("Authorization: Bearer abcdefghijkl0123", f"Authorization: Bearer {REDACTED}"),
        ("a bearer authentication scheme", "a bearer authentication scheme"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- x", f"{REDACTED} x"),
        ("/home/ada-lovelace says abc, falsehood", "/home/ada-lovelace says abc, falsehood"),
        ("the risk-assessment of 2026 task-1234567890123456", "the risk-assessment of 2026 task-1234567890123456"),
    ],
)
def test_text_is_scrubbed(text: str, left: str) -> None:
    secrets = Secrets(ENVIRONMENT)
    assert secrets.scrub_text(text) == left
    assert secrets.find(left) is None
    assert (secrets.find(text) is None) == (text == left)


@pytest.mark.slow
@settings(deadline=None)
@given(before=st.binary(max_size=8), after=st.binary(max_size=8), url_safe=st.booleans())
def test_base64_is_found_at_any_place(before: bytes, after: bytes, url_safe: bool) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    scrubbed = Secrets(ENVIRONMENT).scrub_text(encode(before + KEY.encode() + after).decode())
    assert REDACTED in scrubbed
    assert len(scrubbed.replace(REDACTED, "")) <= (len(before) + len(after)) * 4 / 3 + 8


def test_fields_keys_and_bytes_are_scrubbed() -> None:
    value = {KEY: [KEY.encode()], "client_secret": "x", "token": " the", "password": "", "n": 1}
    scrubbed = {REDACTED: [REDACTED.encode()], "client_secret": REDACTED, "token": " the", "password": "", "n": 1}
    assert Secrets(ENVIRONMENT).scrub(value) == scrubbed


def test_a_run_that_meets_a_key_is_recorded_without_it_and_replays_with_any_other(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    turns = (action("Search", f"with {KEY}"), TURNS[1], final(f"125 {FAKE_HF}"))
    recorded = run(path, "record", ScriptedBackend(turns), Tools(found=f"{KEY} found"), environment=ENVIRONMENT)
    assert KEY in answer(recorded) or FAKE_HF in answer(recorded)
    text = path.read_text()
    assert KEY not in text
    assert FAKE_HF not in text
    assert "keys: [SERPAPI_API_KEY]" in text
    for environment in ({}, {"SERPAPI_API_KEY": "another-key-0"}, dict(ENVIRONMENT)):
        before = dict(environment)
        assert answer(run(path, "replay", ScriptedBackend(()), Tools(), environment=environment)) == f"125 {REDACTED}"
        assert environment == before


def test_saving_is_refused_when_a_secret_is_left(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    environment: dict[str, str] = {}
    tools = Tools(found="late-but-secret")

    class Late(ScriptedBackend):
        def generate_chat(self, request):  # type: ignore[no-untyped-def]
            if len(self.requests) == 2:
                environment["LATE_TOKEN"] = "late-but-secret"
            return super().generate_chat(request)

    with pytest.raises(CassetteError, match="not written, the value of LATE_TOKEN is in it") as caught:
        run(path, "record", Late(TURNS), tools, environment=environment)
    assert "late-but-secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class InPieces(ScriptedBackend):
    """Gives its replies three characters at a time, the first after a thought that is split as well."""

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        for chunk in super().generate_chat(request):
            for thought in (KEY[:5], KEY[5:] + " is the key") if len(self.requests) == 1 else ():
                yield Chunk(thinking=thought)
            for start in range(0, len(chunk.text), 3):
                yield Chunk(text=chunk.text[start : start + 3])
            yield Chunk(finish_reason=chunk.finish_reason, usage=chunk.usage)


def test_a_key_that_comes_in_pieces_is_recorded_without_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    turns = (action("Search", f"with {KEY}"), TURNS[1], final(f"125 {FAKE_HF}"))
    run(path, "record", InPieces(turns), Tools(), environment=ENVIRONMENT)
    (first, *_, last) = [entry for entry in load(path).entries if entry.kind == "turn"]
    assert f"with {REDACTED}" in first.response["string"]
    assert last.response["string"].endswith(f"125 {REDACTED}")
    assert len(first.response["pieces"]) > 20
    for recorded in (first, last):
        chunks = list(to_chunks(recorded))
        assert "".join(chunk.text for chunk in chunks) == recorded.response["string"]
        assert KEY[5:] not in "".join(chunk.thinking for chunk in chunks)
    assert answer(run(path, "replay", ScriptedBackend(()), Tools(), environment={})) == f"125 {REDACTED}"


@pytest.mark.parametrize(
    "line",
    [
        'data: {{"id":"1","choices":[{{"delta":{{"content":"{}"}}}}]}}\n\n',
        '{{"message": {{"role": "assistant", "content": "{}"}}}}\n',
        'event: delta\ndata: {{"delta": {{"partial_json": "{}"}}}}\n\n',
    ],
    ids=["data", "lines", "events"],
)
def test_a_key_that_is_split_over_a_stream_is_scrubbed(line: str) -> None:
    words = ["The key", " is ", FAKE_HF[:6], FAKE_HF[6:11], FAKE_HF[11:], ", ", "sure"]
    scrubbed = scrubbed_lines("".join(map(line.format, words)), Secrets({}))
    assert scrubbed == "".join(map(line.format, ["The key", " is ", REDACTED, "", "", ", ", "sure"]))
    clean = "".join(map(line.format, ["a", "b", "c"]))
    assert scrubbed_lines(clean, Secrets({})) == clean
