"""`agentkit diff`: two runs side by side, and the words that changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.cli.diff import diff
from agentkit.report.compare import Row, changed_words, compare
from agentkit.report.story import read_story
from agentkit.secrets import REDACTED, Secrets
from tests.cassette_use.recordings import TURNS, record
from tests.doubles.models import action, final
from tests.test_cli import agentkit

PROMPT = "[system]\nTools: {tools}, one of {tool_names}. Be brief.\n[human]\n{input}\n[messages agent_scratchpad]"


def rows(found: tuple[Row, ...]) -> list[tuple[str, str, str]]:
    """Each row's label, and what changed in it."""
    return [
        (row.label, *("".join(text for changed, text in words if changed) for words in (row.first, row.second)))
        for row in found
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record(tmp_path / "a.yaml")


@pytest.mark.slow
def test_a_run_is_the_same_as_itself_made_again(path: Path, tmp_path: Path) -> None:
    again = record(tmp_path / "b.yaml")
    assert compare(read_story(path), read_story(again)).same
    done = agentkit("diff", str(path), str(again))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "the same questions, steps and answers\n")


def test_runs_part_at_a_step(path: Path, tmp_path: Path) -> None:
    turns = (*TURNS[:2], action("Calculator", "25+5", "Five more."), final("Ada, and 30"))
    found = compare(read_story(path), read_story(record(tmp_path / "b.yaml", turns)))
    assert not found.same
    assert (found.parted, rows(found.settings)) == (3, [])
    assert rows(found.steps) == [
        ("step 3: thought", "times", "more"),
        ("step 3: action", "*", "+"),
    ]
    assert rows(found.endings) == [("answer", "125", "30")]


def test_settings_and_prompts_that_differ_are_told(path: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text(PROMPT.replace("Be brief", "Be short"), encoding="utf-8")
    other = tmp_path / "other.txt"
    other.write_text(PROMPT, encoding="utf-8")
    one, two = (
        read_story(record(tmp_path / f"{place.stem}.yaml", prompt=str(place), model=f"local:ORG/{place.stem}"))
        for place in (prompt, other)
    )
    found = compare(one, two)
    assert [label for label, _, _ in rows(found.settings)] == ["model", "prompt", "prompt_text"]
    assert rows(found.steps) == [("step 1: prompt (system)", "short", "brief")]
    assert found.parted == 1


def test_a_longer_run_has_steps_that_the_other_lacks(path: Path, tmp_path: Path) -> None:
    found = compare(read_story(path), read_story(record(tmp_path / "b.yaml", (TURNS[0], final("Ada, and 125")))))
    assert found.parted == 2
    assert ("step 3: action", "Calculator(25*5)", "") in rows(found.steps)
    assert rows(found.endings) == []


@pytest.mark.slow
def test_the_command_puts_them_side_by_side(path: Path, tmp_path: Path) -> None:
    turns = (*TURNS[:3], final("Ada, and 126"))
    done = agentkit("diff", str(path), str(record(tmp_path / "b.yaml", turns)))
    assert done.returncode == 1
    assert "Ada, and [-125-]" in done.stdout
    assert "Ada, and {+126+}" in done.stdout
    assert done.stderr == "the steps are the same\n"


TEXT = st.text(alphabet="ab \n.", max_size=60)


@settings(deadline=None)
@given(first=TEXT, second=TEXT)
def test_short_texts_are_whole_and_changed_where_they_differ(first: str, second: str) -> None:
    words = changed_words(first, second, Secrets({}))
    assert tuple("".join(text for _, text in side) for side in words) == (first, second)
    if first == second:
        assert not any(changed for side in words for changed, _ in side)


def test_words_far_from_a_change_are_left_out() -> None:
    before, after = "so " * 100, " and" * 100
    first, second = changed_words(f"{before}one{after}", f"{before}two{after}", Secrets({}))
    assert first == ((False, "… " + "so " * 12), (True, "one"), (False, " and" * 12 + " …"))
    assert second == ((False, "… " + "so " * 12), (True, "two"), (False, " and" * 12 + " …"))


def test_a_fork_differs_from_its_origin_in_what_it_did_otherwise(tmp_path: Path) -> None:
    """Its kept steps asked nobody: there are no prompts to compare."""
    path = record(tmp_path / "a.yaml")
    origin = read_story(path)
    (run,) = origin.runs
    kept = tuple(replace(step, prompt=(), kept=True) for step in run.steps[:2])
    forked = replace(origin, runs=(replace(run, steps=(*kept, *run.steps[2:])),))
    assert compare(origin, forked).same
    assert compare(forked, origin).same


def test_of_a_long_prompt_only_the_change_is_shown(tmp_path: Path) -> None:
    text = " ".join(f"word{number}" for number in range(5_000))
    first, second = changed_words(f"{text} mine {text}", f"{text} yours and theirs {text}", Secrets({}))
    assert [words for changed, words in first if changed] == ["mine"]
    assert [words for changed, words in second if changed] == ["yours and theirs"]
    assert sum(len(words) for _, words in (*first, *second)) < 1_500


def test_each_message_of_a_role_is_compared(path: Path) -> None:
    story = read_story(path)
    (run,) = story.runs
    messages = (("system", "Be brief."), ("user", "One."), ("assistant", "Yes."), ("user", "Two."))
    changed = tuple((role, text.replace("One", "Three")) for role, text in messages)
    one, other = (
        replace(story, runs=(replace(run, steps=(replace(run.steps[0], prompt=prompt), *run.steps[1:])),))
        for prompt in (messages, changed)
    )
    assert rows(compare(one, other).steps) == [("step 1: prompt (user)", "One", "Three")]


PASSWORDS = ("Umbra-5521-copper", "Cobalt-7713-linen")
KEYS = ("sk-proj-abcdefgh1234567890ABCDEFGH123456", "sk-proj-abcdefgh1234567890ABCDEFGH654321")


@pytest.mark.parametrize(("one", "other"), [PASSWORDS, KEYS])
def test_two_keys_differ_and_neither_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one: str, other: str
) -> None:
    """In files that a hand changed; a recording holds none."""
    monkeypatch.setenv("OLD_PASSWORD", PASSWORDS[0])
    monkeypatch.setenv("NEW_PASSWORD", PASSWORDS[1])
    stand_in = "Z" * len(one)
    before = record(tmp_path / "a.yaml", question=f"Is it {stand_in}?", found=f"It is {stand_in}.")
    text = before.read_text(encoding="utf-8")
    paths = [tmp_path / f"{number}.yaml" for number in range(3)]
    for path, key in zip(paths, (one, other, one), strict=True):
        path.write_text(text.replace(stand_in, key), encoding="utf-8")
    assert diff.main([str(paths[0]), str(paths[2])], standalone_mode=False) == 0
    assert diff.main([str(paths[0]), str(paths[1])], standalone_mode=False) == 1
    shown = capsys.readouterr().out
    assert f"It is [-{REDACTED}-]." in shown
    assert f"It is {{+{REDACTED}+}}." in shown
    assert not [part for key in (one, other) for part in (key, key[-6:]) if part in shown]


def test_a_key_that_is_longer_than_what_is_shown_around_a_change_is_not_shown_in_part() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "Aa1+/ " * 60 + "\n-----END PRIVATE KEY-----"
    for first, second in ((f"{key} one", f"{key} two"), (f"one {key}", f"two {key}"), (key, "none"), ("", key)):
        for words in changed_words(first, second, Secrets({})):
            assert not any("Aa1" in text or "PRIVATE" in text for _, text in words)
