"""The process in which vLLM runs: one request a line on its input, one answer a line on its output.

Its one argument is the folder of adapters, which ends with it. It is run as a file by the
interpreter of whatever environment vLLM is installed in, and so imports nothing of this package. It
leads a process group of its own, and ends with all of it when its input is closed or when the
process that started it has died, whatever it is doing then. What vLLM and its libraries print goes
to the error output.

Requests are JSON objects with an ``op``:

``start``
    ``model``, and the arguments of ``vllm.LLM`` in ``options``.
``score``
    ``adapter`` (``[name, number, folder]`` or null), ``prompts`` (token ids) and ``answers`` (for
    each prompt, the ids of tokens that may follow): the log-probability of each such token.
``reply``
    ``adapter``, ``prompts``, ``seeds`` (one a prompt), ``max_new_tokens``, ``temperature``,
    ``stop_token``: the token ids of one reply each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

_SECONDS = 1.0
"""Between two looks at whether the parent is still there."""


class Server:
    """One engine, started by the first request."""

    def __init__(self) -> None:
        self._llm: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request."""
        operations: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self._start,
            "score": self._score,
            "reply": self._reply,
        }
        return operations[request.pop("op")](**request)

    def _start(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        import vllm

        self._llm = vllm.LLM(model=model, **options)
        return {"version": vllm.__version__}

    def _score(
        self, adapter: Any, prompts: list[list[int]], answers: list[list[int]]
    ) -> dict[str, Any]:
        from vllm import SamplingParams

        # One token, among the answers alone; a token's rank changes nothing.
        asked = [
            SamplingParams(
                max_tokens=1, temperature=0.0, logprobs=len(tokens), allowed_token_ids=tokens
            )
            for tokens in answers
        ]
        outputs = self._generate(prompts, asked, adapter)
        found = []
        for output, tokens in zip(outputs, answers, strict=True):
            (place,) = output.outputs[0].logprobs
            found.append([place[token].logprob for token in tokens])
        return {"log_probs": found}

    def _reply(
        self,
        adapter: Any,
        prompts: list[list[int]],
        seeds: list[int],
        max_new_tokens: int,
        temperature: float,
        stop_token: int,
    ) -> dict[str, Any]:
        from vllm import SamplingParams

        asked = [
            SamplingParams(
                max_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed,
                stop_token_ids=[stop_token],
            )
            for seed in seeds
        ]
        outputs = self._generate(prompts, asked, adapter)
        return {"replies": [list(output.outputs[0].token_ids) for output in outputs]}

    def _generate(self, prompts: list[list[int]], asked: list[Any], adapter: Any) -> list[Any]:
        from vllm.lora.request import LoRARequest

        lora = None if adapter is None else LoRARequest(*adapter)
        outputs: list[Any] = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts],
            asked,
            lora_request=lora,
            use_tqdm=False,
        )
        return outputs


def _end_with(parent: int, folder: str) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    _end(folder)


def _end(folder: str) -> None:
    """Leave nothing behind: vLLM's own processes belong to the group, the folder to nobody else.

    At once, for vLLM's tidy end can take longer than anyone waits.
    """
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Serve until the input ends."""
    folder = sys.argv[1]
    threading.Thread(target=_end_with, args=(os.getppid(), folder), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = Server()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        for line in sys.stdin:
            try:
                say(server.answer(json.loads(line)))
            except Exception as error:
                # What an error leaves behind in an engine is unknown, so it is the last answer.
                traceback.print_exc()
                say({"error": type(error).__name__, "message": str(error)})
                raise
    finally:
        _end(folder)


if __name__ == "__main__":
    main()
