"""Looking inside: what a model's own forward pass attends to, and how masks come of it, for any image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detr_d2.lazy import lazy_names

if TYPE_CHECKING:
    from .explaining import Explanation, explain
    from .maps import attention_of, relevance
    from .page import write_explanation
    from .recording import MaskRecording, Recording, record, record_masks

__all__ = [
    "Explanation",
    "MaskRecording",
    "Recording",
    "attention_of",
    "explain",
    "record",
    "record_masks",
    "relevance",
    "write_explanation",
]

__getattr__ = lazy_names(
    __name__,
    {
        "explaining": ("Explanation", "explain"),
        "maps": ("attention_of", "relevance"),
        "page": ("write_explanation",),
        "recording": ("MaskRecording", "Recording", "record", "record_masks"),
    },
)
