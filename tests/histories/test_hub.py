"""The hub of models, as far as it can be played here."""

from __future__ import annotations

import http.server
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from progressgym_env.errors import HistoryError
from progressgym_env.histories import hub
from progressgym_env.histories.declared import Checkpoint
from tests.histories.hub_server import in_place_of_the_hub


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Answers as the hub's interface does, to the real client."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/api/models/").partition("?")[0]
            name = path.removesuffix("/auth-check").partition("/revision/")[0]
            error, status = "", 200
            if name == "org/absent":
                error, status = "RepoNotFound", 404
            if name == "org/gated" and path.endswith("/auth-check"):
                # What the model is, the hub tells everybody.
                error, status = "GatedRepo", 403
            if name == "org/broken":
                status = 500
            files = ["model.safetensors" if name == "org/whole" else "pytorch_model.bin"]
            body = json.dumps(
                {
                    "id": name,
                    "sha": "a" * 40,
                    "gated": "manual" if "gated" in name else False,
                    "siblings": [{"rfilename": f} for f in files],
                }
            ).encode()
            self.send_response(status)
            if error:
                self.send_header("X-Error-Code", error)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with in_place_of_the_hub(Handler, monkeypatch, tmp_path):
        yield


@pytest.mark.usefixtures("fake_hub")
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("org/gated", "org/gated of C019 is gated: accept its terms at http.*hf auth login"),
        ("org/absent", r"org/absent of C019 is not on the hub \(or is private\)"),
        ("org/old", r"org/old of C019 has no weights as \.safetensors"),
        ("org/a/b", "no such folder, and it is no name of the hub"),
        ("org/broken", "the hub does not answer .* not downloaded before"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(name: str, says: str):
    with pytest.raises(HistoryError, match=says):
        hub.revisions([Checkpoint("C018", "org/whole"), Checkpoint("C019", name)])


@pytest.mark.usefixtures("fake_hub")
def test_what_the_hub_has_is_pinned():
    assert hub.revisions([Checkpoint("C019", "org/whole")]) == {"C019": "a" * 40}
    assert hub.hub_access() is None


def test_what_was_downloaded_before_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    stored = tmp_path / "models--org--whole"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("b" * 40)
    snapshot = stored / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert hub.revisions([Checkpoint("C019", "org/whole")]) == {"C019": "b" * 40}
    with pytest.raises(HistoryError, match="hf download org/other"):
        hub.revisions([Checkpoint("C019", "org/other")])
    assert hub.hub_access()
