"""JSONs with anything in any place: read with notes, or refused by the file's name; never another error."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import read_exports, shape_mask
from tests.prepare.made_exports import annotation, coco, image_bytes, png, write_folder
from tests.prepare.test_readers_panoptic import panoptic_files

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("1.jpg") | st.just("../x"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "size", "counts"]), inner),
    max_leaves=8,
)
RUNS = {"size": [30, 40], "counts": [5, 10, 1185]}
INSTANCES = coco(annotation(), annotation(id=2, segmentation=RUNS, iscrowd=1), annotation(id=3, segmentation=[]))
PANOPTIC = json.loads(panoptic_files()["panoptic.json"])


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something could be replaced."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(found for key, value in items for found in places(value, (*path, key)))][bool(not path) :]


def broken(content: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """With something else in some places."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(places(content)))
        inside: Any = content
        for key in above:
            inside = inside[key]
        inside[last] = data.draw(VALUES)
    return content


def read_all(folder: Any, name: str) -> None:
    """Reads and draws everything; only errors that name a file may come."""
    try:
        exports = read_exports([folder], "cvat")
    except DatasetError as error:
        assert name in str(error) or "no export" in str(error)
        return
    for record in exports[0].images:
        try:
            labels = record.labels if isinstance(record.labels, tuple) else record.labels()
        except DatasetError:
            continue
        for label in labels:
            try:
                mask = shape_mask(label.shape, record.height or 30, record.width or 40)
            except DatasetError:
                continue
            assert mask.shape == (record.height or 30, record.width or 40)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_instances_with_anything_in_any_place_are_read_or_refused(data, tmp_path):
    content = broken(INSTANCES, data)
    write_folder(
        tmp_path, {"annotations/instances_x.json": json.dumps(content).encode(), "images/1.jpg": image_bytes()}
    )

    read_all(tmp_path, "instances_x.json")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_panoptic_with_anything_in_any_place_is_read_or_refused(data, tmp_path):
    files = {**panoptic_files(), "panoptic.json": json.dumps(broken(PANOPTIC, data)).encode()}
    write_folder(tmp_path, files)

    read_all(tmp_path, "panoptic.json")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_json_of_random_bytes_is_refused(content, tmp_path):
    write_folder(tmp_path, {"coco.json": content, "images/1.jpg": image_bytes()})

    read_all(tmp_path, "coco.json")


@pytest.mark.parametrize("start", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_png_of_random_bytes_is_refused(start, content, tmp_path):
    write_folder(tmp_path, {**panoptic_files(), "panoptic/1.png": start + content})
    (export,) = read_exports([tmp_path], "coco")
    source = export.images[0].labels

    with pytest.raises(DatasetError, match=r"1\.png"):
        source()


def test_png_larger_than_any_image_is_refused_before_it_is_decoded(tmp_path):
    content = bytearray(png(np.zeros((1, 1, 3), np.uint8)))
    struct.pack_into(">II", content, 16, 10**5, 10**5)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))
    write_folder(tmp_path, {**panoptic_files(), "panoptic/1.png": bytes(content)})
    (export,) = read_exports([tmp_path], "coco")

    with pytest.raises(DatasetError, match=r"1\.png"):
        export.images[0].labels()
