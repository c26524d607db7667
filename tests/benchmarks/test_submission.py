"""Submissions: packed, opened by somebody who trusts nobody, and changed on the way."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks import manifest
from progressgym_env.benchmarks.manifest import (
    Manifest,
    SubmissionError,
    Submitter,
    pack,
    read_manifest,
    unpack,
)
from progressgym_env.benchmarks.submission import submit
from progressgym_env.benchmarks.verify import verify
from progressgym_env.errors import InvalidArgumentError, RunFolderError
from progressgym_env.files import file_hash, write_json
from tests.benchmarks.tampered import WHO, Tamperer, inline, play, simulated_matrix


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(simulated_matrix(5), tmp_path_factory.mktemp("runs") / "five")


@pytest.fixture(scope="session")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit(
        run,
        tmp_path_factory.mktemp("packed") / "five.zip",
        name="Baselines",
        authors=("A. Uthor", "Ä. Nother"),
        url="https://example.org/paper",
        description="What there was before.",
    )


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Tamperer:
    return Tamperer(shutil.copytree(run, tmp_path / "own"))


# What nobody touched


def test_a_submission_holds_what_it_says_and_nothing_else(packed: Path, run: Path):
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        told = json.loads(archive.read("manifest.json"))
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == ["manifest.json", *sorted(names[1:])]
    assert set(told["files"]) == set(names[1:])
    assert {Path(name).suffix for name in names} == {".json", ".jsonl", ".safetensors"}
    assert len(names) == 3 + 30
    for name, entry in told["files"].items():
        assert entry == {"bytes": (run / name).stat().st_size, "sha256": file_hash(run / name)}
    assert told["config_hash"] == json.loads((run / "config.json").read_text())["config_hash"]
    assert (told["name"], told["authors"]) == ("Baselines", ["A. Uthor", "Ä. Nother"])
    assert (told["format"], told["format_version"]) == ("progressgym-submission", 1)


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path):
    for name in ("one", "other"):
        submit(run, tmp_path / f"{name}.zip", name="N", authors=("A",))
    assert file_hash(tmp_path / "one.zip") == file_hash(tmp_path / "other.zip")


def test_a_submission_passes_zipped_and_unpacked(packed: Path, tmp_path: Path):
    verdict = verify(packed, replay="all", executor=inline)
    assert verdict.findings == ()
    assert verdict.submission
    assert verdict.n_checked == 30
    assert verdict.replayed is not None
    assert verdict.replayed.identical == 30
    folder = unpack(packed, tmp_path / "here")
    assert read_manifest(folder).submitter.url == "https://example.org/paper"
    assert verify(folder).submission
    assert verify(folder).ok


def test_an_unpacked_submission_can_be_packed_again(packed: Path, tmp_path: Path):
    folder = unpack(packed, tmp_path / "here")
    again = pack(folder, tmp_path / "again.zip", read_manifest(folder).submitter)
    assert again.read_bytes() == packed.read_bytes()


# What is not packed


def lose_a_line(own: Tamperer) -> None:
    own.put_lines(own.lines()[:-1])


def fail(own: Tamperer) -> None:
    lose_a_line(own)
    own.run.file_of(own.run.cells[-1]).unlink()
    write_json(own.folder / "failures.json", [{"error": "OutOfMemoryError"}])
    write_json(own.folder / "summary.json", {"status": "failed"})


def edit_a_score(own: Tamperer) -> None:
    cell = own.run.cells[0]
    raw, arrays = own.episode(cell)
    raw["score"] += 1e-6
    own.put(cell, raw, arrays)


def other_seeds(own: Tamperer) -> None:
    before = simulated_matrix(5)
    own.relabelled(before, replace(before, seeds=(0, 1, 2, 3, 5)))


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lose_a_line, "the run is incomplete"),
        (fail, "status is 'failed'"),
        (edit_a_score, "score"),
        (other_seeds, "seeds are 0, 1, 2, 3, 5"),
    ],
)
def test_what_does_not_agree_is_not_packed(
    tamper: Callable[[Tamperer], None], says: str, own: Tamperer, tmp_path: Path
):
    tamper(own)
    out = tmp_path / "out.zip"
    with pytest.raises(SubmissionError, match=says):
        submit(own.folder, out, name="N", authors=("A",))
    assert not out.exists()


def test_many_defects_cost_a_few_lines(own: Tamperer, tmp_path: Path):
    own.put_lines([])
    with pytest.raises(SubmissionError, match="and 20 more") as caught:
        submit(own.folder, tmp_path / "out.zip", name="N", authors=("A",))
    assert len(str(caught.value).splitlines()) == 12


def test_too_few_seeds_are_not_packed(run: Path, tmp_path: Path):
    with pytest.raises(SubmissionError, match="5 seeds, and a submission has 6 or more"):
        submit(run, tmp_path / "out.zip", name="N", authors=("A",), min_seeds=6)


def test_what_is_no_run_is_not_packed(tmp_path: Path):
    with pytest.raises(RunFolderError, match="is no run folder"):
        submit(tmp_path, tmp_path / "out.zip", name="N", authors=("A",))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": " "}, "name is empty"),
        ({"name": "two\nlines"}, "a line of at most 200 printable characters"),
        ({"name": "x" * 201}, "a line of at most 200"),
        ({"authors": ()}, "authors is empty"),
        ({"authors": ("",)}, "author '' is empty"),
        ({"url": "javascript:alert(1)"}, "must begin with https://"),
        ({"description": "x" * 1001}, "a line of at most 1000"),
    ],
)
def test_who_submits_is_said_in_plain_text(given: dict[str, Any], says: str):
    with pytest.raises(InvalidArgumentError, match=says):
        Submitter(**{"name": "N", "authors": ("A",), **given})


@pytest.mark.parametrize(("name", "says"), [("out.tar", "does not end in .zip"), ("", "exists")])
def test_nothing_is_overwritten(name: str, says: str, run: Path, packed: Path, tmp_path: Path):
    out = tmp_path / name if name else packed
    before = file_hash(packed)
    with pytest.raises(InvalidArgumentError, match=says):
        submit(run, out, name="N", authors=("A",))
    assert file_hash(packed) == before


# What was changed on the way


def with_manifest(folder: Path) -> Path:
    """Write the manifest that the folder's files ask for, as whoever changes them could."""
    out = folder.parent / "sealed.zip"
    pack(folder, out, WHO)
    with zipfile.ZipFile(out) as archive:
        (folder / "manifest.json").write_bytes(archive.read("manifest.json"))
    return out


def zipped(folder: Path, out: Path) -> Path:
    """The folder as it is, manifest included."""
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return out


@pytest.fixture
def opened(packed: Path, tmp_path: Path) -> Path:
    return unpack(packed, tmp_path / "opened")


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("episodes.jsonl", "bytes is"),
        ("config.json", "sha256 is"),
    ],
)
def test_a_changed_file_is_found(name: str, says: str, as_zip: bool, opened: Path, tmp_path: Path):
    text = (opened / name).read_text()
    (opened / name).write_text(text + "\n" if name == "episodes.jsonl" else text.replace(" ", "  "))
    place = zipped(opened, tmp_path / "changed.zip") if as_zip else opened
    verdict = verify(place)
    assert any(f.where == name and says in f.what for f in verdict.errors)


def test_a_changed_submission_with_a_manifest_of_its_own_is_found(own: Tamperer):
    edit_a_score(own)
    verdict = verify(with_manifest(own.folder))
    assert any("score" in finding.what for finding in verdict.errors)


def test_seeds_that_were_left_out_are_found_in_a_zip(own: Tamperer):
    other_seeds(own)
    verdict = verify(with_manifest(own.folder))
    assert any("seeds are 0, 1, 2, 3, 5" in finding.what for finding in verdict.errors)


def test_a_file_more_or_less_is_found(opened: Path):
    cells = sorted((opened / "cells").iterdir())
    shutil.copy(cells[0], opened / "cells" / "another.safetensors")
    cells[-1].unlink()
    (opened / "readme.txt").write_text("trust me")
    said = {(finding.where, finding.what) for finding in verify(opened).errors}
    assert ("cells/another.safetensors", "is there, and manifest.json does not list it") in said
    assert ("readme.txt", "is there, and manifest.json does not list it") in said
    assert (f"cells/{cells[-1].name}", "is listed in manifest.json and not there") in said


def edit_manifest(folder: Path, *, seal: bool, **changes: Any) -> None:
    raw = json.loads((folder / "manifest.json").read_text()) | changes
    if seal:
        del raw["digest"]
        raw["digest"] = manifest._digest(raw)
    write_json(folder / "manifest.json", raw)


@pytest.mark.parametrize(
    ("changes", "seal", "says"),
    [
        ({"name": "Mine"}, False, "it was changed after it was written"),
        ({"format": "zip"}, True, "this version reads 'progressgym-submission', version 1"),
        ({"format_version": 2}, True, "this version reads"),
        ({"authors": []}, True, "authors is empty"),
        ({"authors": 3}, True, "is no manifest"),
        ({"url": "file:///etc/passwd"}, True, "must begin with https://"),
        ({"files": {"config.json": 3}}, True, "manifest"),
        ({"winner": True}, True, "holds more or other"),
    ],
)
def test_a_manifest_is_read_with_suspicion(
    changes: dict[str, Any], seal: bool, says: str, opened: Path
):
    edit_manifest(opened, seal=seal, **changes)
    with pytest.raises(SubmissionError, match=says):
        read_manifest(opened)
    with pytest.raises(SubmissionError, match=says):
        verify(opened)


def test_a_manifest_of_another_configuration_is_found(opened: Path):
    edit_manifest(opened, seal=True, config_hash="0" * 64)
    (error,) = verify(opened).errors
    assert str(error) == "manifest.json: config_hash is not that in config.json"


def test_a_manifest_can_be_taken_apart_and_put_together(opened: Path):
    found = read_manifest(opened)
    assert Manifest.from_dict(found.to_dict()) == found


# What no submission is


def added(packed: Path, out: Path, info: zipfile.ZipInfo | str, content: bytes = b"x") -> Path:
    shutil.copy(packed, out)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(info, content)
    return out


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("cells/link.safetensors")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def other_compression() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("cells/more.safetensors")
    info.compress_type = zipfile.ZIP_BZIP2
    return info


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ("../outside.safetensors", "and nothing else"),
        ("cells/../../outside.safetensors", "and nothing else"),
        ("/etc/cells/outside.safetensors", "and nothing else"),
        ("C:\\outside.safetensors", "and nothing else"),
        ("cells\\outside.safetensors", "and nothing else"),
        ("cells/", "and nothing else"),
        ("cells/.hidden.safetensors", "and nothing else"),
        ("cells/deep/er.safetensors", "and nothing else"),
        ("cells/policy.pkl", "and nothing else"),
        ("setup.py", "and nothing else"),
        ("summary.json", "and nothing else"),
        ("cells/x.safetensors\n", "and nothing else"),
        (link(), "a link"),
        (other_compression(), "compressed in another way"),
    ],
    ids=str,
)
def test_nothing_is_unpacked_of_a_zip_with_something_else_in_it(
    member: zipfile.ZipInfo | str, says: str, packed: Path, tmp_path: Path
):
    bad = added(packed, tmp_path / "bad.zip", member)
    for act in (lambda: unpack(bad, tmp_path / "in"), lambda: verify(bad)):
        with pytest.raises(SubmissionError, match=says):
            act()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_stands_there_once(name: str, packed: Path, tmp_path: Path):
    with pytest.raises(SubmissionError, match="stands there twice"):
        unpack(added(packed, tmp_path / "bad.zip", name), tmp_path / "in")


def test_names_that_differ_in_case_alone_are_the_same_on_some_machines(
    packed: Path, tmp_path: Path
):
    bad = tmp_path / "bad.zip"
    added(packed, bad, "cells/more.safetensors")
    with zipfile.ZipFile(bad, "a") as archive:
        archive.writestr("cells/MORE.safetensors", b"y")
    with pytest.raises(SubmissionError, match="stands there twice"):
        unpack(bad, tmp_path / "in")


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("_LARGEST_FILE", 1000, "bytes, at most 1000 are allowed"),
        ("_LARGEST_JSON", 100, "bytes, at most 100 are allowed"),
        ("_LARGEST_WHOLE", 1000, "bytes unpacked"),
        ("_MOST_FILES", 10, "33 files; a submission has at most 10"),
    ],
)
def test_what_is_too_large_is_not_unpacked(
    limit: str, value: int, says: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(manifest, limit, value)
    with pytest.raises(SubmissionError, match=says):
        unpack(packed, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_size_that_is_a_lie_is_found(packed: Path, tmp_path: Path):
    """A member that says it is small, and is not: no more is read than it says."""
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo("episodes.jsonl")
    place = content.rindex(b"episodes.jsonl") - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    assert int.from_bytes(content[place + 24 : place + 28], "little") == info.file_size
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    bad = tmp_path / "bad.zip"
    bad.write_bytes(content)
    with pytest.raises(SubmissionError, match="is no whole zip"):
        unpack(bad, tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_zip_is_none(part: float, packed: Path, tmp_path: Path):
    content = packed.read_bytes()
    (tmp_path / "half.zip").write_bytes(content[: int(part * len(content))])
    with pytest.raises(SubmissionError, match="is no whole zip"):
        verify(tmp_path / "half.zip")


def test_damage_inside_is_found(packed: Path, tmp_path: Path):
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(SubmissionError, match="is no whole zip"):
        verify(tmp_path / "bad.zip")


def test_a_zip_of_something_else_is_no_submission(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(SubmissionError, match=r"no config\.json and no episodes\.jsonl and no man"):
        verify(tmp_path / "empty.zip")


def test_nothing_is_unpacked_over_something(packed: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="holds something already"):
        unpack(packed, tmp_path / "in")
    assert (tmp_path / "in" / "mine.txt").read_text() == "mine"
