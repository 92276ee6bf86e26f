"""A checkpoint as a function from images to predictions, for this project's users and for Detectron2's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import detr_d2.meta_arch  # noqa: F401  registers the model that the config names
from detr_d2.checkpoint import DetrCheckpointer, load_model
from detr_d2.config import check_device
from detr_d2.data.augmentation import ResizeShortestEdge
from detr_d2.errors import ConfigError, WeightsError
from detr_d2.meta_arch import DetrPanoptic
from detr_d2.modeling import kept_queries, panoptic_map
from detr_d2.prediction.images import ImageLike, as_rgb
from detr_d2.prediction.prediction import Prediction, check_classes

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor


class DetrPredictor(DefaultPredictor):
    """Detectron2's predictor, for any checkpoint that the project reads, whole ones only.

    Call it with an image, (H, W, 3) uint8 BGR; it returns the model's result for it, at the image's own size.

    Args:
        cfg: with the checkpoint in ``MODEL.WEIGHTS`` and the datasets registered. ``MODEL.DETR.FREEZE_DETECTOR`` is
            about training and doesn't matter here.

    Raises:
        ConfigError: ``MODEL.DEVICE`` isn't there.
        MissingFileError: there is no such checkpoint.
        WeightsError: no checkpoint is named, it can't be read, or it is another model's, so that a part of this one
            would stay random.
    """

    def __init__(self, cfg: CfgNode) -> None:
        check_device(cfg)
        if not cfg.MODEL.WEIGHTS:
            raise WeightsError(
                "MODEL.WEIGHTS is empty, and a model that never learnt sees nothing. Name a checkpoint, "
                "for example MODEL.WEIGHTS output/detr_panoptic_R50/model_final.pth."
            )
        unloaded = cfg.clone()
        unloaded.defrost()
        unloaded.MODEL.WEIGHTS = ""  # Detectron2's checkpointer would not know of published weights and categories
        unloaded.MODEL.DETR.FREEZE_DETECTOR = False
        super().__init__(unloaded)
        self.aug = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        DetrCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)


Overrides = list[str]


class Predictor:
    """A model that is called with an image and returns a :class:`~detr_d2.prediction.Prediction`.

    Args:
        weights: a checkpoint, which knows its classes, colours and thresholds; a folder of Hugging Face, an address or
            a short name such as ``"detr-r50-panoptic"``.
        device: such as ``"cpu"`` or ``"cuda:1"``; by default a GPU if there is one.
        score_threshold: least score of a segment or box, 0 to 1; by default the checkpoint's, by class where it has
            them.
        overlap_threshold: a segment of whose own mask a smaller part is seen is dropped; by default the checkpoint's.
        classes: names of those wanted; the pixels of others are void. By default all.
        max_size: pixels; larger images are made smaller for the network until their long side has so many. Results
            have the image's own size, whatever this is.
        instances: ``Prediction.instances`` are what the model says of single things, whose masks may overlap, instead
            of those in the panoptic map; takes longer.
        opts: changes to the model's config, keys and values in turn.

    Attributes:
        model, cfg: the ``DetrPanoptic`` and the config that built it.
        categories: by contiguous id.
        has_masks: whether there is a mask head; without one predictions have boxes only.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: it can't be read, has no detector, or its classes have no names.
        ConfigError: an unknown class, a device that isn't there, or an override that makes no sense.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        device: str | None = None,
        score_threshold: float | None = None,
        overlap_threshold: float | None = None,
        classes: Collection[str] = (),
        max_size: int | None = None,
        instances: bool = False,
        opts: Sequence[str] = (),
    ) -> None:
        changes = config_changes(device, score_threshold, overlap_threshold, max_size)
        model, cfg = load_model(os.fspath(weights), [*opts, *changes])
        self._use(model, cfg, classes, instances)

    @classmethod
    def from_config(cls, cfg: CfgNode, classes: Collection[str] = (), instances: bool = False) -> Predictor:
        """A predictor of a config whose ``MODEL.WEIGHTS`` and datasets are known, as Detectron2's ``DefaultPredictor``.

        Raises:
            MissingFileError, WeightsError, ConfigError: see :class:`~detr_d2.prediction.DetrPredictor`.
        """
        predictor = cls.__new__(cls)
        predictor._use(cast("DetrPanoptic", DetrPredictor(cfg).model), cfg, classes, instances)
        return predictor

    def _use(self, model: DetrPanoptic, cfg: CfgNode, classes: Collection[str], instances: bool) -> None:
        self.model, self.cfg, self.categories = model, cfg, model.categories
        self.has_masks = model.mask_head is not None
        check_classes(classes, self.categories)
        self.classes = tuple(classes)
        model.panoptic_on, model.instance_on = True, instances or not self.has_masks
        self._resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST] * 2, cfg.INPUT.MAX_SIZE_TEST)
        # What is drawn and counted are boxes that are as likely as segments would have to be.
        self._min_score = float(model.postprocess.score_threshold)

    def __call__(self, image: ImageLike) -> Prediction:
        """Predict one image.

        Args:
            image: a path; a Pillow image; an array (H, W, 3) uint8 in RGB (not BGR); a tensor (3, H, W) in RGB, uint8
                or floats from 0 to 1; or the bytes of an image's file. Files are turned as their EXIF data say.

        Raises:
            ImageError: it can't be read, or isn't an image.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[ImageLike]) -> list[Prediction]:
        """Predict several images in one forward pass; on a GPU that is faster than one by one, and takes more memory.

        Args:
            images: as for a single one. They needn't have the same size, but smaller ones are padded to the largest,
                and what the network sees at their edges differs a little from what it sees alone.
        """
        loaded = [as_rgb(image) for image in images]
        inputs = [self.model_input(image) for image, _ in loaded]
        return self.predict([image for image, _ in loaded], inputs, [name for _, name in loaded])

    def model_input(self, image: np.ndarray) -> dict[str, Any]:
        """What the model is given of an image (H, W, 3) uint8 in RGB: a Detectron2 dict, the image resized."""
        pixels = image if self.cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        resized = self._resize.get_transform(pixels).apply_image(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return {"image": tensor, "height": image.shape[0], "width": image.shape[1]}

    @torch.no_grad()
    def predict(
        self, images: Sequence[np.ndarray], inputs: list[dict[str, Any]], names: Sequence[str]
    ) -> list[Prediction]:
        """:meth:`batch` of images that are loaded, with what :meth:`model_input` made of them."""
        if not images:
            return []
        predictions = []
        for image, output, name in zip(images, self.model(inputs), names, strict=True):
            found = Prediction.from_output(image, output, self.categories, min_score=self._min_score, name=name)
            predictions.append(found.only(self.classes) if self.classes else found)
        return predictions

    def settings(self) -> dict[str, Any]:
        """All that predictions depend on, by names that a user knows; weights and the rest of the config as digests."""
        digest = hashlib.sha256()
        for name, values in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        settings = self.cfg.MODEL.clone()
        settings.defrost()
        settings.WEIGHTS = settings.DEVICE = ""  # another place or machine, but the same model
        # These have names of their own below.
        settings.DETR.SCORE_THRESHOLD = settings.DETR.OVERLAP_THRESHOLD = 0.0
        settings.DETR.CLASS_SCORE_THRESHOLDS = []
        image_settings = self.cfg.INPUT.clone()
        image_settings.defrost()
        image_settings.MAX_SIZE_TEST = 0
        parts = [repr(self.categories), settings.dump(), image_settings.dump()]
        thresholds = self.model.postprocess
        return {
            "model": digest.hexdigest()[:16],
            "score threshold": thresholds.score_thresholds().tolist(),
            "overlap threshold": thresholds.overlap_threshold,
            "classes": list(self.classes),
            "max size": self.cfg.INPUT.MAX_SIZE_TEST,
            "config": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16],
        }

    def __repr__(self) -> str:
        things = sum(category.is_thing for category in self.categories)
        kind = "panoptic" if self.has_masks else "boxes only"
        return (
            f"Predictor({kind}, {things} things and {len(self.categories) - things} stuff classes, {self.model.device})"
        )


def config_changes(
    device: str | None = None,
    score_threshold: float | None = None,
    overlap_threshold: float | None = None,
    max_size: int | None = None,
) -> Overrides:
    """The arguments of :class:`Predictor` as changes to a config: keys and values in turn; None changes nothing."""
    changes: Overrides = []
    if device is not None:
        changes += ["MODEL.DEVICE", device]
    if score_threshold is not None:
        changes += ["MODEL.DETR.SCORE_THRESHOLD", str(score_threshold), "MODEL.DETR.CLASS_SCORE_THRESHOLDS", "[]"]
    if overlap_threshold is not None:
        changes += ["MODEL.DETR.OVERLAP_THRESHOLD", str(overlap_threshold)]
    if max_size is not None:
        changes += ["INPUT.MAX_SIZE_TEST", str(max_size)]
    return changes


class ForwardPass:
    """What a model said of an image.

    Masks are made when a query is first wanted, and kept as logits at a quarter of the network's size.

    Args:
        predictor: with a mask head.
        image: (H, W, 3) uint8, RGB.
        name: of the image.

    Attributes:
        outputs, sizes: what :meth:`DetrPanoptic.detect` returned for a batch of this image alone.
        scores, classes: (Q,) each query's best class that isn't no-object, and its probability.
        is_thing: (K,) bool.
        objectness: (Q,) probability that the query is anything at all.

    Raises:
        ConfigError: the model has boxes only.
    """

    @torch.no_grad()
    def __init__(self, predictor: Predictor, image: np.ndarray, name: str = "") -> None:
        if not predictor.has_masks:
            raise ConfigError("the model has no mask head, only boxes; give a panoptic one (stage 2).")
        self._predictor, self.image, self.name = predictor, image, name
        self.outputs, (self.sizes,) = predictor.model.detect([predictor.model_input(image)])
        probabilities = self.outputs["pred_logits"][0].float().softmax(-1)
        self.is_thing = predictor.model.postprocess.is_thing
        self.scores, self.classes = probabilities[:, :-1].max(-1)
        self.objectness = 1 - probabilities[:, -1]
        self._masks: dict[int, Tensor] = {}

    @torch.no_grad()
    def masks_of(self, queries: Tensor) -> Tensor:
        """(N, h, w) mask logits of queries (N,) at stride 4 of the padded tensor."""
        new = torch.tensor([q for q in queries.tolist() if q not in self._masks], dtype=torch.int64)
        if len(new):
            new = new.to(queries.device)
            found = self._predictor.model.query_masks(self.outputs, torch.zeros_like(new), new)
            self._masks.update(zip(new.tolist(), found))
        none = self.scores.new_zeros(0, *self.sizes.padded)
        return torch.stack([self._masks[q] for q in queries.tolist()]) if len(queries) else none

    def kept(self, score_threshold: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The queries (N,) of the panoptic map, their scores and classes; None: the model's own thresholds."""
        threshold = self._predictor.model.postprocess.score_thresholds() if score_threshold is None else score_threshold
        return kept_queries(self.outputs["pred_logits"][:1], threshold)[1:]

    def prediction(
        self,
        score_threshold: float | None = None,
        overlap_threshold: float | None = None,
        min_area: int | None = None,
        classes: Collection[str] = (),
    ) -> Prediction:
        """The panoptic map for some thresholds, by default the model's own.

        Args:
            score_threshold: of a segment, 0 to 1.
            overlap_threshold: least part of its own mask that is seen of a segment.
            min_area: least pixels of a segment.
            classes: names of those wanted; all, if there are none.
        """
        model = self._predictor.model
        own = model.postprocess
        queries, scores, found = self.kept(score_threshold)
        ids, segments = panoptic_map(
            self.masks_of(queries),
            scores,
            found,
            self.is_thing,
            self.sizes,
            own.min_segment_area if min_area is None else min_area,
            own.overlap_threshold if overlap_threshold is None else overlap_threshold,
        )
        named = [{**segment, "queries": queries[segment["queries"]].tolist()} for segment in segments]
        made = Prediction.from_output(
            self.image, {"panoptic_seg": (ids, named)}, self._predictor.categories, name=self.name
        )
        return made.only(classes) if classes else made
