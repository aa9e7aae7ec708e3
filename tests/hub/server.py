"""A Hub to try things on: HTTP, routes and injected faults around `api` and `writes`.

Connections are cut, answers lost, delayed or replaced as `faults` says; everything else is answered by them.
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub import api, writes
from tests.hub.api import Answer, Request, State, as_json
from tests.hub.faults import Fault
from tests.hub.history import RefusedError

REPO = r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+?)"
FILES = r"/(?P<kinds>datasets/)?(?P<name>[^/]+/[^/]+?)"
ROUTES: list[tuple[str, str, str]] = [
    ("whoami", "GET", r"/api/whoami-v2"),
    ("create_repo", "POST", r"/api/repos/create"),
    ("validate_yaml", "POST", r"/api/validate-yaml"),
    ("refs", "GET", rf"{REPO}/refs"),
    ("commits", "GET", rf"{REPO}/commits/(?P<rev>[^/]+)"),
    ("tree", "GET", rf"{REPO}/tree/(?P<rev>[^/]+)(/(?P<path>.+))?"),
    ("paths_info", "POST", rf"{REPO}/paths-info/(?P<rev>[^/]+)"),
    ("preupload", "POST", rf"{REPO}/preupload/(?P<rev>[^/]+)"),
    ("commit", "POST", rf"{REPO}/commit/(?P<rev>[^/]+)"),
    ("tag", "POST", rf"{REPO}/tag/(?P<rev>[^/]+)"),
    ("branch", "POST", rf"{REPO}/branch/(?P<rev>[^/]+)"),
    ("pull_create", "POST", rf"{REPO}/discussions"),
    ("pull_list", "GET", rf"{REPO}/discussions"),
    ("pull_show", "GET", rf"{REPO}/discussions/(?P<number>\d+)"),
    ("pull_status", "POST", rf"{REPO}/discussions/(?P<number>\d+)/status"),
    ("pull_merge", "POST", rf"{REPO}/discussions/(?P<number>\d+)/merge"),
    ("repo_info", "GET", rf"{REPO}(/revision/(?P<rev>[^/]+))?"),
    ("collection_create", "POST", r"/api/collections"),
    ("collection_add", "POST", r"/api/collections/(?P<slug>.+)/items"),
    ("collection_show", "GET", r"/api/collections/(?P<slug>.+)"),
    ("lfs_batch", "POST", rf"{FILES}\.git/info/lfs/objects/batch"),
    ("lfs_verify", "POST", rf"{FILES}\.git/info/lfs/objects/verify"),
    ("lfs_put", "PUT", r"/storage/(?P<oid>[0-9a-f]{64})"),
    ("storage_get", "GET", r"/storage/(?P<oid>[0-9a-f]{64})"),
    ("resolve", "GET", rf"{FILES}/resolve/(?P<rev>[^/]+)/(?P<path>.+)"),
]
Operation = Callable[[State, Request, dict[str, str]], Answer]
OPERATIONS: dict[str, Operation] = {name: vars(api).get(name) or vars(writes)[name] for name, _, _ in ROUTES}


class Hub(State):
    """The server; `with Hub(folder) as hub: hub.url`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.storage = f"http://localhost:{self.server.server_port}"  # another origin: the client sends no token there

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, operation: str, request: Request, groups: dict[str, str]) -> Answer:
        """Do what is asked."""
        try:
            return OPERATIONS[operation](self, request, groups)
        except RefusedError as refused:
            headers = {"X-Error-Message": refused.error} | ({"X-Error-Code": refused.code} if refused.code else {})
            return as_json({"error": refused.error}, refused.status, **headers)


def route(method: str, path: str) -> tuple[str, dict[str, str]]:
    """The operation that an address names, and its parts. Raises RefusedError (404)."""
    for name, verb, pattern in ROUTES:
        found = re.fullmatch(pattern, path) if verb == ("GET" if method == "HEAD" else method) else None
        if found:
            groups = {k: unquote(v) for k, v in found.groupdict().items() if v is not None}
            if "(?P<kinds>" in pattern:
                groups["kind"] = "dataset" if groups.get("kinds") else "model"
            return name, groups
    raise RefusedError(404, f"no such address: {method} {path}")


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16  # head and body in one packet

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + hub.skew, usegmt=True)

        def log_message(self, *_: object) -> None: ...

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            try:
                operation, groups = route(self.command, url.path)
            except RefusedError as refused:
                self.rfile.read(length)
                return self.send(Answer(refused.error.encode(), 404))
            reader = "X-Reader" in self.headers  # looks on: meets no fault, leaves no trace
            if not reader:
                hub.before.pop(operation, lambda: None)()
            fault = None if reader else hub.faults.strike(operation)
            if fault and fault.kind == "cut_head":
                return self.cut()
            if fault and fault.kind == "cut_body":
                self.rfile.read(min(length, fault.byte))
                return self.cut()
            body = self.read_body(length)
            if not reader:
                hub.log.append((operation, len(body)))
            query = {k: v[-1] for k, v in parse_qs(url.query).items()}
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            headers = {k.lower(): v for k, v in self.headers.items()}
            request = Request(self.command, url.path, query, headers, body, hub.users.get(token))
            if token and request.user is None:
                bad = {"X-Error-Message": "Invalid credentials in Authorization header"}
                return self.send(as_json({"error": f"Invalid credentials: {token}"}, 401, **bad))
            return self.respond(operation, request, groups, fault)

        def respond(self, operation: str, request: Request, groups: dict[str, str], fault: Fault | None) -> None:
            if fault is None:
                answer = hub.answer(operation, request, groups)
                if "x-reader" not in request.headers:
                    hub.after.pop(operation, lambda: None)()
                return self.send(answer)
            if fault.kind == "status":
                return self.send(as_json({"error": fault.error}, fault.status, **fault.headers))
            if fault.kind == "html":
                page = b"<html><body><h1>Corporate proxy: please sign in</h1></body></html>"
                return self.send(Answer(page, 200, {"Content-Type": "text/html"}))
            if fault.kind == "slow":
                time.sleep(fault.seconds)
                return self.send(hub.answer(operation, request, groups))
            answer = hub.answer(operation, request, groups)
            if fault.kind == "late_500":
                return self.send(as_json({"error": "Internal Server Error"}, 500))
            if fault.kind == "hang":
                time.sleep(fault.seconds)
            if fault.kind == "cut_answer":
                self.send(answer, cut=fault.byte)
            return self.cut()

        def read_body(self, length: int) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(length)
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def send(self, answer: Answer, cut: int | None = None) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body if cut is None else answer.body[:cut])
            self.wfile.flush()

        def cut(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = serve  # noqa: N815

    return Handler
