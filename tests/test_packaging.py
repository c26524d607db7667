"""What a user installs: everything needed, nothing else."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZE_LIMIT = 12 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel, built from a copy of the sources, so that no build folder is left in them."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "runs", ".*")
    shutil.copytree(ROOT, source, ignore=unwanted)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("progressgym_env-*-py3-none-any.whl")
    return zipfile.ZipFile(file)


def shipped(wheel: zipfile.ZipFile) -> set[str]:
    """Names in the wheel, but for its own description."""
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_every_module_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile):
    expected = {"progressgym_env/py.typed"}
    places = {ROOT / "progressgym_env": "progressgym_env"}
    for name in ("agents", "benchmarks", "wrappers"):
        places[ROOT / name] = f"progressgym_env/{name}"
    for folder, place in places.items():
        for file in folder.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and not _hidden(file):
                expected.add(f"{place}/{file.relative_to(folder).as_posix()}")
    assert shipped(wheel) == expected


def test_no_tests_are_in_the_wheel(wheel: zipfile.ZipFile):
    assert not [name for name in wheel.namelist() if "test" in name.lower()]


def test_package_data_stay_small(wheel: zipfile.ZipFile):
    data = [i for i in wheel.infolist() if not i.filename.endswith(".py")]
    assert sum(info.file_size for info in data) <= SIZE_LIMIT


def test_weights_are_safetensors_alone(wheel: zipfile.ZipFile):
    loaded_by_pickle = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz")
    assert not [name for name in shipped(wheel) if name.endswith(loaded_by_pickle)]


def test_the_wheel_carries_licence_types_and_command(wheel: zipfile.ZipFile):
    names = wheel.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "progressgym = progressgym_env.cli:main" in wheel.read(entry_points).decode()


def test_the_wheel_works_without_its_sources(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path)
    code = (
        "import progressgym_env.agents, progressgym_env.benchmarks, progressgym_env.wrappers, sys; "
        "from progressgym_env.values.questions import load_questions; "
        "assert len(load_questions().pairs); "
        "assert progressgym_env.agents.__file__.startswith(sys.path[0]), sys.path; "
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_constraints_pin_all_that_the_package_requires():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        required += extra
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {_normal(name) for name in pins}
    names = {_normal(re.split(r"[\[<>=!~ ;]", requirement)[0]) for requirement in required}
    assert names - {"progressgym-env"} <= pinned
    assert pins["torch"] == "2.13.0"
    assert not [r for r in required if "==" in r], "pyproject.toml carries ranges"


def test_versions_agree():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    from progressgym_env import __version__

    assert __version__ == version
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def _hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(ROOT).parts)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
