"""What a benchmark plays: blocks, cells and their names; files and options that ask for it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from progressgym_env.benchmarks.bench_config import SHIPPED, matrix_from, named_file
from progressgym_env.benchmarks.matrix import Block, Matrix, labels
from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.models.engines import VllmSettings
from tests.benchmarks.made import cell


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "matrix.toml"
    path.write_text(text)
    return path


def test_the_matrix_of_the_paper():
    matrix = matrix_from(named_file("paper"), {})
    assert matrix.seeds == (0, 1, 2, 3, 4)
    paper = {
        (c.agent, c.update, c.update_from, c.challenge)
        for c in matrix.cells
        if c.agent in ("lifelong", "extrapolative")
    }
    assert len(paper) == 2 * 2 * 2 * 3
    assert {c.agent for c in matrix.cells} >= {"hold", "random", "oracle"}
    assert len(matrix.cells) == len(set(matrix.cells)) == (24 + 18) * 5


def test_cells_are_in_the_order_of_the_matrix_and_each_is_there_once():
    block = Block(("hold", "lifelong"), ("predict", "follow"), steps_ahead=(1, 2))
    cells = Matrix((block, Block(("hold",), ("follow",))), seeds=(0, 7)).cells
    assert [(c.task, c.agent, c.seed) for c in cells] == [
        (task, agent, seed)
        for task in ("predict", "predict+2", "follow")
        for agent in ("hold", "lifelong")
        for seed in (0, 7)
    ]


def test_a_matrix_survives_json():
    matrix = Matrix((Block(), Block(updates=("sft", "dpo"))), "simulated", (0, 3), "cpu", 2)
    assert Matrix.from_dict(matrix.to_dict()) == matrix


def test_settings_of_vllm_survive_json_where_results_depend_on_them(tmp_path: Path):
    text = 'engine = "vllm"\ntensor_parallel_size = 4\ngpu_memory_utilization = 0.6'
    matrix = matrix_from(toml(tmp_path, text), {})
    expected = VllmSettings(tensor_parallel_size=4, gpu_memory_utilization=0.6)
    assert matrix.engine_settings == expected
    assert matrix.to_dict()["tensor_parallel_size"] == 4
    again = Matrix.from_dict(matrix.to_dict())
    assert again == matrix
    # What only the machine needs is no part of what is compared.
    assert again.gpu_memory_utilization is None
    assert again != replace(matrix, tensor_parallel_size=2)
    by_options = {"engine": "vllm", "tensor_parallel_size": 4, "gpu_memory_utilization": 0.6}
    assert matrix_from(None, by_options) == matrix


def test_a_run_keeps_that_training_is_launched_and_not_the_command(tmp_path: Path):
    matrix = matrix_from(toml(tmp_path, f'launch = "{sys.executable} -u"'), {})
    assert matrix.launch == f"{sys.executable} -u"
    assert matrix.to_dict()["launched"] is True
    assert "launch" not in matrix.to_dict()
    assert "launched" not in Matrix().to_dict()
    with pytest.raises(InvalidArgumentError, match="there is no program 'torchrunn'"):
        Matrix(launch="torchrunn --nproc-per-node 2")


def test_what_is_as_ever_is_written_down_as_ever():
    """Else runs from before could not go on."""
    plain = Matrix(engine="vllm", gpu_memory_utilization=0.6)
    assert plain.to_dict() == Matrix(engine="vllm").to_dict()
    assert not {"tensor_parallel_size", "gpu_memory_utilization"} & plain.to_dict().keys()
    assert Matrix(engine="vllm").engine_settings == "vllm"
    assert Matrix().engine_settings == "transformers"


def test_labels_say_what_differs_and_no_more():
    one = [cell("hold"), cell("lifelong")]
    assert list(labels(one).values()) == ["hold", "lifelong"]
    seeds = [cell("hold", 0), cell("hold", 1)]
    assert list(labels(seeds).values()) == ["hold seed 0", "hold seed 1"]
    mixed = [
        cell("hold", challenge="follow"),
        cell("hold", challenge="predict", steps_ahead=2, update="rlhf", update_from="initial"),
    ]
    assert list(labels(mixed).values()) == [
        "follow · hold · dpo",
        "predict+2 · hold · rlhf from initial",
    ]


def test_a_name_for_files_holds_no_path():
    slug = cell("policy:../../etc/passwd", challenge="predict", steps_ahead=2).slug
    assert "/" not in slug
    assert slug == "predict+2-dpo-current-policy_.._.._etc_passwd-seed0"


def test_a_file_with_a_single_block_and_options_that_fill_it(tmp_path: Path):
    file = toml(tmp_path, 'agents = ["hold"]\nseeds = [3, 1]\nhistory = "simulated"')
    matrix = matrix_from(file, {"challenges": ["follow"], "threads": 2})
    assert matrix == Matrix((Block(("hold",), ("follow",)),), "simulated", (3, 1), "auto", 2)


def test_an_option_may_repeat_the_file(tmp_path: Path):
    file = toml(tmp_path, "seeds = 2")
    assert matrix_from(file, {"seeds": 2}).seeds == (0, 1)


@pytest.mark.parametrize(
    ("text", "options", "error", "says"),
    [
        ("sedes = 2", {}, UnknownNameError, "unknown key of .*did you mean 'seeds'"),
        ("[[matrix]]\nagent = ['hold']", {}, UnknownNameError, "did you mean 'agents'"),
        ("seeds = 2", {"seeds": 3}, InvalidArgumentError, "--seeds 3 contradicts .* seeds = 2"),
        (
            "agents = ['hold']",
            {"agents": ["hold", "oracle"]},
            InvalidArgumentError,
            "--agents hold,oracle contradicts .* agents = hold",
        ),
        (
            "[[matrix]]\nagents = ['hold']",
            {"update_from": ["initial"]},
            InvalidArgumentError,
            r"--update-from contradicts .* \[\[matrix\]\]",
        ),
        (
            "agents = ['hold']\n[[matrix]]\nagents = ['oracle']",
            {},
            InvalidArgumentError,
            r"agents at the top and tables \[\[matrix\]\]",
        ),
        ("seeds = ", {}, InvalidArgumentError, "is no TOML"),
        ("seeds = 0", {}, InvalidArgumentError, "seeds=0 must be 1 or more"),
        ("seeds = true", {}, InvalidArgumentError, "seeds=True must be a list"),
        ("seeds = [0, 0]", {}, InvalidArgumentError, "0 stands there twice"),
        ("seeds = [-1]", {}, InvalidArgumentError, "a seed must be 0 or more"),
        ("seeds = ['0']", {}, InvalidArgumentError, "a seed must be"),
        ("agents = 'hold'", {}, InvalidArgumentError, "agents='hold' must be a list"),
        ("agents = ['hodl']", {}, UnknownNameError, "did you mean 'hold'"),
        ("agents = [1]", {}, InvalidArgumentError, "agent 1 must be a name"),
        ("challenges = ['folow']", {}, UnknownNameError, "did you mean 'follow'"),
        ("updates = ['dpp']", {}, UnknownNameError, "did you mean 'dpo'"),
        ("update_from = ['first']", {}, UnknownNameError, "known: current, initial"),
        ("threads = 0", {}, InvalidArgumentError, "threads=0 must be 1 or more"),
        ("steps_ahead = [0]", {}, InvalidArgumentError, "steps_ahead=0 must be a whole number"),
        (
            "challenges = ['follow']\nsteps_ahead = [2]",
            {},
            InvalidArgumentError,
            "belongs to the challenge predict",
        ),
        (
            "tensor_parallel_size = 2",
            {},
            InvalidArgumentError,
            "tensor_parallel_size=2 is for vLLM, and engine is 'transformers'; leave it out",
        ),
        (
            "gpu_memory_utilization = 0.6",
            {"engine": "transformers"},
            InvalidArgumentError,
            "gpu_memory_utilization=0.6 is for vLLM",
        ),
        (
            "engine = 'vllm'\ntensor_parallel_size = 2",
            {"tensor_parallel_size": 4},
            InvalidArgumentError,
            "--tensor-parallel-size 4 contradicts .* tensor_parallel_size = 2",
        ),
        (
            "engine = 'vllm'\ntensor_parallel_size = 0",
            {},
            InvalidArgumentError,
            "tensor_parallel_size=0 must be 1 or more",
        ),
        (
            "engine = 'vllm'\ntensor_parallel_size = 2.0",
            {},
            InvalidArgumentError,
            "tensor_parallel_size=2.0 must be a whole number",
        ),
        (
            "engine = 'vllm'\ngpu_memory_utilization = 1.5",
            {},
            InvalidArgumentError,
            "gpu_memory_utilization=1.5 must be between 0 and 1",
        ),
        (
            "engine = 'vllm'\ngpu_memory_utilization = 1",
            {},
            InvalidArgumentError,
            "gpu_memory_utilization=1 must be a fraction",
        ),
        (
            "engine = 'vllm'\ntensor_paralel_size = 2",
            {},
            UnknownNameError,
            "did you mean 'tensor_parallel_size'",
        ),
        ("matrix = [1]", {}, InvalidArgumentError, r"matrix\[1\] is 1, must be a table"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, text: str, options: dict[str, Any], error: type[Exception], says: str
):
    """Original defect 13: unknown options are forwarded as strings."""
    with pytest.raises(error, match=says):
        matrix_from(toml(tmp_path, text), options)


def test_an_unknown_file_names_what_is_shipped():
    with pytest.raises(UnknownNameError, match="known: PATH to a TOML file, paper"):
        named_file("papper.toml")
    assert [file.stem for file in SHIPPED.glob("*.toml")] == ["paper"]
