"""Copy this into your project. The first time: pytest --agent-record=once. From then on: pytest."""

import pytest


@pytest.fixture
def agent_settings():
    return {"model": "small", "tools": ["calculator"], "max_iterations": 6, "return_run": True}


def test_a_product(recorded_executor):
    result = recorded_executor().invoke({"input": "What is 17 times 23?"})
    assert result["output"].endswith("391")
    assert result["run"]["tools_executed"] == 1


def test_two_at_once(recorded_executor):
    results = recorded_executor().batch([{"input": "What is 3 times 5?"}, {"input": "What is 8 times 9?"}])
    assert [result["output"] for result in results] == ["15", "72"]
