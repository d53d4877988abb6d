"""What a model is: its files, its tokens, its memory, its dtype. Nothing here loads an engine."""

from pipeline.model.checkpoint import open_checkpoint, pin_and_check
from pipeline.model.dtype import Device, describe_dtype, modal_device, settle_dtype, this_device
from pipeline.model.files import locate, pinned
from pipeline.model.memory import check_memory
from pipeline.model.named import Named, read_named
from pipeline.model.passages import OnLong, Passages, make_passages
from pipeline.model.tokens import Tokenizer, make_tokenizer

__all__ = [
    "Device",
    "Named",
    "OnLong",
    "Passages",
    "Tokenizer",
    "check_memory",
    "describe_dtype",
    "locate",
    "make_passages",
    "make_tokenizer",
    "modal_device",
    "open_checkpoint",
    "pin_and_check",
    "pinned",
    "read_named",
    "settle_dtype",
    "this_device",
]
