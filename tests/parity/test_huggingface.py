"""The same weights give the same numbers in Hugging Face's DETR and in ours; so do matching and losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import DetrConfig, DetrForObjectDetection, DetrForSegmentation, PreTrainedModel, ResNetConfig
from transformers.loss.loss_for_object_detection import HungarianMatcher as TheirMatcher
from transformers.loss.loss_for_object_detection import ImageLoss

from detr_d2.checkpoint import load_model
from detr_d2.errors import WeightsError
from detr_d2.modeling import predict_masks
from detr_d2.modeling.criterion import METRICS, batch_means
from detr_d2.modeling.matcher import query_positions

SMALL = {
    "d_model": 128,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 9,
}
KINDS = (DetrForObjectDetection, DetrForSegmentation)
CLASSES = 7


def _network(kind: type[PreTrainedModel], **settings: object) -> PreTrainedModel:
    """A random network whose batch norms do something and whose queries and heads differ from each other."""
    labels = {number: f"class {number}" for number in range(CLASSES)}
    network = kind(DetrConfig(id2label=labels, **settings)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif "norm" in name or ".bn" in name or "downsample.1" in name:
                value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
            elif "classifier" in name or "bbox_predictor" in name:
                value.normal_(std=0.1, generator=generator)  # logits of a few units
            elif name.endswith("query_position_embeddings.weight"):
                value.normal_(generator=generator)
    return network


def _small_backbone() -> ResNetConfig:
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return ResNetConfig(embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[3, 4, 6, 3], out_features=stages)


NETWORKS = {
    "small": lambda kind: _network(kind, backbone_config=_small_backbone(), **SMALL),
    "small-dilated": lambda kind: _network(kind, dilation=True, **SMALL),
    "full": lambda kind: _network(kind),
    "full-dilated": lambda kind: _network(kind, dilation=True),
}


def _padded_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of different sizes, (2, 3, 96, 128), and where there is padding (2, 96, 128)."""
    images = torch.zeros(2, 3, 96, 128)
    padding_mask = torch.ones(2, 96, 128, dtype=torch.bool)
    for i, (height, width) in enumerate([(96, 101), (64, 128)]):
        images[i, :, :height, :width] = torch.randn(3, height, width)
        padding_mask[i, :height, :width] = False
    return images, padding_mask


def _all_masks(model: nn.Module, outputs: dict) -> torch.Tensor:
    """(B, Q, H/4, W/4) logits of every query."""
    batch, queries = outputs["pred_logits"].shape[:2]
    batch_index = torch.arange(batch).repeat_interleave(queries)
    masks = predict_masks(
        model.bbox_attention, model.mask_head, outputs, batch_index, torch.arange(queries).repeat(batch)
    )
    return masks.unflatten(0, (batch, queries))


def _targets(padding_mask: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Three segments in the first image and one in the second, random ones; boxes lie in the unit square."""
    targets = []
    for i, count in enumerate((3, 1)):
        height, width = int((~padding_mask[i]).any(1).sum()), int((~padding_mask[i]).any(0).sum())
        boxes = torch.cat([torch.rand(count, 2) * 0.5 + 0.25, torch.rand(count, 2) * 0.4 + 0.05], dim=1)
        masks = torch.rand(count, height, width) > 0.7
        targets.append({"labels": torch.randint(0, CLASSES, (count,)), "boxes": boxes, "masks": masks})
    return targets


def _ours(network: PreTrainedModel, folder: Path) -> nn.Module:
    network.save_pretrained(folder)
    model, _ = load_model(str(folder), ["MODEL.DEVICE", "cpu"])
    return model


@pytest.fixture(
    scope="module",
    params=[(name, kind) for name in NETWORKS for kind in KINDS],
    ids=lambda param: f"{param[0]}-{param[1].__name__}",
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, nn.Module]:
    """The same network twice, theirs and ours, the latter loaded from the folder that theirs saved."""
    torch.manual_seed(0)
    name, kind = request.param
    network = NETWORKS[name](kind)
    return network, _ours(network, tmp_path_factory.mktemp("saved"))


def test_huggingface_outputs_are_equal(pair: tuple[PreTrainedModel, nn.Module]) -> None:
    theirs, ours = pair
    images, padding_mask = _padded_batch()

    with torch.no_grad():
        expected = theirs(images, pixel_mask=(~padding_mask).long())
        outputs = ours.detr(images, padding_mask)

    torch.testing.assert_close(outputs["pred_logits"], expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(outputs["pred_boxes"], expected.pred_boxes, atol=1e-5, rtol=0)
    if ours.mask_head is not None:
        with torch.no_grad():
            masks = _all_masks(ours, outputs)
        torch.testing.assert_close(masks, expected.pred_masks, atol=1e-5, rtol=1e-5)


def test_huggingface_matching_and_losses_are_equal(pair: tuple[PreTrainedModel, nn.Module]) -> None:
    theirs, ours = pair
    images, padding_mask = _padded_batch()
    targets = _targets(padding_mask)
    with torch.no_grad():
        outputs = ours.detr(images, padding_mask)
    their_targets = [target | {"class_labels": target["labels"]} for target in targets]
    their_outputs = {"logits": outputs["pred_logits"], "pred_boxes": outputs["pred_boxes"]}
    earlier = [{"logits": aux["pred_logits"], "pred_boxes": aux["pred_boxes"]} for aux in outputs["aux_outputs"]]
    has_masks = ours.mask_head is not None
    config = theirs.config
    their_matcher = TheirMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    kinds = ["labels", "boxes"] + ["masks"] * has_masks
    criterion = ImageLoss(their_matcher, CLASSES, config.eos_coefficient, kinds)

    with torch.no_grad():
        matching = ours.criterion.match(outputs, targets)
        their_matching = their_matcher(their_outputs, their_targets)
        masks = {"pred_masks": _all_masks(ours, outputs)} if has_masks else {}
        expected = criterion(their_outputs | masks | {"auxiliary_outputs": earlier}, their_targets)
        matched = masks["pred_masks"][query_positions(matching, images.device)] if has_masks else None
        means = batch_means(ours.criterion(outputs, targets, matching, matched), 4.0)
        losses = {name: value for name, value in means.items() if name not in METRICS}

    for found, wanted in zip(matching, their_matching, strict=True):
        assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
    assert set(losses) == set(expected)
    assert len(losses) == 3 * config.decoder_layers + 2 * has_masks
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), abs=1e-5, rel=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_huggingface_network_loads_with_the_names_it_has_in_memory(kind: type, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS["small"](kind)
    saved = _ours(network, tmp_path / "saved")
    torch.save({"model": network.state_dict()}, tmp_path / "memory.pth")

    (tmp_path / "config.json").write_text((tmp_path / "saved" / "config.json").read_text())
    model, _ = load_model(str(tmp_path / "memory.pth"), ["MODEL.DEVICE", "cpu"])

    torch.testing.assert_close(model.state_dict(), saved.state_dict(), atol=0, rtol=0)


def test_sharded_folder_is_one_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS["small"](DetrForSegmentation)
    whole = _ours(network, tmp_path / "whole")
    network.save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1

    model, _ = load_model(str(tmp_path / "shards"), ["MODEL.DEVICE", "cpu"])

    torch.testing.assert_close(model.state_dict(), whole.state_dict(), atol=0, rtol=0)


def test_names_of_classes_come_from_id2label(tmp_path: Path) -> None:
    network = NETWORKS["small"](DetrForObjectDetection)
    network.config.id2label = {0: "crane", 1: "Sky-other-merged", 2: "a", 3: "b", 4: "c", 5: "d", 6: "person"}
    model = _ours(network, tmp_path)

    names = [category.name for category in model.categories]

    assert names == ["crane", "a", "b", "c", "d", "person", "Sky-other-merged"]
    head = network.class_labels_classifier.weight
    torch.testing.assert_close(model.detr.class_embed.weight, head[[0, 2, 3, 4, 5, 6, 1, 7]])


def test_network_of_another_architecture_is_refused(tmp_path: Path) -> None:
    network = NETWORKS["small"](DetrForObjectDetection)
    network.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"sine"', '"learned"'))

    with pytest.raises(WeightsError, match=r"position_embedding_type in config\.json is 'learned'"):
        load_model(str(tmp_path))
