"""A stand-in for the Hugging Face Hub on this machine: what huggingface_hub asks of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_of_the_owner"


@dataclass
class Repository:
    """`files` by commit, `branches` by name."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)  # said instead of the true ones

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        whole = {**self.files.get(self.branches.get(branch, ""), {}), **files}
        names = repr(sorted((name, hashlib.sha1(data).digest()) for name, data in whole.items()))
        oid = hashlib.sha1((names + str(len(self.files))).encode()).hexdigest()
        self.files[oid] = whole
        self.branches[branch] = oid
        return oid


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.status: int | None = None  # answers everything
        self.delay = 0.0  # seconds before every answer
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def fetched(self) -> list[str]:
        """Paths of files that were downloaded."""
        return [path.split("/", 5)[5] for path in self.requests if path.startswith("GET /some")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whom nobody waits for any more is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/"):
            self._info()
        else:
            self._file()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        if not self._ready():
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        else:
            _, _, _, owner, name, action, branch = path.split("/", 6)
            self._write(f"{owner}/{name}", action, branch, body)

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.server.url}/{name}"
        if name in self.server.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": url})
            return
        private = asked.get("private") or asked.get("visibility") == "private"
        created = Repository(private=bool(private))
        created.commit({".gitattributes": b""})
        self.server.repositories[name] = created
        self._answer(200, {"url": url, "name": name})

    def _write(self, name: str, action: str, branch: str, body: bytes) -> None:
        repository = self.server.repositories[name]
        if action == "branch":
            repository.branches.setdefault(branch, repository.branches["main"])
            self._answer(200, {})
        elif action == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            oid = repository.commit(files, branch)
            url = f"{self.server.url}/{name}/commit/{oid}"
            self._answer(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _info(self) -> None:
        if self._ready():
            owner, name = self.path.split("/")[3:5]
            repository = self.server.repositories.get(f"{owner}/{name}")
            if repository is None:
                self._answer(401, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})
            else:
                self._answer(200, {"id": f"{owner}/{name}", "private": repository.private})

    def _file(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if not self._ready():
            return
        _, owner, name, _, revision, path = unquote(self.path).split("/", 5)
        repository = self.server.repositories.get(f"{owner}/{name}")
        may = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not may):
            self._answer(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        if repository.gated and not may:
            self._answer(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
            return
        commit = repository.branches.get(revision, revision)
        if commit not in repository.files:
            self._answer(404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"})
            return
        headers = {"X-Repo-Commit": commit}
        content = repository.files[commit].get(path)
        if content is None:
            self._answer(404, {"error": "no"}, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        size = repository.sizes.get(path, len(content))
        self._send(200, content, {**headers, "X-Linked-Size": str(size)})

    def _ready(self) -> bool:
        time.sleep(self.server.delay)
        if self.server.status is not None:
            self._answer(self.server.status, {"error": "no"})
            return False
        return True

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._send(status, json.dumps(body).encode(), {**kind, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
