"""A stand-in for the Hugging Face Hub: the part of its HTTP API that pushing and downloading a model takes.

Written after the requests of huggingface_hub 2.4: whoami-v2, repos/create, preupload, Git LFS's batch API and the
commit as NDJSON. It keeps what was committed in `repos`, and refuses as the hub does: 401 without a known token, 403
for a repository in `refused`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKENS = {"hf_writes": "write", "hf_reads": "read"}
LARGE = ".safetensors"  # what the hub keeps in LFS


class Hub(ThreadingHTTPServer):
    """`repos`: OWNER/NAME -> path -> bytes; `private`: the names that were made so."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.refused: set[str] = set()
        self.large: dict[str, bytes] = {}  # SHA-256 -> bytes


@contextmanager
def running_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def role(self) -> str | None:
        return TOKENS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def repo(self, pattern: str) -> str | None:
        """OWNER/NAME where the path is of that form."""
        found = re.fullmatch(pattern.replace("REPO", "([^/]+/[^/]+?)"), self.path.partition("?")[0])
        return found and found[1]

    def do_PUT(self) -> None:
        content = self.body()
        self.server.large[hashlib.sha256(content).hexdigest()] = content
        self.answer(200, {})

    def do_POST(self) -> None:
        body = self.body()
        if self.role is None:
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if repo := self.repo("/api/models/REPO/preupload/main"):
            return self.preupload(repo, json.loads(body)["files"])
        if repo := self.repo(r"/REPO\.git/info/lfs/objects/batch"):
            return self.batch(json.loads(body)["objects"])
        if repo := self.repo("/api/models/REPO/commit/main"):
            return self.commit(repo, [json.loads(line) for line in body.splitlines()])
        return self.answer(404, {"error": "not a part of the stand-in"})

    def create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.server.repos:
            return self.answer(409, {"error": "You already created this model repo", "url": self.address(repo)})
        self.server.repos[repo] = {}
        if asked["visibility"] == "private":
            self.server.private.add(repo)
        return self.answer(200, {"url": self.address(repo)})

    def address(self, repo: str) -> str:
        return f"{self.server.endpoint}/{repo}"

    def preupload(self, repo: str, files: list[dict[str, Any]]) -> None:
        if repo in self.server.refused:
            return self.answer(403, {"error": "You have no rights for this repository."})
        modes = {True: "lfs", False: "regular"}
        paths = [file["path"] for file in files]
        found = [{"path": one, "uploadMode": modes[one.endswith(LARGE)], "shouldIgnore": False} for one in paths]
        return self.answer(200, {"files": found})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        found = [
            {**one, "authenticated": True, "actions": {"upload": {"href": f"{self.server.endpoint}/lfs/{one['oid']}"}}}
            for one in objects
        ]
        self.answer(200, {"transfer": "basic", "objects": found})

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.server.repos[repo]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.answer(200, {"commitUrl": f"{self.address(repo)}/commit/0", "commitOid": "0" * 40, "success": True})

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            if self.role is None:
                return self.answer(401, {"error": "Invalid user token."})
            token = {"accessToken": {"role": self.role}}
            return self.answer(200, {"name": "me", "orgs": [{"name": "ours"}], "auth": token})
        if repo := self.repo("/api/models/REPO(?:/revision/[^/]+)?"):
            siblings = [{"rfilename": name} for name in self.server.repos[repo]]
            return self.answer(200, {"id": repo, "sha": "0" * 40, "siblings": siblings})
        if repo := self.repo("/api/models/REPO/tree/.+"):
            files = self.server.repos[repo].items()
            tree = [{"type": "file", "oid": "0" * 40, "size": len(one), "path": name} for name, one in files]
            return self.answer(200, tree)
        if repo := self.repo("/REPO/resolve/.+"):
            name = self.path.partition("/resolve/")[2].partition("/")[2]
            content = self.server.repos[repo].get(name)
            if content is None:
                return self.answer(404, {}, X_Error_Code="EntryNotFound")
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit="0" * 40)
        return self.answer(404, {"error": "not a part of the stand-in"})

    do_HEAD = do_GET
