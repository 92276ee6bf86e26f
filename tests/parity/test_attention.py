"""The attention that is recorded is what Hugging Face's DETR reports for the same weights, padding included."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import DetrConfig, DetrForSegmentation, ResNetConfig

from detr_d2.checkpoint import load_model
from detr_d2.prediction.explain import record


def test_recorded_attention_equals_hugging_faces(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32, 64, 128], depths=[3, 4, 6, 3], out_features=stages)
    sizes = {"d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "num_queries": 9}
    widths = {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    labels = {number: f"class {number}" for number in range(7)}
    theirs = DetrForSegmentation(DetrConfig(backbone_config=backbone, id2label=labels, **sizes, **widths)).eval()
    theirs.set_attn_implementation("eager")  # the others report no weights
    theirs.save_pretrained(tmp_path)
    ours, _ = load_model(str(tmp_path), ["MODEL.DEVICE", "cpu"])
    inputs = [{"image": 255 * torch.rand(3, 96, 101)}, {"image": 255 * torch.rand(3, 64, 128)}]
    padded, mask = torch.zeros(2, 3, 96, 128), torch.zeros(2, 96, 128, dtype=torch.long)
    for i, item in enumerate(inputs):
        height, width = item["image"].shape[1:]
        padded[i, :, :height, :width] = (item["image"] - ours.pixel_mean) / ours.pixel_std
        mask[i, :height, :width] = 1

    recording = record(ours, inputs)

    with torch.no_grad():
        reported = theirs(padded, pixel_mask=mask, output_attentions=True)
    for recorded, expected in (
        (recording.encoder, reported.encoder_attentions),
        (recording.decoder_self, reported.decoder_attentions),
        (recording.decoder_cross, reported.cross_attentions),
    ):
        assert len(recorded) == len(expected) == 2
        for layer, their_layer in zip(recorded, expected, strict=True):
            torch.testing.assert_close(layer.detach(), their_layer, atol=1e-5, rtol=1e-4)
