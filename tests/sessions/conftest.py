"""The same tests with a file and with a server: a real PostgreSQL of this machine, for the tests alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentkit.sessions.store import Store
from tests.sessions.postgres import Postgres, missing


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of its own, which ends with the tests."""
    if reason := missing():
        pytest.skip(reason)
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store can be."""
    if request.param == "sqlite":
        return str(tmp_path / "agentkit.db")
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_address()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    with Store(address, environment={}) as store:
        yield store
