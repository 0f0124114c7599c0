"""A Hugging Face hub on this machine: as much of the protocol as downloading models and data sets takes.

A folder holds the repositories: ``OWNER/NAME/...`` are models, ``datasets/OWNER/NAME/...`` data sets. Programs find it
through the environment that :func:`served` gives.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from gzlib.identity import file_hash

COMMIT = "0" * 40
REVISIONS = ("main", "v1", COMMIT)


@lru_cache(maxsize=1024)
def tag_of(file: Path, modified: int) -> str:
    """Hash of a file, for its ``ETag``; a shard is asked for twice."""
    return file_hash(file)


class Handler(BaseHTTPRequestHandler):
    """Answers one request about the repositories below ``root``."""

    root: Path

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body: bool):
        path = unquote(self.path.partition("?")[0]).strip("/")
        if path.startswith("api/"):
            self.describe(path.split("/")[1:], body=body)
            return
        kind = "datasets/" if path.startswith("datasets/") else ""
        owner, name, _, revision, file = (*path.removeprefix(kind).split("/", 4), *[""] * 5)[:5]
        folder = self.root / kind / owner / name
        content = folder / file
        found = bool(file) and content.is_file() and revision in REVISIONS
        self.send_response(200 if found or not path else 404)
        if not found and path:
            self.send_header("X-Error-Code", "EntryNotFound" if folder.is_dir() else "RepoNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        if found:
            self.send_header("ETag", f'"{tag_of(content, content.stat().st_mtime_ns)}"')
        self.send_header("Content-Length", str(content.stat().st_size if found else 0))
        self.end_headers()
        if body and found:
            with open(content, "rb") as stream:
                shutil.copyfileobj(stream, self.wfile, 1 << 20)

    def describe(self, words: list[str], *, body: bool):
        """What a repository holds: ``api/datasets/OWNER/NAME/revision/main``, or ``.../tree/main`` with each file."""
        kind, owner, name, what = (*words, *[""] * 4)[:4]
        folder = self.root / ("datasets" if kind == "datasets" else "") / owner / name
        found = bool(name) and folder.is_dir()
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if found else []
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
        tree = [{"type": "file", "path": path, "size": size, "oid": COMMIT} for path, size in sizes.items()]
        siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
        about = {"id": f"{owner}/{name}", "sha": COMMIT, "private": False, "siblings": siblings}
        data = json.dumps((tree if what == "tree" else about) if found else {"error": "Repository not found"}).encode()
        self.send_response(200 if found else 404)
        if not found:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve the repositories below a folder for as long as the block lasts; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Handler,), {"root": root}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def served(root: Path, cache: Path) -> Iterator[dict[str, str]]:
    """The same, as environment variables for programs that are to find it; ``cache`` takes what they download."""
    with serving(root) as address:
        yield {"HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
