"""A panoptic PNG from an exported model, without torch: python onnx_panoptic.py MODEL.onnx IMAGE OUT.png

Each pixel's segment is R + 256 G + 65536 B, 0 where there is none; what the segments are is printed as JSON.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model_file: str, image_file: str, png_file: str) -> None:
    session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["detr_d2"])
    if not about["has_masks"]:
        sys.exit(f"error: {model_file} has boxes and no masks, so there is no panoptic map.")
    image = ImageOps.exif_transpose(Image.open(image_file)).convert("RGB")
    masks, scores, classes, size = predict(session, about, image)
    kinds = [about["categories"][index] for index in classes]
    ids, areas = panoptic_map(about, masks, scores, kinds, size, image.size)
    Image.fromarray(np.stack([ids, ids >> 8, ids >> 16], -1).astype(np.uint8)).save(png_file)
    for number in np.flatnonzero(areas).tolist():
        if number:
            print(json.dumps({"id": number, "category": kinds[number - 1]["name"], "area": int(areas[number])}))


def predict(session: onnxruntime.InferenceSession, about: dict, image: Image.Image) -> tuple:
    """Mask logits (N, h, w), scores and classes of the queries above their thresholds, and the network's image size."""
    scale = min(about["min_size"] / min(image.size), about["max_size"] / max(image.size)) or 1  # min_size 0: as it is
    width, height = size = tuple(max(1, int(side * scale + 0.5)) for side in image.size)
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1)[None]
    threshold = np.array(about["score_threshold"], np.float32)
    inputs = {"images": pixels, "sizes": np.array([[height, width]]), "score_threshold": threshold}
    _, _, scores, classes, masks = session.run(None, inputs)
    return masks, scores, classes, size


def panoptic_map(
    about: dict, masks: np.ndarray, scores: np.ndarray, kinds: list, size: tuple, image_size: tuple
) -> tuple:
    """Segment ids (H, W) at the image's own size, and the pixels of each id; both sizes are (width, height)."""
    # A thing is a segment of its own; stuff of one class is one segment, called after its first query.
    segment = np.array([0] + [n if kind["isthing"] else 1 + kinds.index(kind) for n, kind in enumerate(kinds, 1)])
    rows, columns = (np.arange(new) * old // new for new, old in zip(image_size[::-1], size[::-1]))
    alive, dropped = list(range(1, len(segment))), {0}
    while dropped:  # the pixels of what is dropped go to the next best, until nothing has to be dropped
        best, owner = np.full(size[::-1], -np.inf, np.float32), np.zeros(size[::-1], int)
        for n in alive:
            logits = enlarged(masks[n - 1], size)
            owner[logits > best], best = n, np.maximum(best, logits)
        ids = segment[owner][rows][:, columns]
        areas = np.bincount(ids.ravel(), minlength=len(segment))
        dropped = {n for n in alive if areas[segment[n]] < about["min_segment_area"]}
        if not dropped and about.get("overlap_threshold"):
            dropped = hidden(about["overlap_threshold"], masks, scores, segment, segment[owner], alive, size)
        alive = [n for n in alive if n not in dropped]
    return ids, areas


def hidden(threshold, masks, scores, segment, seen, alive, size) -> set:
    """Queries of whose own mask less than the threshold is seen; of those that share pixels the lowest score."""
    dropped, gone = set(), np.zeros(masks.shape[1:], bool)
    for n in sorted(alive, key=lambda n: scores[n - 1]):
        inside = enlarged(masks[n - 1], size) > 0
        part = (inside & (seen == segment[n])).sum() / max(inside.sum(), 1)
        if part < threshold and not (gone & (masks[n - 1] > 0)).any():
            dropped.add(n)
            gone |= masks[n - 1] > 0
    return dropped


def enlarged(mask: np.ndarray, size: tuple) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
