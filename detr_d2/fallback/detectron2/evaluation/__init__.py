"""An independently written subset of Detectron2's API; not Detectron2."""
