"""Self-contained HTML pages: one file, no network, light and dark, usable by keyboard."""

from __future__ import annotations

from detr_d2.pages.rendering import data_uri, render_page, thumbnail, write_page

__all__ = ["data_uri", "render_page", "thumbnail", "write_page"]
