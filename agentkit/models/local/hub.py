"""Whether Hugging Face's hub answers: asked once for a model, where its client asks six times for every file of it."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from agentkit.errors import in_one_line

ANSWER_S = 5.0
"""That the hub has for an answer of any kind."""
SERVER_ERROR = 500
LONGEST_REASON = 120


def why_not_asked(*, only_cached: bool = False) -> str:
    """Why nothing can be fetched from the hub, as the end of a sentence; "" where it answers.

    `only_cached`: the user wants nothing fetched.

    It is asked in a thread of its own, because no time limit holds the look-up of a host's address.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT
    if only_cached or constants.is_offline_mode():
        return f"{'local_files_only' if only_cached else 'HF_HUB_OFFLINE'} keeps {host} from being asked"
    answer: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=lambda: answer.put(_failure(constants.ENDPOINT)), name="agentkit-hub", daemon=True).start()
    try:
        failure = answer.get(timeout=ANSWER_S)
    except Empty:
        failure = f"nothing in {ANSWER_S:g} seconds"
    return f"{host} does not answer ({failure})" if failure else ""


def _failure(address: str) -> str:
    """What one request to an address fails with; "" where anything but a broken server answers it."""
    from huggingface_hub import get_session

    try:
        status = get_session().head(address, timeout=2 * ANSWER_S).status_code  # who asks has gone by then
    except Exception as error:  # of httpx or httpx2, whichever the hub's client takes, and of what stands in the way
        return in_one_line(error, LONGEST_REASON) or type(error).__name__
    return f"status {status}" if status >= SERVER_ERROR else ""
