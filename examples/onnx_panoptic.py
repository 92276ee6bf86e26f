"""A panoptic PNG from an exported model, without torch: python onnx_panoptic.py MODEL.onnx PICTURE OUT.png

Each pixel's segment is R + 256 G + 65536 B, 0 where there is none; what the segments are is printed as JSON.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model_file, picture_file, png_file = sys.argv[1:]
session = onnxruntime.InferenceSession(model_file, providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["detr_d2"])
if not about["has_masks"]:
    sys.exit(f"error: {model_file} has boxes and no masks, so there is no panoptic map.")

picture = ImageOps.exif_transpose(Image.open(picture_file)).convert("RGB")
scale = min(about["min_size"] / min(picture.size), about["max_size"] / max(picture.size))
width, height = size = tuple(max(1, int(side * scale + 0.5)) for side in picture.size)
pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1)[None]
threshold = np.array(about["score_threshold"], np.float32)
inputs = {"images": pixels, "sizes": np.array([[height, width]]), "score_threshold": threshold}
_, boxes, scores, classes, masks = session.run(None, inputs)

kinds = [about["categories"][index] for index in classes]
# A thing is a segment of its own; stuff of one class is one segment, called after its first query.
segment = np.array([0] + [n if kind["isthing"] else 1 + kinds.index(kind) for n, kind in enumerate(kinds, 1)])
rows, columns = (np.arange(new) * old // new for new, old in zip(picture.size[::-1], (height, width)))
small = {-1}  # segments that are dropped, and whose pixels go to the next best; until there are none
alive = list(range(1, len(segment)))
while small:
    best, owner = np.full((height, width), -np.inf), np.zeros((height, width), int)
    for n in alive:
        logits = np.asarray(Image.fromarray(masks[n - 1]).resize(size, Image.Resampling.BILINEAR))
        owner[logits > best], best = n, np.maximum(best, logits)
    ids = segment[owner][rows][:, columns]
    areas = np.bincount(ids.ravel(), minlength=len(segment))
    small = {n for n in alive if areas[segment[n]] < about["min_segment_area"]}
    alive = [n for n in alive if n not in small]

Image.fromarray(np.stack([ids, ids >> 8, ids >> 16], -1).astype(np.uint8)).save(png_file)
for n in sorted({int(segment[n]) for n in alive}):
    print(json.dumps({"id": n, "category": kinds[n - 1]["name"], "area": int(areas[n])}))
