"""Images inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def thumbnail(picture: np.ndarray, long_side: int = 320, quality: int = 80) -> str:
    """An image as the address of an ``<img>``: shrunk, as JPEG, with its bytes in the address itself.

    Args:
        picture: (H, W, 3) uint8, RGB.
        long_side: most pixels of the longer side; smaller images stay as they are.
        quality: of the JPEG, 1 to 95.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((long_side, long_side), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
