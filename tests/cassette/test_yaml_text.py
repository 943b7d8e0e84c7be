"""What the writer writes, any YAML loader reads back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.cassette.format.yaml_text import Alias, Anchored, to_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    st.sampled_from(" \n\t:#-'\"ab|>&*!%@`{}[],?~=\\\r\x85\u2028\ufeff0"), max_size=80
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(max_size=200)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=15
)


@pytest.mark.slow
@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@settings(deadline=None)
@given(document=st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_every_value_comes_back(loader: Any, document: dict[str, Any]) -> None:
    assert yaml.load(to_yaml(document), Loader=loader) == document


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("one line", "a: one line\n"),
        ("model://builtin/turn", "a: model://builtin/turn\n"),
        ("yes", 'a: "yes"\n'),
        ("25 years", 'a: "25 years"\n'),
        ("key: value", 'a: "key: value"\n'),
        ("Thought: two\nlines of text", "a: |-\n  Thought: two\n  lines of text\n"),
        ("ends with a break\n", 'a: "ends with a break\\n"\n'),
        ("several lines\nthat end with a break\n", "a: |\n  several lines\n  that end with a break\n"),
        (
            "a line that an editor would strip:\nThought: ",
            'a: "a line that an editor would strip:\\n\\\n  Thought: "\n',
        ),
        ([1, 2, 3], "a: [1, 2, 3]\n"),
        ({"code": 200, "message": "OK"}, "a: {code: 200, message: OK}\n"),
        ([{"b": "long text, with: signs"}], 'a:\n- b: "long text, with: signs"\n'),
        ([Anchored("m1", {"b": "x y"}), Alias("m1")], "a:\n- &m1\n  b: x y\n- *m1\n"),
        (1e20, "a: 1.0e+20\n"),
    ],
)
def test_it_reads_well(value: Any, written: str) -> None:
    assert to_yaml({"a": value}) == written
