"""What is no checkpoint, is damaged or is another network's: one message that names file, key, shapes and fix."""

from __future__ import annotations

import io
import pickle
from urllib.error import HTTPError, URLError

import numpy as np
import pytest
import torch

from detr_d2.checkpoint import DetrCheckpointer, read_weights
from detr_d2.checkpoint.categories import from_record
from detr_d2.errors import MissingFileError, WeightsError

from detectron2.modeling import build_model

MASKS = ("MODEL.DETR.MASK_ON", True)


class _Dangerous:
    def __reduce__(self):
        return print, ("this ran",)


def _saved(content, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


WEIGHTS = {"layer1.0.conv1.weight": torch.ones(4, 4, 1, 1)}


def _misnamed() -> bytes:
    """A checkpoint in whose list of members a name isn't UTF-8, though it says so."""
    content = bytearray(_saved({"model": WEIGHTS}))
    start = content.rindex(b"PK\x01\x02")
    content[start + 9] |= 8
    content[start + 46] = 255
    return bytes(content)


FILES = {
    "empty.pth": (b"", "is empty"),
    "text.pth": (b"not a checkpoint", "no checkpoint"),
    "page.pth": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "cut.pth": (_saved({"model": {"a": torch.ones(1000)}})[:-200], "truncated or damaged"),
    "cut-old.pth": (_saved({"model": WEIGHTS}, _use_new_zipfile_serialization=False)[:-40], "truncated"),
    "list.pth": (_saved([1, 2]), "holds a list"),
    "no-weights.pth": (_saved({"epoch": 3, "name": "x"}), r"no weights.*epoch, name"),
    "pickled.pth": (_saved({"model": {}, "extra": _Dangerous()}), r"needs pickle: it holds print"),
    "pickled-old.pth": (pickle.dumps({"model": _Dangerous()}), "needs pickle"),
    "dangerous.pkl": (pickle.dumps({"model": _Dangerous()}), r"needs pickle: it holds builtins\.print"),
    "cut.pkl": (pickle.dumps({"model": np.ones(100)})[:-30], "truncated"),
    "text.pkl": (b"hello", "truncated, or no pickle"),
    "cut.safetensors": (b"\x80\x00\x00\x00\x00\x00\x00\x00{", "truncated one"),
    "misnamed.pth": (_misnamed(), "damaged checkpoint"),
    "sparse.pth": (_saved({"model": {"layer1.0.conv1.weight": torch.eye(4).to_sparse()}}), "is sparse"),
    "meta.pth": (_saved({"model": {"layer1.0.conv1.weight": torch.ones(4, device="meta")}}), "has no values"),
    "complex.pth": (_saved({"model": {"layer1.0.conv1.weight": torch.ones(4, dtype=torch.complex64)}}), "complex64"),
    "bomb.pth": (_saved({"model": {"layer1.0.conv1.weight": torch.zeros(1).expand(2**40)}}), "4 bytes in the file"),
    "unknown.pth": (_saved({"model": {"encoder.weight": torch.ones(2)}}), "of no program that is known here"),
}


@pytest.mark.parametrize("name", FILES)
def test_unusable_file_is_one_message_without_torchs_advice(name, tiny_config, tmp_path, capsys):
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)

    with pytest.raises(WeightsError, match=message) as error:
        DetrCheckpointer(build_model(tiny_config()), fine_tune=True).load(str(tmp_path / name))

    text = str(error.value)
    assert str(tmp_path / name) in text and "\n" not in text
    assert "PyTorch 2.6" not in text and "weights_only" not in text
    assert "this ran" not in capsys.readouterr().out


def test_folder_without_weights_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"folder without weights.*model\.safetensors"):
        read_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (URLError("Name or service not known"), "can't be fetched: Name or service not known. There may be no network"),
        (HTTPError("https://x/y.pth", 404, "Not Found", {}, None), "HTTP 404. It isn't there"),
        (OSError("No space left on device"), "No space left on device"),
    ],
)
def test_download_that_fails_names_the_address_and_the_ways_out(problem, message, monkeypatch):
    from detr_d2.checkpoint import paths

    def fail(path):
        raise problem

    monkeypatch.setattr(paths.PathManager, "get_local_path", fail)

    with pytest.raises(WeightsError) as error:
        read_weights("detr-r50-panoptic")

    assert message in str(error.value)
    assert "https://dl.fbaipublicfiles.com/detr/detr-r50-panoptic-00ce5173.pth" in str(error.value)
    assert 'MODEL.WEIGHTS ""' in str(error.value)


def _own(tiny_config, tmp_path, *overrides, change=None) -> str:
    DetrCheckpointer(build_model(tiny_config(*overrides)), str(tmp_path)).save("model")
    path = str(tmp_path / "model.pth")
    if change is not None:
        content = torch.load(path, weights_only=True)
        change(content["model"])
        torch.save(content, path)
    return path


@pytest.mark.parametrize("fine_tune", [True, False])
def test_network_of_another_width_names_key_and_shape(tiny_config, tmp_path, fine_tune):
    path = _own(tiny_config, tmp_path, "MODEL.DETR.HIDDEN_DIM", 16)

    with pytest.raises(WeightsError) as error:
        DetrCheckpointer(build_model(tiny_config()), fine_tune=fine_tune).load(path)

    assert "MODEL.DETR.HIDDEN_DIM is 32. Set MODEL.DETR.HIDDEN_DIM 16" in str(error.value)
    assert "detr.query_embed.weight is (12, 16) there" in str(error.value)


def test_shape_that_contradicts_the_name_is_refused(tiny_config, tmp_path):
    def change(weights):
        weights["detr.input_proj.weight"] = torch.zeros(32, 7, 1, 1)

    path = _own(tiny_config, tmp_path, change=change)

    with pytest.raises(WeightsError, match=r"detr\.input_proj\.weight is \(32, 7, 1, 1\).*needs \(32, 64, 1, 1\)"):
        DetrCheckpointer(build_model(tiny_config()), fine_tune=True).load(path)


def test_masks_that_were_never_trained_are_refused_for_use(tiny_config, tmp_path):
    path = _own(tiny_config, tmp_path)

    with pytest.raises(WeightsError, match=r"bbox_attention\.\S+, expected as \(32.*no masks.*MASK_ON False"):
        DetrCheckpointer(build_model(tiny_config(*MASKS))).load(path)


def test_other_number_of_queries_is_for_fine_tuning_only(tiny_config, tmp_path):
    path = _own(tiny_config, tmp_path)
    saved = torch.load(path, weights_only=True)["model"]["detr.query_embed.weight"]

    for count in (5, 20):
        model = build_model(tiny_config("MODEL.DETR.NUM_QUERIES", count))
        fresh = model.detr.query_embed.weight.detach().clone()
        DetrCheckpointer(model, fine_tune=True).load(path)
        shared = min(count, 12)
        assert torch.equal(model.detr.query_embed.weight[:shared], saved[:shared])
        assert torch.equal(model.detr.query_embed.weight[shared:], fresh[shared:])

    with pytest.raises(WeightsError, match=r"Set MODEL\.DETR\.NUM_QUERIES 12"):
        DetrCheckpointer(build_model(tiny_config("MODEL.DETR.NUM_QUERIES", 5))).load(path)


def test_dilation_must_be_that_of_the_weights_unless_trained_further(tiny_config, tmp_path):
    path = _own(tiny_config, tmp_path, "MODEL.RESNETS.RES5_DILATION", 1)
    dilated = tiny_config("MODEL.RESNETS.RES5_DILATION", 2)

    with pytest.raises(WeightsError, match=r"RES5_DILATION is 2\. Set MODEL\.RESNETS\.RES5_DILATION 1"):
        DetrCheckpointer(build_model(dilated)).load(path)
    DetrCheckpointer(build_model(dilated), fine_tune=True).load(path)


@pytest.mark.parametrize("is_thing", [torch.ones(2), 2, None, "1"], ids=str)
def test_category_that_is_neither_thing_nor_stuff_is_refused(is_thing):
    entry = {"id": 1, "name": "pipe", "isthing": is_thing, "color": [1, 2, 3]}

    with pytest.raises(WeightsError, match=r"entry 0 .* isthing \(0 or 1\)"):
        from_record([entry], "model.pth")
