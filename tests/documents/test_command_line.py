"""The page of the command line is what the commands say of themselves."""

from __future__ import annotations

import pytest

from tests.documents.command_line import PAGE, page


@pytest.mark.slow
def test_the_page_is_what_help_prints() -> None:
    told = "run python -m tests.documents.command_line"
    assert PAGE.read_text(encoding="utf-8") == page(), told
