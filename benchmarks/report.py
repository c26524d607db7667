"""Reports: a page and pictures made from a run folder, complete or not."""

from __future__ import annotations

from pathlib import Path

from progressgym_env.benchmarks.report_page import GENERATOR, render_page
from progressgym_env.benchmarks.report_plots import draw_report
from progressgym_env.benchmarks.report_series import Report
from progressgym_env.benchmarks.report_view import page_view
from progressgym_env.benchmarks.run_data import load_run
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import write_text

__all__ = ["PAGE_FILE", "make_report"]

PAGE_FILE = "index.html"


def make_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write ``index.html``, which needs nothing beside it, and its pictures as PNG and SVG.

    The run folder is read and not written to, but for the report. The same folder, with the same
    versions of the software, gives the same bytes. Every file is written atomically.

    Args:
        run: a folder that ``progressgym bench`` or ``progressgym run`` made.
        out: where the report goes: a folder that is new, empty, or holds an earlier report, which
            is replaced; ``RUN/report`` by default.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: ``run`` is no run folder, or something in it is damaged.
        InvalidArgumentError: something else is in the way at ``out``.
    """
    data = load_run(run)
    folder = Path(run) / "report" if out is None else Path(out)
    _check_free(folder)
    report = Report(data)
    page = render_page(page_view(report))
    folder.mkdir(parents=True, exist_ok=True)
    # The page first: it tells what the folder is, also when the drawing is interrupted.
    write_text(folder / PAGE_FILE, page)
    draw_report(folder, report)
    return folder / PAGE_FILE


def _check_free(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidArgumentError(f"{folder} is a file; give a folder for the report")
    page = folder / PAGE_FILE
    if not any(folder.iterdir()):
        return
    if not page.is_file() or GENERATOR.encode() not in page.read_bytes()[:4_000]:
        raise InvalidArgumentError(
            f"{folder} holds something that is no report; give a folder that is new, empty, or "
            "holds an earlier report, which is then replaced"
        )
