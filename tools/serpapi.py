"""Google through SerpAPI, as one text with its sources.

google-search-results builds the request and names the host. Its own errors are not used: it waits 60,000 s, never looks
at the HTTP status, and an exception's text holds the URL with the key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError, ToolError
from agentkit.tool import Result
from agentkit.tools.search_text import MOST_RESULTS, MOST_TOKENS, checked_query
from agentkit.tools.serpapi_answer import serpapi_result

if TYPE_CHECKING:
    from requests import Response

KEY_VARIABLE = "SERPAPI_API_KEY"
KEY_PAGE = "https://serpapi.com/manage-api-key"
BASE_URL = "https://serpapi.com"
TIMEOUT_S = 10.0
PARAMETERS: Mapping[str, str] = {"engine": "google", "google_domain": "google.com", "gl": "us", "hl": "en"}
_NO_RESULTS = "hasn't returned any results"
_ADVICE = {
    401: f"the key was refused; check {KEY_VARIABLE} against {KEY_PAGE}",
    403: f"the account may not do this; check it at {KEY_PAGE}",
    429: "the searches of this plan are used up, or too many came at once; wait, or see https://serpapi.com/plan",
}


@dataclass(frozen=True, slots=True)
class SerpAPIWrapper:
    """Searches through SerpAPI; the key is read from `SERPAPI_API_KEY` at each call where none is given.

    `params` replaces the default ones (engine, google_domain, gl, hl). Failures are `ToolError`s without the key.
    """

    serpapi_api_key: str | None = field(default=None, repr=False)
    params: Mapping[str, Any] = field(default_factory=lambda: PARAMETERS)
    timeout_s: float = field(default=TIMEOUT_S, kw_only=True)
    base_url: str = field(default=BASE_URL, kw_only=True)
    most_results: int = field(default=MOST_RESULTS, kw_only=True)
    most_tokens: int = field(default=MOST_TOKENS, kw_only=True)

    @property
    def has_key(self) -> bool:
        """Whether there is a key to ask with."""
        return bool(self._key)

    @property
    def _key(self) -> str:
        return (self.serpapi_api_key or os.environ.get(KEY_VARIABLE, "")).strip()

    def run(self, query: str) -> str:
        """The answer line and the results, as text."""
        return str(self.search(query))

    async def arun(self, query: str) -> str:
        """`run` in a thread."""
        import asyncio

        return await asyncio.to_thread(self.run, query)

    def search(self, query: str) -> Result:
        """`run`, with the sources."""
        return serpapi_result(self.results(query), most_results=self.most_results, most_tokens=self.most_tokens)

    def results(self, query: str) -> dict[str, Any]:
        """SerpAPI's whole answer; empty where nothing was found."""
        if not self.has_key:
            raise _error(f"Search needs a SerpAPI key, and {KEY_VARIABLE} is not set; get one at {KEY_PAGE} and set it")
        return _answer(self._response(checked_query(query), self._key), self._key)

    async def aresults(self, query: str) -> dict[str, Any]:
        """`results` in a thread."""
        import asyncio

        return await asyncio.to_thread(self.results, query)

    def _response(self, query: str, key: str) -> Response:
        import requests
        import serpapi

        client_class: Any = getattr(serpapi, "SerpApiClient", None)
        if client_class is None:
            raise ConfigurationError(
                "the installed module serpapi is not google-search-results; pip uninstall serpapi, then "
                "pip install --force-reinstall google-search-results"
            )
        client = client_class({**self.params, "q": query, "api_key": key, "output": "json"}, timeout=self.timeout_s)
        client.BACKEND = self.base_url
        cause: type[Exception] | None = None  # a name that says whether to try again
        try:
            response: Response = client.get_response()
        except requests.Timeout:
            cause = TimeoutError
            failure = f"SerpAPI gave no answer within {self.timeout_s:g} s; try again"
        except requests.exceptions.ProxyError:
            failure = "the proxy between here and SerpAPI failed; check HTTPS_PROXY"
        except requests.exceptions.SSLError:
            failure = "the connection to SerpAPI could not be secured; check the machine's certificates and clock"
        except requests.RequestException as error:
            cause = ConnectionError
            failure = f"SerpAPI could not be reached ({type(error).__name__}); check the network connection"
        else:
            return response
        # out of the `except`: the library's exception holds the URL with the key
        raise _error(failure) from (None if cause is None else cause())


def _answer(response: Response, key: str) -> dict[str, Any]:
    status = response.status_code
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    told = answer.get("error") if isinstance(answer, dict) else None
    if status == 200 and isinstance(answer, dict):
        if told is None:
            return answer
        if _NO_RESULTS in str(told):
            return {}
    cause = ConnectionError(f"status {status}") if status >= 500 else None
    raise _error(_failure(status, "" if told is None else _without_key(str(told), key))) from cause


def _failure(status: int, told: str) -> str:
    said = f", which said: {told}" if told else ""
    if status in _ADVICE:
        return f"SerpAPI answered {status}: {_ADVICE[status]}"
    if status >= 500:
        return f"SerpAPI is failing ({status}); try again in a moment"
    if status == 200:
        return f"SerpAPI gave no usable answer{said}; try another query"
    return f"SerpAPI refused the request ({status}){said}; change the query or the parameters"


def _without_key(text: str, key: str) -> str:
    from urllib.parse import quote

    return " ".join(text.replace(key, "***").replace(quote(key, safe=""), "***").split())[:200]


def _error(message: str) -> ToolError:
    return ToolError(f"Error: {message}.")
