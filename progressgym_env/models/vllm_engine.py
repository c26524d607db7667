"""vLLM in a process of its own: measuring and replying for the states of one base.

Adapters are handed over at run time as files, in memory where the system has a place for that.
vLLM answers what takes one generated token, letters and yes or no, and writes replies. Log-
probabilities of whole options (form ``repeat``) it could only give as log-probabilities of prompts,
which do not share beginnings, can be stale and can exhaust its memory (vllm#17251, #42245, #5907),
so those stay with ``transformers``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from peft import LoraConfig

from progressgym_env.errors import EngineError, InvalidArgumentError
from progressgym_env.models.adapters import write_adapter
from progressgym_env.models.base import Model
from progressgym_env.models.engines import VllmSettings
from progressgym_env.models.language import LanguageModel
from progressgym_env.models.loading import BaseSource

__all__ = ["VllmEngine", "start_engine"]

_SERVER = Path(__file__).with_name("vllm_server.py")
_IN_MEMORY = Path("/dev/shm")
_MAX_LENGTH = 4096
"""Tokens; the longest published question and a reply have fewer than 1,000."""
_KEPT = 4
"""Adapters that are kept as files; an episode of Coevolve uses two."""
_ROOM = 4 * _KEPT
_WORDS = 1500
"""Bytes of what the process said last that an error holds."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_ENVIRONMENT = {
    # The engine's core beside the server, so that there is one process to end.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    # On a CPU: GiB of keys and values, and no claim on cores that training uses, too.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class VllmEngine:
    """A running vLLM. Obeys ``Engine``.

    Args:
        source: the base; a folder or a name on the hub.
        lora: settings of all adapters that are handed over.
        adapter_bytes: how large one is.
        stop_token: the token that ends a reply.
        dtype: that the base computes in, such as ``"bfloat16"``.
        device: ``"cpu"`` or ``"cuda"``.
        max_length: tokens that a prompt and its reply may have.
        settings: how vLLM runs.

    Raises:
        EngineError: it did not start; the message holds its last words.
        InvalidArgumentError: the interpreter to run it with is not there.
    """

    def __init__(
        self,
        source: BaseSource,
        lora: LoraConfig,
        stop_token: int,
        *,
        adapter_bytes: int,
        dtype: str,
        device: str,
        max_length: int,
        settings: VllmSettings,
    ) -> None:
        self._lora, self._stop_token = lora, stop_token
        self._numbers: dict[str, int] = {}
        self._files: list[str] = []
        self._folder = Path(tempfile.mkdtemp(prefix="progressgym-vllm-", dir=_place(adapter_bytes)))
        # Without a name, for a server that has answered with an error removes the folder.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = self._spawn(settings, device)
        # Also where nobody closes it: when it is collected, or the interpreter ends.
        self._end = weakref.finalize(self, _end, self._process, self._folder, self._errors)
        options: dict[str, Any] = {
            "dtype": dtype,
            "enable_lora": True,
            # The least that vLLM knows: a larger one costs time.
            "max_lora_rank": next((rank for rank in _RANKS if rank >= lora.r), lora.r),
            "max_model_len": max_length,
            # Of the allowed tokens alone, so that they are probabilities among the answers.
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": 8,
            "skip_tokenizer_init": True,
            "seed": 0,
            "tensor_parallel_size": settings.tensor_parallel_size,
        }
        if source.revision is not None:
            options["revision"] = source.revision
        if device == "cpu":
            options["enforce_eager"] = True
        else:
            options["gpu_memory_utilization"] = settings.gpu_memory_utilization
        try:
            answer = self._ask(
                {"op": "start", "model": source.model, "options": options},
                seconds=settings.start_seconds,
            )
        except BaseException:
            self.close()
            raise
        self.version: str = answer["version"]

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def score(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]],
    ) -> list[NDArray[Any]]:
        """For each prompt, the log-probabilities of its answers (tokens) among one another.

        Args:
            adapter: name of each tensor → tensor.
            digest: tells this adapter from others.
            prompts: token ids.
            answers: for each prompt, one token an answer.

        Raises:
            EngineError: the process ended, or could not do it.
        """
        answer = self._ask(
            {
                "op": "score",
                "adapter": self._handed_over(adapter, digest),
                "prompts": [list(prompt) for prompt in prompts],
                "answers": [list(tokens) for tokens in answers],
            }
        )
        return [np.array(some) for some in answer["log_probs"]]

    def reply(
        self,
        adapter: Mapping[str, Any],
        digest: str,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float,
    ) -> list[list[int]]:
        """For each prompt, the tokens of one sampled reply.

        Raises:
            EngineError: the process ended, or could not do it.
        """
        answer = self._ask(
            {
                "op": "reply",
                "adapter": self._handed_over(adapter, digest),
                "prompts": [list(prompt) for prompt in prompts],
                "seeds": list(seeds),
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "stop_token": self._stop_token,
            }
        )
        replies: list[list[int]] = answer["replies"]
        return replies

    def close(self) -> None:
        """End the process and remove the files; a second time does nothing."""
        self._end()

    def _spawn(self, settings: VllmSettings, device: str) -> subprocess.Popen[bytes]:
        python = settings.python or os.environ.get("PROGRESSGYM_VLLM_PYTHON") or sys.executable
        # Else a vLLM built for GPUs takes one although the CPU was asked for.
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        try:
            return subprocess.Popen(
                [python, str(_SERVER), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **_ENVIRONMENT, **hidden},
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            shutil.rmtree(self._folder)
            raise InvalidArgumentError(
                f"vLLM cannot be run with {python!r} ({error}); set PROGRESSGYM_VLLM_PYTHON to the "
                "interpreter of the environment that it is installed in"
            ) from error

    def _handed_over(self, adapter: Mapping[str, Any], digest: str) -> list[Any]:
        """Name, number and folder of an adapter, which is written where it is new."""
        self._require_open()
        folder = self._folder / digest
        if digest not in self._files:
            try:
                write_adapter(folder, adapter, self._lora)
            except OSError as error:
                raise EngineError(f"an adapter cannot be handed to vLLM ({error})") from error
            self._files.append(digest)
            if len(self._files) > _KEPT:
                shutil.rmtree(self._folder / self._files.pop(0))
        # A number stands for one adapter for ever: vLLM keeps them by it.
        number = self._numbers.setdefault(digest, len(self._numbers) + 1)
        return [digest, number, str(folder)]

    def _ask(self, request: Mapping[str, Any], seconds: float | None = None) -> dict[str, Any]:
        stdin, stdout = self._require_open()
        line = b""
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
            if seconds is None or select.select([stdout], [], [], seconds)[0]:
                line = stdout.readline()
        except OSError:
            pass  # It has ended; what follows says so.
        except BaseException:
            # An interrupt: what comes next on the line would be the answer to this.
            self.close()
            raise
        if not line.endswith(b"\n"):  # Nothing, or half an answer.
            raise self._ended(request["op"], seconds)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            words = self._last_words()
            self.close()
            raise EngineError(
                f"vLLM could not {request['op']} ({answer['error']}: {answer['message']}){words}"
            )
        return answer

    def _require_open(self) -> tuple[IO[bytes], IO[bytes]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or stdin.closed:
            raise EngineError("the vLLM process was closed; reset the environment, or make another")
        return stdin, stdout

    def _ended(self, doing: str, seconds: float | None) -> EngineError:
        try:
            code = self._process.wait(timeout=5)
            what = f"ended with exit code {code}"
        except subprocess.TimeoutExpired:
            what = f"gave no answer within {seconds} s"
        words = self._last_words()
        self.close()
        return EngineError(
            f"the vLLM process {what} (asked to {doing}); a benchmark goes on at this century with "
            f"--resume, an environment after reset{words}"
        )

    def _last_words(self) -> str:
        # At a place, for a read that moves on would move where the process writes next.
        descriptor = self._errors.fileno()
        start = max(0, os.fstat(descriptor).st_size - _WORDS)
        text = os.pread(descriptor, _WORDS, start).decode("utf-8", errors="replace").strip()
        return f". It said last:\n{text}" if text else ""


def start_engine(model: Model, settings: VllmSettings) -> tuple[VllmEngine, LanguageModel]:
    """A vLLM with the base of ``model``, and the model as measured by it.

    Raises:
        InvalidArgumentError: it is no language model of a folder or of the hub.
        EngineError: vLLM did not start.
    """
    source = model.host.source if isinstance(model, LanguageModel) else None
    if not isinstance(model, LanguageModel) or source is None:
        raise InvalidArgumentError(
            "engine='vllm' needs a history whose models are language models in a folder or on the "
            "hub; use engine='transformers'"
        )
    host = model.host
    engine = VllmEngine(
        source,
        host.lora_config,
        host.tokenizer.eos_token_id,
        adapter_bytes=sum(t.nbytes for t in model.state.values()),
        dtype=str(host.base_dtype).removeprefix("torch."),
        device=host.device,
        max_length=min(host.causal_lm.config.max_position_embeddings, _MAX_LENGTH),
        settings=settings,
    )
    return engine, model.with_engine(engine)


def _place(adapter_bytes: int) -> Path | None:
    """Memory, where there is room for adapters; None is the usual place for temporary files."""
    if not os.access(_IN_MEMORY, os.W_OK):
        return None
    return _IN_MEMORY if shutil.disk_usage(_IN_MEMORY).free > _ROOM * adapter_bytes else None


def _end(process: subprocess.Popen[bytes], folder: Path, errors: IO[bytes]) -> None:
    # It leads a group, in which whatever it started is, too, also when it has ended itself.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            # What was not yet written has nobody to read it.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    errors.close()
    shutil.rmtree(folder, ignore_errors=True)
