"""Flags that are not vLLM's: those of KServe's Hugging Face server, and those that vLLM once had.

Each has a meaning in vLLM of today, or is left out with a note, or is refused with what to write.
Facts: `huggingfaceserver/__main__.py` and `kserve/model_server.py` of kserve/kserve (aaac4e294),
and the flags of vllm-project/vllm from 0.4 to 0.32.
"""

from collections.abc import Mapping

_ADDRESS = "Relume picks the address of a predictor"
_ONE_SERVER = "a predictor is one server; maxReplicas makes more"
_HTTP = "only HTTP is served"
_NO_TRANSFORMER = "it is for a transformer, and only the predictor runs here"
_LOGS = "vLLM has its own logs: the variable VLLM_LOGGING_CONFIG_PATH names their set-up"
_TOKENIZER = "the model's own tokenizer settings decide"
_SPEED = "vLLM has it no more, and it changed no answer"
_DRAFT = "it only saves time: write --speculative-config for the draft model of today's vLLM"


def _by_flag(reasons: Mapping[str, str]) -> dict[str, str]:
    return {f"--{name}": why for why, names in reasons.items() for name in names.split()}


#: Flags of KServe's server, with a value, that are left out: why no answer changes, or what to
#: write.
OF_KSERVE: Mapping[str, str] = _by_flag(
    {
        _ADDRESS: "http-port",
        _ONE_SERVER: "workers max-threads max-asyncio-workers",
        _HTTP: "grpc-port enable-grpc grpc-max-send-message-length grpc-max-receive-message-length",
        _NO_TRANSFORMER: """predictor-host protocol predictor-protocol predictor-use-ssl
        predictor-request-timeout-seconds predictor-request-retries""",
        _LOGS: """enable-latency-logging configure-logging access-log-format""",
        "vLLM serves the documentation of its routes at /docs": "enable-docs-url",
        "vLLM's server decides it": "event-loop timeout-keep-alive",
        "vLLM feeds a model its inputs by itself": "tensor-input-names",
    }
)
#: The same for flags without a value.
SWITCHES_OF_KSERVE: Mapping[str, str] = _by_flag(
    {
        _NO_TRANSFORMER: "enable-predictor-health-check",
        _TOKENIZER: "disable-lower-case",
        'special tokens are chosen for each request: send "add_special_tokens": false': (
            "disable-special-tokens"
        ),
        "ask /tokenize for token ids": "return-token-type-ids",
        'ask /tokenize with "return_token_strs": true for tokens': "return-offsets-mapping",
        "/classify answers with probabilities by itself": "return-probabilities",
    }
)
#: Flags that vLLM once had, without a value.
RETIRED_SWITCHES: Mapping[str, str] = _by_flag(
    {
        "vLLM logs requests only with --enable-log-requests": "disable-log-requests",
        _SPEED: """use-v2-block-manager worker-use-ray engine-use-ray enable-reasoning
        multi-step-stream-outputs disable-frontend-multiprocessing""",
    }
)
#: Flags that vLLM once had, with a value; what the table of the release has comes first.
RETIRED: Mapping[str, str] = _by_flag(
    {
        _SPEED: """swap-space num-scheduler-steps preemption-mode max-seq-len-to-capture
        tokenizer-pool-size tokenizer-pool-type tokenizer-pool-extra-config num-lookahead-slots
        max-num-batched-encoder-input-tokens cpu-offload-space lora-extra-vocab-size
        max-context-len-to-capture scheduler-delay-factor""",
        "vLLM finds the device by itself": "device",
        _DRAFT: """speculative-model num-speculative-tokens speculative-draft-tensor-parallel-size
        speculative-max-model-len speculative-disable-by-batch-size speculative-model-quantization
        ngram-prompt-lookup-max ngram-prompt-lookup-min spec-decoding-acceptance-method
        speculative-disable-mqa-scorer disable-logprobs-during-spec-decoding""",
        "vLLM picks it; write --structured-outputs-config.backend": "guided-decoding-backend",
    }
)
#: Flags that would change answers, and are written in another way today.
INSTEAD: Mapping[str, str] = _by_flag(
    {
        'write --hf-overrides={"rope_parameters": …}': "rope-scaling rope-theta",
        "write --pooler-config": "override-pooler-config",
        "write --limit-mm-per-prompt": "image-input-type image-token-id image-input-shape",
    }
)
#: What plays each `--task` of vLLM's earlier releases and of KServe's Hugging Face server.
_GENERATE = ("--runner=generate",)
_POOL = ("--runner=pooling",)
TASKS: Mapping[str, tuple[str, ...]] = {
    "auto": (),
    "generate": _GENERATE,
    "text_generation": _GENERATE,
    "text2text_generation": _GENERATE,
    "transcription": _GENERATE,
    "embed": (*_POOL, "--convert=embed"),
    "embedding": (*_POOL, "--convert=embed"),
    "text_embedding": (*_POOL, "--convert=embed"),
    "classify": (*_POOL, "--convert=classify"),
    "sequence_classification": (*_POOL, "--convert=classify"),
    "score": (*_POOL, "--convert=classify"),
    "token_classification": _POOL,
    "reward": _POOL,
}
#: What else KServe's Hugging Face server can do, and vLLM cannot (its `MLTask`).
TASKS_OF_KSERVE = frozenset(
    (
        "fill_mask",
        "multiple_choice",
        "question_answering",
        "table_question_answering",
        "time_series_forecast",
    )
)
#: Each `--backend` of KServe's server, and why it is left out ("" where vLLM is meant).
BACKENDS: Mapping[str, str] = {
    "auto": "",
    "vllm": "",
    "huggingface": "vLLM serves the model; --model-impl=transformers runs the model's code of "
    "Transformers in it",
}
RAW_LOGITS = ("--return-raw-logits", "--return-logits")

#: Flags that would undo what Relume sets, or what it must know. vLLM reads _ in them as -.
_PICKED = "its callers know the address"
_MODEL = "write spec.predictor.model.storageUri"
_PLAIN = "it is called over plain HTTP"
SET_BY_RELUME: Mapping[str, str] = {
    "--host": _PICKED,
    "--port": "its callers know the port",
    "--uds": _PICKED,
    "--root-path": "routes begin at /",
    "--model": _MODEL,
    "--model-tag": _MODEL,
    "--api-key": "it is called without one",
    "--ssl-keyfile": _PLAIN,
    "--ssl-certfile": _PLAIN,
    "--ssl-ca-certs": _PLAIN,
    "--ssl-cert-reqs": _PLAIN,
    "--config": "write the flags of that file in args",
    "--headless": "a predictor answers requests",
    "--grpc": "only HTTP is served",
    "--api-server-count": "a predictor is one server",
    "--help": "a predictor answers requests",
}
