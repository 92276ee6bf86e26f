"""An independently written subset of Detectron2's API; not Detectron2. Results at the size of the original picture."""

from __future__ import annotations

from detectron2.structures import Instances


def detector_postprocess(results: Instances, output_height: int, output_width: int) -> Instances:
    """The instances whose box has an area at the output's size, with ``pred_boxes`` scaled (in place) and clipped.

    ``results.image_size`` is the size that the model saw. Masks aren't resized: Detectron2 takes only those of its
    regions of interest, so a model with masks of whole images sets ``pred_masks`` afterwards.
    """
    if not results.has("pred_boxes") or results.has("pred_masks"):
        raise ValueError(f"results has the fields {sorted(results.get_fields())}; give pred_boxes, and no pred_masks.")
    height, width = results.image_size
    resized = Instances((output_height, output_width), **results.get_fields())
    resized.pred_boxes.scale(output_width / width, output_height / height)
    resized.pred_boxes.clip(resized.image_size)
    return resized[resized.pred_boxes.nonempty()]
