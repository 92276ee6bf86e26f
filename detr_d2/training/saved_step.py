"""A training step that can be run again: its batch, weights and random numbers, and what the losses were made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from detr_d2.checkpoint.checkpointer import model_record, part_of
from detr_d2.checkpoint.formats import first_sentence, write_checkpoint
from detr_d2.checkpoint.model_file import config_of
from detr_d2.checkpoint.reading import RECORD, WeightsFile, read_weights, tensor_problem
from detr_d2.config import check_device
from detr_d2.errors import WeightsError
from detr_d2.modeling.criterion import weighted
from detr_d2.structures import BatchedInputs
from detr_d2.training_step import NO_MATCHING, counts_of, mean_losses

from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

if TYPE_CHECKING:
    from detr_d2.meta_arch import DetrPanoptic

#: The entry of the file.
STEP = "step"
#: Pixels of an image, at most; a training's are a few million.
_MOST_PIXELS = 2**26


@dataclass(frozen=True)
class Diagnosis:
    """What a step is made of, in one process by itself: losses are divided by the counts of its own batch.

    Args:
        losses: weighted, by name; none where predictions aren't finite and can't be matched.
        gradient_norms: of the sum of the losses, by part of the model; none where there are no losses.
        first: the first module, in the order of the forward pass, whose output isn't finite; empty: there is none.
        problem: why there are no losses; empty: there are.
    """

    losses: dict[str, float] = field(default_factory=dict)
    gradient_norms: dict[str, float] = field(default_factory=dict)
    first: str = ""
    problem: str = ""


@dataclass(frozen=True)
class SavedStep:
    """A step as it is in a file.

    Args:
        iteration: from 0.
        process: rank of the process whose batch this is.
        batch: what the model was given.
        random_state: see :func:`random_state_of`.
        autocast: the dtype that the forward pass was run in, such as "float16"; empty: that of the weights.
        diagnosis: of the step as it was.
    """

    iteration: int
    process: int
    batch: BatchedInputs
    random_state: dict[str, Tensor]
    autocast: str
    diagnosis: Diagnosis


def random_state_of(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's random numbers, which dropout takes, on the CPU and the device."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def autocast_of(device: torch.device) -> str:
    """The dtype of the autocast that is on; see :class:`SavedStep`."""
    if not torch.is_autocast_enabled(device.type):
        return ""
    return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


def diagnose(model: DetrPanoptic, batch: BatchedInputs, random_state: Mapping[str, Tensor], autocast: str) -> Diagnosis:
    """Runs a step forward and backward, without changing gradients, weights or the state of random numbers.

    Args:
        model: in training mode.
        batch, random_state, autocast: as of a :class:`SavedStep`.
    """
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    device = model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _watching(model) as found:
        torch.set_rng_state(random_state["cpu"])
        if device.type == "cuda" and "cuda" in random_state:
            torch.cuda.set_rng_state(random_state["cuda"], device)
        dtype = getattr(torch, autocast) if autocast else None
        with torch.autocast(device.type, dtype=dtype, enabled=bool(autocast)):
            try:
                sums = model.loss_sums(batch)
            except FloatingPointError:
                return Diagnosis(first=found[0] if found else "", problem=NO_MATCHING)
            losses = weighted(mean_losses(sums, counts_of(sums), model.denoising), model.loss_weights)
            total = torch.stack(list(losses.values())).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    numbers = torch.stack([value.detach() for value in losses.values()]).tolist()
    norms = norms_by_part(dict(zip(parameters, gradients, strict=True)))
    return Diagnosis(dict(zip(losses, numbers, strict=True)), norms, found[0] if found else "")


def norms_by_part(gradients: Mapping[str, Tensor | None]) -> dict[str, float]:
    """The norm of the gradients of each part of the model, such as ``detr.transformer``; none of those without any."""
    parts: dict[str, list[Tensor]] = {}
    for name, gradient in gradients.items():
        if gradient is not None:
            parts.setdefault(part_of(name), []).append(gradient.detach().float().norm())
    return {part: float(torch.stack(norms).norm()) for part, norms in parts.items()}


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules without parts whose output isn't finite, in the order of the forward pass."""
    found: list[str] = []

    def look(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and not bool(output.isfinite().all()):
            found.append(name)

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def write_step(path: Path, model: DetrPanoptic, step: SavedStep) -> Path:
    """Writes a step with the weights that it was taken with; the file also is a checkpoint of them.

    Raises:
        OSError: what the system refused.
    """
    content = {**vars(step), "batch": plain_batch(step.batch), "diagnosis": asdict(step.diagnosis)}
    return write_checkpoint({"model": model.state_dict(), RECORD: model_record(model), STEP: content}, path)


def read_step(path: str, device: str = "") -> tuple[DetrPanoptic, SavedStep]:
    """The step in a file, and the model, in training mode, as it was before.

    Args:
        path: of a file of :func:`write_step`.
        device: of the model; empty: a GPU if there is one.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: it can't be read, or holds no step.
        ConfigError: the device isn't there.
    """
    file = read_weights(path)
    content = file.rest.get(STEP)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{file.path} ({file.origin}) holds no step of a training. Name one of the files that a training which "
            "diverged has written to the folder 'diverged' of its OUTPUT_DIR."
        )
    model = _model_of(file, device)
    try:
        return model, _step(content, len(model.categories), model.mask_head is not None)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise WeightsError(
            f"{file.path}: the step in it is damaged ({first_sentence(error)}). Use another copy."
        ) from error


def _step(content: Mapping[str, Any], num_classes: int, with_masks: bool) -> SavedStep:
    """A step out of plain data that may be anything; raises what odd values raise."""
    diagnosis = Diagnosis(**content["diagnosis"])
    for numbers in (diagnosis.losses, diagnosis.gradient_norms):
        if not all(isinstance(name, str) and isinstance(value, float) for name, value in numbers.items()):
            raise ValueError("a loss or a norm is no number")
    batch = batch_of(content["batch"], num_classes, with_masks)
    step = SavedStep(**{**content, "batch": batch, "diagnosis": diagnosis})
    whole, words = (step.iteration, step.process), (step.autocast, diagnosis.first, diagnosis.problem)
    if not (all(type(each) is int for each in whole) and all(isinstance(each, str) for each in words)):
        raise ValueError("its iteration, process, autocast or diagnosis is of another type")
    if step.autocast not in ("", "float16", "bfloat16"):
        raise ValueError(f"its autocast is {step.autocast!r}")
    with torch.random.fork_rng([]):
        torch.set_rng_state(step.random_state["cpu"])
    return step


def _model_of(file: WeightsFile, device: str) -> DetrPanoptic:
    cfg = config_of(file, ["MODEL.DEVICE", device] if device else [])
    check_device(cfg)
    cfg.MODEL.DETR.FREEZE_DETECTOR = bool(file.record.get("config", {}).get("MODEL.DETR.FREEZE_DETECTOR", False))
    model = cast("DetrPanoptic", build_model(cfg))
    try:
        model.load_state_dict(file.weights)  # which may be NaN, and that is what is looked for
    except RuntimeError as error:
        raise WeightsError(f"{file.path}: its weights don't fit its own config. Use another copy.") from error
    return model.train()


def plain_batch(batch: BatchedInputs) -> list[dict[str, Any]]:
    """The inputs as plain data, without what the model doesn't look at."""
    return [_plain(item) for item in batch]


def batch_of(content: Sequence[Mapping[str, Any]], num_classes: int, with_masks: bool) -> BatchedInputs:
    """The inputs that :func:`plain_batch` gave, each of them looked at, as the file may hold anything.

    Args:
        content: as it is in the file.
        num_classes: of the model.
        with_masks: the model needs "gt_masks".

    Raises:
        ValueError: naming what is wrong; other built-in errors where a value is of another type.
    """
    if not isinstance(content, list) or not content:
        raise ValueError("its batch has no images")
    return [_item(plain, num_classes, with_masks) for plain in content]


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: value for key, value in item.items() if isinstance(value, str | int | float | Tensor)}
    if "instances" in item:
        gt = item["instances"].to("cpu")
        fields = {"image_size": list(gt.image_size), "gt_classes": gt.gt_classes, "gt_boxes": gt.gt_boxes.tensor}
        kept["instances"] = fields | ({"gt_masks": gt.gt_masks.tensor} if gt.has("gt_masks") else {})
    return kept


def _item(plain: Mapping[str, Any], num_classes: int, with_masks: bool) -> dict[str, Any]:
    item, fields = dict(plain), plain["instances"]
    size = _size_of(_values("image", item["image"], 3))
    if tuple(fields["image_size"]) != size:
        raise ValueError(f"an image of {size} has instances of {fields['image_size']}")
    for name in ("height", "width"):
        if name in item and not (type(item[name]) is int and 0 < item[name] <= _MOST_PIXELS):
            raise ValueError(f"the {name} of an image is {item[name]!r}")
    gt = Instances(size)
    gt.gt_classes = _values("gt_classes", fields["gt_classes"], 1)
    gt.gt_boxes = Boxes(_values("gt_boxes", fields["gt_boxes"], 2))
    count, known = len(gt.gt_classes), set(range(num_classes))
    if gt.gt_classes.dtype != torch.int64 or not known.issuperset(gt.gt_classes.tolist()):
        raise ValueError(f"gt_classes aren't within 0 and {num_classes - 1}")
    if tuple(gt.gt_boxes.tensor.shape) != (count, 4):
        raise ValueError("gt_boxes aren't one for each class")
    if with_masks:
        masks = _values("gt_masks", fields["gt_masks"], 3)
        if len(masks) != count or masks.dtype != torch.bool or not _fits(masks, size):
            raise ValueError("gt_masks aren't one for each class, of the image's size or smaller")
        gt.gt_masks = BitMasks(masks)
    return item | {"instances": gt}


def _size_of(image: Tensor) -> tuple[int, int]:
    channels, height, width = image.shape
    if channels != 3 or not 0 < height * width <= _MOST_PIXELS:
        raise ValueError(f"an image is of shape {tuple(image.shape)}")
    return height, width


def _fits(masks: Tensor, size: tuple[int, int]) -> bool:
    """Whether masks are of an image's size, or have every so many pixels of it, as ``INPUT.MASK_STRIDE`` has it."""
    return all(0 < length <= whole for length, whole in zip(masks.shape[1:], size, strict=True))


def _values(name: str, value: Tensor, dimensions: int) -> Tensor:
    """The tensor, if it is one of so many dimensions that holds a real number at each of its places."""
    if not isinstance(value, Tensor) or value.dim() != dimensions:
        raise ValueError(f"{name} is no tensor of {dimensions} dimensions")
    if wrong := tensor_problem(value):
        raise ValueError(f"{name} {wrong}")
    return value
