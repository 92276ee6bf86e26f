"""A stand-in for a CVAT server with one task of images: it answers what CVAT's client asks, and keeps what it sends.

Source: CVAT's REST API as the released ``cvat-sdk`` calls it.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

TASK_ID = 7
_DATE = "2026-01-01T00:00:00Z"
_PAGE = {"count": 0, "next": None, "previous": None}


class CvatServer:
    """The task, and the shapes that it was given.

    Args:
        images: the task's frames.
        labels: the task's labels.
        label_type: of all labels.
    """

    def __init__(self, images: Sequence[Path], labels: Sequence[str], label_type: str = "any") -> None:
        self.images, self.address = list(images), ""
        self.requests: list[str] = []
        self.shapes: list[dict[str, Any]] = []
        self.labels = [_label(number, name, label_type) for number, name in enumerate(labels, start=101)]

    def name_of(self, shape: dict[str, Any]) -> str:
        """The name of a shape's label."""
        return next(str(label["name"]) for label in self.labels if label["id"] == shape["label_id"])

    def answer(self, method: str, path: str, body: bytes) -> bytes:
        """What the server says to a request: JSON, or a zip of frames."""
        self.requests.append(f"{method} {path}")
        if path.endswith("/annotations"):
            sent = json.loads(body)
            kept = [] if method == "PUT" else self.shapes
            self.shapes = [*kept, *sent["shapes"]]
            return json.dumps({"version": 1, "tags": [], "shapes": [], "tracks": []}).encode()
        if path.endswith("/data"):
            return self._chunk()
        if path.endswith("/data/meta"):
            return json.dumps(self._meta()).encode()
        if path.endswith("/labels"):
            return json.dumps({**_PAGE, "count": len(self.labels), "results": self.labels}).encode()
        if path.endswith("/about"):
            return json.dumps(
                {"name": "CVAT", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
            ).encode()
        return json.dumps(self._task()).encode()

    def _task(self) -> dict[str, Any]:
        count = len(self.images)
        links = {"url": self.address, "count": 0, "completed": 0, "validation": 0}
        sizes = {"size": count, "segment_size": count, "data_chunk_size": count, "overlap": 0, "image_quality": 70}
        kinds = {"data_original_chunk_type": "imageset", "data_compressed_chunk_type": "imageset", "mode": "annotation"}
        return {
            **{"id": TASK_ID, "name": "yard", "url": self.address, "jobs": links, "labels": {"url": self.address}},
            **{"status": "annotation", "dimension": "2d", "subset": "", "created_date": _DATE, "updated_date": _DATE},
            **{"data": 1, "organization": None, "bug_tracker": ""},
            **sizes,
            **kinds,
        }

    def _meta(self) -> dict[str, Any]:
        frames = []
        for path in self.images:
            width, height = Image.open(path).size
            frames.append({"name": path.name, "width": width, "height": height, "related_files": 0})
        count = len(frames)
        ends = {
            "chunks_updated_date": _DATE,
            "start_frame": 0,
            "stop_frame": count - 1,
            "frame_filter": "",
            "deleted_frames": [],
        }
        return {"chunk_size": count, "size": count, "image_quality": 70, "frames": frames, **ends}

    def _chunk(self) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for number, path in enumerate(self.images):
                archive.write(path, f"{number:06d}{path.suffix}")
        return content.getvalue()


def _label(number: int, name: str, label_type: str) -> dict[str, Any]:
    links = {"parent_id": None, "has_parent": False, "task_id": TASK_ID, "project_id": None}
    return {
        "id": number,
        "name": name,
        "color": "#ff0000",
        "type": label_type,
        "attributes": [],
        "sublabels": [],
        **links,
    }


@contextmanager
def serving(server: CvatServer) -> Iterator[CvatServer]:
    """The server at an address of this machine, as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = server.answer(self.command, urlsplit(self.path).path.rstrip("/"), body)
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if content[:2] == b"PK" else "application/vnd.cvat+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_PATCH = do_POST = _answer

        def log_message(self, *_: Any) -> None: ...

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
