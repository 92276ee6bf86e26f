"""Names and colours of the scene that is drawn."""

from __future__ import annotations

NAMES = ["brick", "pipe", "sky", "ground"]
COLORS = [(200, 40, 30), (60, 180, 200), (90, 160, 240), (130, 100, 60)]
