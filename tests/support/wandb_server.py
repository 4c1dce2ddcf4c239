"""A server that speaks as much of W&B's language as its client needs, and keeps what each run's history has."""

import gzip
import http.server
import json
import threading
from contextlib import AbstractContextManager
from typing import Any

from tests.support.servers import answering

ENTITY = {"id": "e", "name": "someone"}


class WandbServer(http.server.ThreadingHTTPServer):
    """`history[run id]`: the rows; `runs[run id]`: the last values that a run was created or changed with."""

    def __init__(self, *, counts: bool = True) -> None:
        """`counts`: whether the answer to the creation of a run says how many rows it has already. A client may go on
        from that, or from its own question about it; what is tested should do without the first."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.counts = counts
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """For a client: a key of the right form, and this address."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40}

    def images(self, run: str, key: str = "D/loss") -> list[int]:
        """The images of the rows that have `key`, in the order of the history."""
        return [row["images"] for row in self.history.get(run, []) if key in row]

    def answer(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL request."""
        if "RunResumeStatus" in query:
            return {
                "model": {
                    "id": "p",
                    "name": values.get("project"),
                    "entity": ENTITY,
                    "bucket": self._resumable(values["name"]),
                }
            }
        if "upsertBucket" in query:
            name = values.get("name") or "unnamed"
            with self.lock:
                self.runs[name] = {**self.runs.get(name, {}), **{k: v for k, v in values.items() if v is not None}}
                self.history.setdefault(name, [])
            bucket = {
                "id": name,
                "name": name,
                "displayName": values.get("displayName"),
                "description": None,
                "config": "{}",
                "sweepName": None,
                "historyLineCount": len(self.history[name]) if self.counts else 0,
                "project": {"id": "p", "name": values.get("project"), "entity": ENTITY},
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": f, "uploadUrl": f"{self.url}/files/{f}"} for f in values.get("files", [])]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        viewer = {"id": "x", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
        return {
            "viewer": viewer,
            "serverInfo": {"features": []},
            "QueryType": {"fields": []},
            "MutationType": {"fields": []},
        }

    def store(self, run: str, offset: int, rows: list[dict[str, Any]]) -> None:
        """As W&B does: a row replaces what was at its place."""
        with self.lock:
            own = self.history.setdefault(run, [])
            own[offset : offset + len(rows)] = rows

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection is no error."""

    def _resumable(self, run: str) -> dict[str, Any] | None:
        rows = self.history.get(run)
        if rows is None:
            return None
        tail = json.dumps([json.dumps(rows[-1])] if rows else [])
        return {
            "id": run,
            "name": run,
            "displayName": self.runs[run].get("displayName"),
            "summaryMetrics": "{}",
            "logLineCount": 0,
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "config": self.runs[run].get("config") or "{}",
            "tags": self.runs[run].get("tags") or [],
            "wandbConfig": '{"t": 1}',
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        self._body()
        self._send({})

    def do_POST(self) -> None:
        body = self._body()
        if "graphql" in self.path:
            asked = json.loads(body)
            self._send({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
            return
        if "file_stream" in self.path:
            for name, part in (json.loads(body).get("files") or {}).items():
                if "history" in name:
                    rows = [json.loads(row) for row in part["content"]]
                    self.server.store(self.path.split("/")[-2], part["offset"], rows)
            self._send({"limits": {}, "exitcode": None})
            return
        self._send({})

    def _body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _send(self, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def wandb_server(*, counts: bool = True) -> AbstractContextManager[WandbServer]:
    """Inside the block it answers."""
    return answering(WandbServer(counts=counts))
