"""Launches a module in two processes that shard a model over two CPUs, as FSDP does over GPUs.

accelerate turns FSDP on for processes with a GPU each; here they are told to be such, with gloo
between them and their tensors in main memory. Everything after that is the real thing: torch's
``fully_shard`` as accelerate applies it, trl's trainers, and the sharded model.
"""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys

N = 2


def shipped_settings() -> dict[str, str]:
    """What ``accelerate launch`` makes of the configuration that the package ships."""
    from accelerate.commands.config.config_args import load_config_from_file

    from progressgym_env.models.launched import FSDP

    config = load_config_from_file(str(FSDP))
    assert config.distributed_type == "FSDP"
    settings = {key.upper(): str(value) for key, value in config.fsdp_config.items()}
    return {"ACCELERATE_USE_FSDP": "true", **settings}


def launch(words: list[str]) -> int:
    """Run ``-m MODULE ARGUMENTS`` in two processes; the worst exit code."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(N):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": N, "LOCAL_WORLD_SIZE": N}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env = {**os.environ, **shipped_settings(), **{k: str(v) for k, v in own.items()}}
        command = [sys.executable, __file__, *words]
        # In a group of its own, as torch's launcher starts them.
        processes.append(subprocess.Popen(command, env=env, start_new_session=True))
    return max(abs(process.wait()) for process in processes)


def as_one_of_several_gpus() -> None:
    """Let accelerate take this process for one of several with a GPU each."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    made = PartialState.__init__

    def make(self: PartialState, *args: object, **kwargs: object) -> None:
        made(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    setattr(PartialState, "__init__", make)  # noqa: B010  # mypy knows that methods stay


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit(launch(sys.argv[1:]))
    as_one_of_several_gpus()
    sys.argv = sys.argv[2:]  # Without -m.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
