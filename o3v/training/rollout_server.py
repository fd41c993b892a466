"""Rollouts of GSPO by a vLLM server: TRL's server mode, without vLLM in the environment of the training.

TRL 1.16 imports vLLM in the trainer's process too, for the transfer of weights through NCCL, and vLLM's bounds exclude
our transformers. So the weights go through a file instead, which the server loads again (`reload_weights`): trainer and
server share a folder. Everything else is TRL's: prompts as token ids, images as features of the server, and the
correction for the probabilities of another engine.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TrainerCallback
from trl.generation import vllm_client
from trl.generation.vllm_generation import VLLMGeneration

from o3v import files
from o3v.http_json import check_endpoint
from o3v.models.vlm import VISION_TOKENS
from o3v.planning.parity import TOLERANCES, NoParity, require_parity

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
CONNECTIONS = 64  # as many requests as TRL sends at a time
RETRIES, BUSY = 5, (502, 503)  # as TRL's client, but 500 is an error of the server and shown at once
CACHES = ("prefix", "mm", "encoder")
DIFFERENCE = "sampling/sampling_logp_difference/mean"  # TRL's name
BANNED = -100.0  # vLLM's lowest logit bias


class RolloutClient(vllm_client.VLLMClient):
    """TRL's client of a vLLM server, with weights through a file.

    TRL's own constructor refuses to work without vLLM in this environment.
    """

    def __init__(self, base_url: str, weights: Path, wait_s: float = 0.0, dtype: torch.dtype | None = None) -> None:
        """Waits up to `wait_s` seconds for the server. `weights` is the folder for the file that it loads.

        `dtype` is the precision of the file; None: that of the model.
        Raises ValueError for a bad URL, ConnectionError if the server does not answer.
        """
        self.base_url, self.weights, self.dtype = check_endpoint(base_url), weights.resolve(), dtype
        self.session = vllm_client.requests.Session()
        retries = vllm_client.Retry(total=RETRIES, backoff_factor=2, status_forcelist=BUSY, allowed_methods=None)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, vllm_client.HTTPAdapter(max_retries=retries, pool_maxsize=CONNECTIONS))
        try:
            self.check_server(wait_s)
        except OSError:  # of requests, with TRL's words
            raise ConnectionError(
                f"no vLLM server answers at {self.base_url}; docs/full.md has the command that starts it"
            ) from None
        self.model = self._get(f"{self.base_url}/v1/models")["data"][0]["id"]

    def _post(self, url: str, **request: Any) -> dict[str, Any]:
        """As TRL's, with tokens named as TRL 1.16 reads them: vLLM 0.32 gives `token_id` instead of `token`."""
        reply = super()._post(url, **request)
        for choice in reply.get("choices", []):
            for entry in (choice.get("logprobs") or {}).get("content") or []:
                for one in (entry, *entry["top_logprobs"]):
                    one.setdefault("token", f"token_id:{one.get('token_id')}")
        return reply

    def init_communicator(self, device: Any = 0) -> None:
        """Nothing to open: weights go through a file."""

    def update_named_params(self, metadata: Any, named_params: Iterator[tuple[str, torch.Tensor]]) -> None:
        """Writes all weights and lets the server load them."""
        tensors = {
            name: tensor.detach().to("cpu", self.dtype or tensor.dtype, copy=True).contiguous()
            for name, tensor in named_params
        }
        self.weights.mkdir(parents=True, exist_ok=True)
        with files.atomic_path(self.weights / WEIGHTS) as unfinished:
            save_file(tensors, unfinished, metadata={"format": "pt"})
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(self.weights)}}
        self._post(f"{self.base_url}/collective_rpc", json=call)

    def reset_prefix_cache(self) -> None:
        """Drops all that the server computed with the weights before: keys and values, and what it knows of images.

        TRL 1.16 drops the first only; outputs of the vision tower would stay. Raises RuntimeError if the server keeps
        them, because it is at work for somebody else.
        """
        for cache in CACHES:
            response = self.session.post(f"{self.base_url}/reset_{cache}_cache")
            response.raise_for_status()
            if response.content and response.json().get("success") is False:
                raise RuntimeError(
                    f"the vLLM server at {self.base_url} keeps its {cache} cache while it answers others; use it for "
                    "this training only"
                )


class ServerGeneration(VLLMGeneration):
    """TRL's generation in server mode, with `RolloutClient`."""

    def __init__(self, *args: Any, weights: Path, dtype: torch.dtype | None, **kwargs: Any) -> None:
        self.weights, self.dtype = weights, dtype
        super().__init__(*args, mode="server", **kwargs)

    def _init_vllm(self) -> None:
        if self.accelerator.is_main_process:
            self.vllm_client = RolloutClient(self.server_base_url, self.weights, self.server_timeout, self.dtype)
            mode = self.vllm_client.get_server_info()["model_config"]["logprobs_mode"]
            if mode != (wanted := logprobs_mode(self.temperature)):
                raise ValueError(
                    f"the vLLM server at {self.server_base_url} runs with --logprobs-mode {mode}, which biases the "
                    f"correction of the rollouts; restart it with --logprobs-mode {wanted}"
                )
        self.accelerator.wait_for_everyone()


def logprobs_mode(temperature: float) -> str:
    """The mode of a server whose log-probabilities can be compared with the trainer's, which are those of all tokens.

    At temperature 1 these are vLLM's raw ones. TRL 1.16 asks for the processed ones. Those follow the temperature, but
    they are also renormalised to the tokens that top_p leaves. With top_p 0.95 the correction then multiplied the loss
    of 100 tokens by 0.3; sampling by transformers has no such factor.
    """
    return "raw_logprobs" if temperature == 1.0 else "processed_logprobs"


class StopWithoutParity(TrainerCallback):
    """Ends a training whose server no longer samples from the trained policy, after weights that it did not take.

    TRL compares the log-probabilities of each sampling; their mean difference must stay below that of `parity`.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Raises NoParity for a difference above the limit, or that is no number."""
        found = logs.get(DIFFERENCE, 0.0)
        if not found <= self.limit:
            raise NoParity(
                f"step {state.global_step}: the log-probabilities of the vLLM server differ by {found:.2g} from those "
                f"of the trainer, more than {self.limit:g}: it does not have the trained weights, or computes "
                "otherwise; restart it and run `o3v parity` on the last checkpoint. vLLM 0.32 on a CPU does not renew "
                "the head of a model with tied embeddings"
            )


def attach(trainer: Any, url: str, weights: Path, wait_s: float = 240.0) -> None:
    """Lets a trainer of GSPO sample from the vLLM server at `url`.

    Args:
        trainer: made without vLLM; its settings of sampling are kept.
        url: of the server, http(s)://host:port.
        weights: folder that the server can read; gets one file as large as the model.
        wait_s: seconds to wait for a server that is still loading.

    Raises NoParity unless the engines agree on the checkpoint that the trainer starts from, ConnectionError without a
    server, ValueError for one with other settings, or for sampling that cannot be compared.
    """
    if trainer.temperature != 1.0 and (trainer.top_p < 1.0 or trainer.top_k or trainer.min_p):
        raise ValueError(
            "rollouts by a vLLM server need temperature 1, or top_p 1 and top_k 0: at another temperature the server's "
            "log-probabilities are renormalised to the tokens that these leave"
        )
    record = require_parity(trainer.accelerator.unwrap_model(trainer.model).config._name_or_path)
    log.info("rollouts by %s at %s; the engines agree on %d prompts", record["engine"], url, record["cases"])
    trainer.vllm_generation = ServerGeneration(
        trainer.model,
        trainer.accelerator,
        trainer.processing_class,
        weights=weights,
        dtype=torch.bfloat16 if trainer.args.bf16 else None,  # as fp32 weights are rounded in the forward pass
        server_base_url=url,
        server_timeout=wait_s,
        repetition_penalty=trainer.repetition_penalty,
        temperature=trainer.temperature,
        top_p=trainer.top_p,
        top_k=trainer.top_k,
        min_p=trainer.min_p,
        max_completion_length=trainer.max_completion_length,
        logprobs=0,  # of the sampled token only
        generation_kwargs={"logit_bias": banned_bias(trainer.processing_class.tokenizer)},
    )
    tolerance = TOLERANCES["bfloat16" if trainer.args.bf16 else "float32"]
    trainer.add_callback(StopWithoutParity(tolerance.mean))
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1


def banned_bias(tokenizer: Any, names: Sequence[str] = VISION_TOKENS) -> dict[str, float]:
    """vLLM's way to suppress tokens of images and videos, as JSON: a bias by token id."""
    return {str(token): BANNED for token in tokenizer.convert_tokens_to_ids(list(names))}
