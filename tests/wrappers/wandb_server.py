"""A stand-in for W&B's servers, for the real client: it accepts everything and remembers it."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Listens on a port of this machine.

    Attributes:
        rows: lines of the history that came in, in order.
        config: the config that came in last, as W&B keeps it.
        ended: whether a run has been said to be complete.
        files: names of the files uploaded.
    """

    def __init__(self, status: int = 200) -> None:
        self.rows: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.files: list[str] = []
        self.ended = False
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, status))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        """Be gone, as a network that is lost."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What W&B would say, as far as the client looks at it."""
        if path.endswith("/file_stream"):
            history = body.get("files", {}).get("wandb-history.jsonl", {})
            self.rows += [json.loads(line) for line in history.get("content", [])]
            self.ended |= bool(body.get("complete"))
            return {}
        given, operation = body.get("variables", {}), body.get("operationName")
        if operation == "UpsertBucket":
            self.config = json.loads(given.get("config") or "{}") or self.config
            return {"data": {"upsertBucket": {"bucket": _bucket(given), "inserted": True}}}
        if operation == "CreateRunFiles":
            self.files += given["files"]
            urls = [{"name": n, "uploadUrl": f"{self.url}/{n}"} for n in given["files"]]
            made = {"runID": "run", "uploadHeaders": [], "files": urls}
            return {"data": {"createRunFiles": made}}
        return {"data": {}}


@contextmanager
def serving(status: int = 200) -> Iterator[Server]:
    """A server for the block; it answers with ``status``."""
    server = Server(status)
    try:
        yield server
    finally:
        server.stop()


def _bucket(given: dict[str, Any]) -> dict[str, Any]:
    project = {"id": "p", "name": given.get("project"), "entity": {"id": "e", "name": "somebody"}}
    return {
        "id": "run", "name": given.get("name"), "displayName": given.get("displayName") or "run",
        "description": "", "config": given.get("config") or "{}", "sweepName": None,
        "project": project, "historyLineCount": 0,
    }  # fmt: skip


def _handler(server: Server, status: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            asked = json.loads(body) if body.startswith(b"{") else {}
            said = json.dumps(server.answer(self.path, asked)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
