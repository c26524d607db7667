"""Files are there whole or not at all."""

import json
import stat
from pathlib import Path

import pytest

from progressgym_env.errors import InvalidArgumentError
from progressgym_env.files import (
    atomic_path,
    new_folder,
    numbered_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_content_arrives_byte_for_byte(tmp_path: Path):
    write_text(tmp_path / "a.txt", "þing\nline\r\n")
    write_bytes(tmp_path / "b.bin", b"\x00\xff")
    write_json(tmp_path / "c.json", {"é": [1.5, None]})
    assert (tmp_path / "a.txt").read_bytes() == "þing\nline\r\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert json.loads((tmp_path / "c.json").read_text()) == {"é": [1.5, None]}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.bin", "c.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
):
    target = tmp_path / "results.jsonl"
    write_text(target, "old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of the ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path):
    target = tmp_path / "results.jsonl"
    write_text(target, "old")
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".jsonl"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_json_that_is_none_leaves_no_file(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"score": float("nan")})
    assert not list(tmp_path.iterdir())


def test_files_have_the_usual_permissions(tmp_path: Path):
    (plain := tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_new_folder_may_exist_but_must_be_empty(tmp_path: Path):
    folder = new_folder(tmp_path / "deep" / "run")
    assert folder.is_dir()
    assert new_folder(folder) == folder
    (folder / "config.json").touch()
    with pytest.raises(InvalidArgumentError, match=r"run holds something already; give a folder"):
        new_folder(folder)
    with pytest.raises(InvalidArgumentError, match=r"config\.json is a file"):
        new_folder(folder / "config.json")


def test_numbered_folders_never_collide(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "follow-embedded-002").mkdir()
    names = [numbered_folder(tmp_path / "runs", "follow-embedded").name for _ in range(3)]
    assert names == [f"follow-embedded-{n:03d}" for n in (1, 3, 4)]
