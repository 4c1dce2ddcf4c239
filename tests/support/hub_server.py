"""A server that speaks as much of the Hugging Face Hub's language as its client needs to push and to load a model."""

import base64
import hashlib
import http.server
import json
import re
import threading
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.servers import answering

TOKEN = "hf_" + "x" * 34


class HubServer(http.server.ThreadingHTTPServer):
    """`files[user/name]`: path -> content; `private`: the repositories that ask for the token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.messages: list[str] = []
        """Of the commits."""
        self.asked: list[str] = []
        """`METHOD path` of each request."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, home: object, token: str = TOKEN) -> dict[str, str]:
        """For a client: this address, a cache of its own, and the token of the only user."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def revision(self, repository: str) -> str:
        """The name of the newest commit, 40 digits."""
        named = {path: hashlib.sha1(content).hexdigest() for path, content in self.files[repository].items()}
        return hashlib.sha1(json.dumps(named, sort_keys=True).encode()).hexdigest()

    def commit(self, repository: str, lines: bytes) -> None:
        """What a commit in NDJSON says: a header, and files in base64."""
        for line in map(json.loads, lines.splitlines()):
            if line["key"] == "header":
                self.messages.append(line["value"]["summary"])
            else:
                assert line["key"] == "file", line
                assert line["value"]["encoding"] == "base64"
                self.files[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection is no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self._path()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send({"error": "Invalid username or password."}, 401)
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            return self._create(f"{asked['organization']}/{asked['name']}", asked)
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if found is None or found[1] not in self.server.files:
            return self._send({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        repository = found[1]
        if found[2] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            return self._send({"files": modes})
        with self.server.lock:
            self.server.commit(repository, body)
        oid = self.server.revision(repository)
        return self._send({"commitUrl": f"{self.server.url}/{repository}/commit/{oid}", "commitOid": oid})

    def do_GET(self) -> None:
        path = self._path()
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        repository = found[1] if found else "/".join(path.split("/")[1:3])
        if repository not in self.server.files or (
            repository in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        ):
            return self._send({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self.server.files[repository]
        if found and found[2] == "revision":
            siblings = [{"rfilename": name} for name in files]
            facts = {"_id": "1", "id": repository, "modelId": repository, "sha": self.server.revision(repository)}
            return self._send({**facts, "siblings": siblings, "private": repository in self.server.private})
        if found:
            return self._send(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            )
        name = unquote(path.split("/", 5)[5]) if path.count("/") >= 5 else ""
        if name not in files:
            return self._send({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": self.server.revision(repository), "Content-Type": "application/octet-stream"}
        return self._send(files[name], 200, headers | {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"'})

    do_HEAD = do_GET

    def _create(self, repository: str, asked: dict[str, Any]) -> None:
        address = {"url": f"{self.server.url}/{repository}"}
        with self.server.lock:
            if repository in self.server.files:
                return self._send({"error": "You already created this model repo", **address}, 409)
            self.server.files[repository] = {}
            if asked.get("visibility") == "private" or asked.get("private"):
                self.server.private.add(repository)
        return self._send(address)

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path

    def _send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def hub_server() -> AbstractContextManager[HubServer]:
    """Inside the block it answers."""
    return answering(HubServer())
