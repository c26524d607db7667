"""A history that loads like any other, and whose models cannot be loaded."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

from progressgym_env.histories.records import checksums


def damaged_history(folder: Path) -> Path:
    """A copy of the embedded history in ``folder``, its base spoilt and its checksums put right.

    Reading it finds nothing wrong; hold plays it, for it never needs a model; all others fail.
    """
    source = Path(str(files("progressgym_env.histories.embedded") / "data"))
    shutil.copytree(source, folder)
    (folder / "base" / "model.safetensors").write_bytes(b"no weights")
    header = json.loads((folder / "history.json").read_text())
    header["files"] = checksums(folder, header["files"])
    (folder / "history.json").write_text(json.dumps(header))
    return folder
