"""The built-in model behind an address, with the routes of an OpenAI-compatible server: a stand-in for TGI or vLLM.

    python chat_server.py 8080

One request at a time, no streams, no keys: enough to try a client against, and no more.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from agentkit import chat_model

TAKEN = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_k": "top_k", "top_p": "top_p"}
TAKEN |= {"repetition_penalty": "repetition_penalty", "stop": "stop"}


class Server(HTTPServer):
    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.model = chat_model("builtin", constrain="off")
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        options = {name: body[key] for key, name in TAKEN.items() if key in body}
        reply = self.model.invoke(body["messages"], **options)
        message = {"role": "assistant", "content": reply.content}
        finish_reason = reply.response_metadata["finish_reason"]
        used = reply.usage_metadata or {}
        return {
            "object": "chat.completion",
            "model": "builtin",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": used.get("input_tokens"), "completion_tokens": used.get("output_tokens")},
        }


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({"object": "list", "data": [{"id": "builtin", "object": "model"}]})

    def do_POST(self) -> None:
        self.reply(self.server.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

    def reply(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def start(port: int = 0) -> Server:
    """A server in a thread of this process; 0 is any free port."""
    server = Server(port)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    Server(int(sys.argv[1])).serve_forever()
