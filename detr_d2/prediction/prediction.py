"""What a model sees in one image: a panoptic map with its segments, for people, notebooks and other programs."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from detr_d2.data import Category
from detr_d2.data.segments import find_segments, number_segments
from detr_d2.errors import ConfigError
from detr_d2.labels.panoptic_png import encode_ids
from detr_d2.labels.run_lengths import compressed, encoded, encoded_window

if TYPE_CHECKING:
    from detectron2.structures import Instances

VOID = 0
_PREVIEW_SIDE = 1024
"""Pixels of the long side at which a notebook shows an image."""

Segment = dict[str, Any]


class Prediction:
    """An image and what is seen in it; made by a model, or of any panoptic map.

    Args:
        image: (H, W, 3) uint8, RGB.
        panoptic: (H, W) integers: the id of each pixel's segment, 0 is void. None: boxes only.
        segments: for each segment "id" and "category_id", the dataset's; if known, "score". Entries of other names are
            kept. Segments without a pixel are left out; "area" and "bbox" are those of the map, whatever is given.
        categories: of the model, by contiguous id.
        instances: Detectron2's ``Instances`` of things, which may overlap; by default the map's things.
        name: of the image, such as its file's.

    Attributes:
        image, panoptic, categories, name: as above; ``panoptic`` is int32.
        segments: one dict a segment: "id"; "category_id" (the dataset's) and "category" (its name); "isthing"; "score"
            (None where unknown); "area" in pixels; "bbox" (x, y, width, height in pixels). Of a model's own
            prediction also "queries": which of its queries it is made of.

    Raises:
        ValueError: sizes differ, the map has an id that isn't listed, or a category is unknown.
    """

    def __init__(
        self,
        image: np.ndarray,
        panoptic: np.ndarray | None,
        segments: Sequence[Mapping[str, Any]],
        categories: Sequence[Category],
        *,
        instances: Instances | None = None,
        name: str = "",
    ) -> None:
        self.image, self.name, self.categories = image, name, list(categories)
        self._instances = instances
        self._index = {category.id: index for index, category in enumerate(self.categories)}
        self.panoptic: np.ndarray | None = None
        self.segments: list[Segment] = []
        if panoptic is not None:
            if panoptic.shape != image.shape[:2]:
                raise ValueError(f"the panoptic map is {panoptic.shape}, its image {image.shape[:2]}; make them equal.")
            self.panoptic = panoptic.astype(np.int32, copy=False)
            self.segments = self._described(self.panoptic, segments)

    @classmethod
    def from_output(
        cls,
        image: np.ndarray,
        output: Mapping[str, Any],
        categories: Sequence[Category],
        *,
        min_score: float = 0.0,
        name: str = "",
    ) -> Prediction:
        """What a ``DetrPanoptic`` returned for an image.

        Args:
            image: (H, W, 3) uint8, RGB, of the size of the output.
            output: "panoptic_seg", "instances" or both.
            categories: of the model.
            min_score: instances with a lower score are left out.
            name: of the image.
        """
        instances = output.get("instances")
        if instances is not None:
            instances = instances[instances.scores >= min_score].to("cpu")
        if "panoptic_seg" not in output:
            return cls(image, None, [], categories, instances=instances, name=name)
        ids, infos = output["panoptic_seg"]
        segments = [{**info, "category_id": categories[info["category_id"]].id} for info in infos]
        return cls(image, ids.cpu().numpy(), segments, categories, instances=instances, name=name)

    def _described(self, ids: np.ndarray, segments: Sequence[Mapping[str, Any]]) -> list[Segment]:
        unknown = {s["category_id"] for s in segments} - self._index.keys()
        if unknown:
            raise ValueError(f"category_id={min(unknown)} is unknown; the categories have {sorted(self._index)}.")
        numbers = number_segments(ids, [int(s["id"]) for s in segments], self.name or "the image")
        found = find_segments(numbers, np.ones(len(segments), dtype=bool), mask_stride=None)
        described = []
        for place, box, area in zip(found.numbers.tolist(), found.boxes.astype(int).tolist(), found.areas.tolist()):
            segment, (left, top, right, bottom) = segments[place], box
            category = self.categories[self._index[segment["category_id"]]]
            facts = {"id": int(segment["id"]), "category_id": category.id, "category": category.name}
            facts |= {"isthing": category.is_thing, "score": segment.get("score")}
            facts |= {"area": area, "bbox": [left, top, right - left, bottom - top]}
            described.append({**facts, **{key: value for key, value in segment.items() if key not in facts}})
        return described

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def instances(self) -> Instances:
        """Detectron2's ``Instances`` of things, on the CPU: pred_boxes, scores, pred_classes (contiguous), pred_masks.

        They are the map's, the highest score first, unless others were given.
        """
        if self._instances is not None:
            return self._instances
        return self._things()

    def _things(self) -> Instances:
        import torch

        from detectron2.structures import Boxes, Instances

        things = self._sorted_things()
        boxes = torch.tensor([segment["bbox"] for segment in things], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = [torch.from_numpy(self.mask(segment)) for segment in things]
        found = Instances(self.size, pred_boxes=Boxes(boxes))
        found.scores = torch.tensor([1.0 if s["score"] is None else s["score"] for s in things])
        found.pred_classes = torch.tensor([self.class_index(s) for s in things], dtype=torch.int64)
        found.pred_masks = torch.stack(masks) if masks else torch.zeros(0, *self.size, dtype=torch.bool)
        return found

    def class_index(self, segment: Mapping[str, Any]) -> int:
        """The contiguous id of a segment's category, by which the model counts its classes."""
        return self._index[segment["category_id"]]

    def mask(self, segment: Mapping[str, Any]) -> np.ndarray:
        """(H, W) bool, the pixels of one of the segments."""
        assert self.panoptic is not None
        mask: np.ndarray = self.panoptic == segment["id"]
        return mask

    def runs(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        """The pixels of one of the segments as COCO's compressed run lengths: "size" and "counts".

        Only the segment's box is looked at, as a photo of a hundred megapixels may have hundreds of segments.
        """
        assert self.panoptic is not None
        left, top, width, height = segment["bbox"]
        window = self.panoptic[top : top + height, left : left + width] == segment["id"]
        return compressed(encoded_window(window, left, top, self.size))

    def only(self, classes: Collection[str]) -> Prediction:
        """The same of some classes; the pixels of others become void.

        Args:
            classes: names.

        Raises:
            ConfigError: a class that the model doesn't know.
        """
        check_classes(classes, self.categories)
        kept = [segment for segment in self.segments if segment["category"] in classes]
        panoptic, instances = self.panoptic, self._instances
        if panoptic is not None:
            panoptic = np.where(np.isin(panoptic, [segment["id"] for segment in kept]), panoptic, VOID)
        if instances is not None:
            wanted = [self.categories[index].name in classes for index in instances.pred_classes.tolist()]
            instances = instances[np.flatnonzero(wanted)]
        return Prediction(self.image, panoptic, kept, self.categories, instances=instances, name=self.name)

    def quantities(self) -> list[dict[str, Any]]:
        """What there is of each class, in the order of the categories.

        Returns:
            One dict a class that is seen: "category"; "count" of a thing's segments, or of boxes where there is no map,
            None of stuff; "pixels", and "share" of the image, 0 to 1: None where there is no map.
        """
        if self.panoptic is None:
            counts = Counter(self.instances.pred_classes.tolist())
            names = [(self.categories[index].name, counts[index]) for index in sorted(counts)]
            return [{"category": name, "count": count, "pixels": None, "share": None} for name, count in names]
        rows = []
        for category in self.categories:
            own = [segment for segment in self.segments if segment["category_id"] == category.id]
            if own:
                pixels = sum(segment["area"] for segment in own)
                row = {"category": category.name, "count": len(own) if category.is_thing else None, "pixels": pixels}
                rows.append(row | {"share": pixels / self.panoptic.size})
        return rows

    def draw(self, scale: float | None = None) -> Image.Image:
        """The image with its segments in their classes' colours, with names and scores; boxes where there is no map.

        Args:
            scale: of the drawing, relative to the image; by default small images are enlarged by a whole factor, so
                that names can be read.

        Returns:
            A Pillow image, RGB; ``numpy.asarray`` makes an array of it.
        """
        from detr_d2.visualization import PanopticVisualizer, enlargement
        from detr_d2.visualization.class_style import metadata_of

        factor = enlargement(*self.size) if scale is None else scale
        visualizer = PanopticVisualizer(self.image, metadata_of(self.categories), factor)
        if self.panoptic is None:
            return Image.fromarray(visualizer.draw_instance_predictions(self.instances).get_image())
        infos = [{**segment, "category_id": self.class_index(segment)} for segment in self.segments]
        return Image.fromarray(visualizer.draw_panoptic_seg(self.panoptic, infos).get_image())

    def panoptic_png(self) -> bytes:
        """The panoptic map as the PNG that COCO's format has: red + 256 green + 65536 blue is the segment's id.

        Raises:
            ConfigError: there is no map.
        """
        if self.panoptic is None:
            raise ConfigError(f"{self.name or 'the image'} has boxes only: its model has no mask head.")
        ids = [segment["id"] for segment in self.segments]
        return encode_ids(number_segments(self.panoptic, ids, self.name), [VOID, *ids])

    def to_coco(self, kind: str = "panoptic", image_id: int = 1) -> dict[str, Any]:
        """The image as a COCO file has it: "images", "annotations" and "categories".

        Args:
            kind: "panoptic", whose PNG is :meth:`panoptic_png`, or "instances": things with masks as run lengths (boxes
                where there are no masks).
            image_id: of the image.

        Raises:
            ConfigError: ``kind`` is neither, or "panoptic" where there is no map.
        """
        name = self.name or "image.png"
        height, width = self.size
        image = {"id": image_id, "file_name": name, "height": height, "width": width}
        if kind == "instances":
            annotations = self._coco_instances(image_id)
        elif kind == "panoptic" and self.panoptic is not None:
            keys = ("id", "category_id", "area", "bbox", "score")
            infos = [{**{key: segment[key] for key in keys}, "iscrowd": 0} for segment in self.segments]
            png = f"{name.rsplit('.', 1)[0]}.png"
            annotations = [{"image_id": image_id, "file_name": png, "segments_info": infos}]
        else:
            allowed = "'instances'" if self.panoptic is None else "'panoptic' and 'instances'"
            raise ConfigError(f"kind={kind!r}; for {name} allowed is {allowed}.")
        return {"images": [image], "annotations": annotations, "categories": [c.to_json() for c in self.categories]}

    def _coco_instances(self, image_id: int) -> list[dict[str, Any]]:
        annotations = []
        for number, (category_id, score, bbox, runs) in enumerate(self._single_things(), start=1):
            annotation: dict[str, Any] = {"id": number, "image_id": image_id, "iscrowd": 0, "score": score}
            annotation |= {"category_id": category_id, "bbox": bbox, "area": bbox[2] * bbox[3]}
            if runs is not None:
                annotation |= {"area": int(coco_mask.area(runs)), "segmentation": runs}
            annotations.append(annotation)
        return annotations

    def _single_things(self) -> Iterator[tuple[int, float, list[float], dict[str, Any] | None]]:
        """Category id, score, box (x, y, width, height) and, where there are masks, run lengths of each thing."""
        if self._instances is None and self.panoptic is not None:
            for segment in self._sorted_things():
                score = 1.0 if segment["score"] is None else segment["score"]
                yield segment["category_id"], score, [float(side) for side in segment["bbox"]], self.runs(segment)
            return
        found = self.instances
        masks = found.pred_masks.numpy() if found.has("pred_masks") else [None] * len(found)
        numbers = (found.pred_boxes.tensor.tolist(), found.scores.tolist(), found.pred_classes.tolist())
        for (left, top, right, bottom), score, index, mask in zip(*numbers, masks):
            runs = None if mask is None else compressed(encoded(mask))
            yield self.categories[index].id, score, [left, top, right - left, bottom - top], runs

    def _sorted_things(self) -> list[Segment]:
        """The map's things, the highest score first; a score that isn't known is 1."""
        things = [segment for segment in self.segments if segment["isthing"]]
        return sorted(things, key=lambda segment: -(1.0 if segment["score"] is None else segment["score"]))

    def __repr__(self) -> str:
        height, width = self.size
        label = f"{self.name!r}, " if self.name else ""
        parts = []
        for row in self.quantities():
            share = "" if row["share"] is None else f" {100 * row['share']:.0f}%"
            parts.append(f"{row['category']}{share}" if row["count"] is None else f"{row['count']} {row['category']}")
        return f"Prediction({label}{width}x{height}: {', '.join(parts) or 'nothing'})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        drawn = self.draw()
        drawn.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        content = io.BytesIO()
        drawn.save(content, "PNG")
        return content.getvalue()

    def _repr_html_(self) -> str:
        """What a notebook shows: the drawing, and below it what there is of each class."""
        content = base64.b64encode(self._repr_png_()).decode()
        summary = html.escape(repr(self))
        return f'<figure><img alt="{summary}" src="data:image/png;base64,{content}"><br>{summary}</figure>'


def check_classes(classes: Collection[str], categories: Sequence[Category]) -> None:
    """Raises a :class:`ConfigError` for names of classes that aren't among the categories."""
    names = [category.name for category in categories]
    for name in classes:
        if name not in names:
            similar = get_close_matches(name, names)
            raise ConfigError(f"the model knows no class {name!r}; it knows {', '.join(similar or names)}.")
