"""CVAT for images 1.1: shapes, what they belong to, and XML that isn't what it says."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detr_d2.errors import DatasetError
from detr_d2.labels.readers import read_exports
from detr_d2.labels.records import Box, ClassRecord, Ellipse, Export, Label, Polygons, Runs
from tests.prepare.made_exports import HEIGHT, META, WIDTH, image_bytes, write_folder, write_zip, xml, xml_files

POLYGON = '<polygon label="brick" source="manual" occluded="0" points="5.00,6.00;15.00,6.00;15.00,16.00" z_order="2"/>'


def read_shapes(folder, shapes: str) -> tuple[list[Label], Export]:
    """The labels of an XML of one picture, and the export."""
    (export,) = read_exports([write_folder(folder, xml_files(shapes))], "cvat")
    labels = export.images[0].labels
    return list(labels if isinstance(labels, tuple) else labels()), export


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (POLYGON, Polygons(((5.0, 6.0, 15.0, 6.0, 15.0, 16.0),))),
        ('<box label="brick" xtl="1.50" ytl="2" xbr="3" ybr="4.25" rotation="30.5"/>', Box(1.5, 2, 3, 4.25, 30.5)),
        ('<box label="brick" xtl="1.50" ytl="2" xbr="3" ybr="4.25"/>', Box(1.5, 2, 3, 4.25)),
        ('<ellipse label="brick" cx="9" cy="8" rx="3" ry="2" rotation="45"/>', Ellipse(9, 8, 3, 2, 45)),
        (
            '<mask label="brick" rle="2, 3, 1" left="4" top="5" width="3" height="2"/>',
            Runs((2, 3), (2, 3, 1), 4, 5, True),
        ),
    ],
)
def test_shape_is_read(shape, expected, tmp_path):
    labels, export = read_shapes(tmp_path, shape)

    assert [label.shape for label in labels] == [expected] and not export.notes


def test_export_has_classes_and_sizes(tmp_path):
    path = write_zip(tmp_path / "job_3.zip", xml_files(POLYGON))

    (export,) = read_exports([path], "cvat")

    (record,) = export.images
    assert (export.name, export.kind, export.is_cvat) == ("job_3", "cvat-xml", True)
    assert export.classes == (ClassRecord("brick", None, (255, 0, 128)), ClassRecord("pipe", None, (0, 255, 0)))
    assert (record.name, record.width, record.height) == ("1.jpg", WIDTH, HEIGHT)
    assert record.image.read() == image_bytes()


def test_layer_group_and_crowd_are_read(tmp_path):
    attributes = '<attribute name="iscrowd">true</attribute><attribute name="colour">red</attribute>'
    shape = f'<box label="brick" xtl="1" ytl="2" xbr="3" ybr="4" z_order="-3" group_id="7">{attributes}</box>'

    labels, export = read_shapes(tmp_path, shape + POLYGON)

    assert [(label.z_order, label.group, label.is_crowd, label.id) for label in labels] == [
        (-3, 7, True, 1),
        (2, 0, False, 2),
    ]
    assert [note.code for note in export.notes] == ["attribute-unused"] and "colour" in export.notes[0].message


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<polyline label="brick" points="1,2;3,4;5,6"/>', "shape-undrawn"),
        ('<points label="brick" points="1,2"/>', "shape-undrawn"),
        ('<cuboid label="brick" xtl1="1"/>', "shape-undrawn"),
        ('<skeleton label="bone"><points label="1" points="1,2"/></skeleton>', "shape-undrawn"),
        ('<tag label="brick"/>', "shape-undrawn"),
        ('<blob label="brick"/>', "shape-unknown"),
        ('<polygon label="brick" points="1,2;3,4"/>', "polygon-points"),
        ('<polygon label="brick" points="1,2;3,4;5"/>', "polygon-points"),
        ('<polygon label="brick" points="1,2;3,4;5,nan"/>', "polygon-points"),
        ('<polygon label="brick" points="1,2;3,4;5,1e99"/>', "polygon-points"),
        ('<polygon label="brick"/>', "polygon-points"),
        ('<polygon points="1,2;3,4;5,6"/>', "category-unknown"),
        ('<box label="brick" xtl="5" ytl="2" xbr="3" ybr="4"/>', "box-empty"),
        ('<box label="brick" xtl="inf" ytl="2" xbr="3" ybr="4"/>', "shape-number"),
        ('<box label="brick" ytl="2" xbr="3" ybr="4"/>', "shape-number"),
        ('<ellipse label="brick" cx="9" cy="8" rx="0" ry="2"/>', "mask-empty"),
        ('<mask label="brick" rle="2, 3" left="4" top="5" width="3" height="2"/>', "rle-counts"),
        ('<mask label="brick" rle="2, -3, 7" left="4" top="5" width="3" height="2"/>', "rle-counts"),
        ('<mask label="brick" rle="" left="4" top="5" width="3" height="2"/>', "rle-counts"),
        ('<mask label="brick" rle="6" left="4" top="5" width="3" height="2"/>', "mask-empty"),
        ('<mask label="brick" rle="0, 6" left="39" top="5" width="3" height="2"/>', "rle-size"),
        ('<mask label="brick" rle="0, 6" left="1" top="1" width="1e6" height="1e6"/>', "rle-size"),
    ],
)
def test_shape_that_cannot_be_drawn_is_noted(shape, code, tmp_path):
    labels, export = read_shapes(tmp_path, shape + POLYGON)

    assert len(labels) == 1 and [note.code for note in export.notes] == [code]
    assert export.notes[0].image == "1.jpg"


def test_images_of_a_project_are_found_by_their_subset(tmp_path):
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    images = "".join(f'<image id="{n}" name="1.jpg" subset="{s}" {size}>{POLYGON}</image>' for n, s in enumerate("ab"))
    files = {"annotations.xml": f"<annotations>{META}{images}</annotations>".encode()}
    write_folder(tmp_path, {**files, "images/a/1.jpg": image_bytes(seed=1), "images/b/1.jpg": image_bytes(seed=2)})

    (export,) = read_exports([tmp_path], "cvat")

    assert [record.name for record in export.images] == ["1.jpg", "b/1.jpg"]
    assert [record.image.read() for record in export.images] == [image_bytes(seed=1), image_bytes(seed=2)]


def test_tracks_of_a_video_are_refused_with_the_cure(tmp_path):
    track = '<track id="0" label="brick"><box frame="0" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    write_folder(tmp_path, {"annotations.xml": f"<annotations>{META}{track}</annotations>".encode()})

    with pytest.raises(DatasetError, match="CVAT for images"):
        read_exports([tmp_path], "cvat")


BOMB = """<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotations><meta>&c;</meta></annotations>"""
FILE = """<!DOCTYPE annotations [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations><meta>&a;</meta></annotations>"""


@pytest.mark.parametrize("content", [BOMB, FILE])
def test_xml_with_entities_is_refused(content, tmp_path):
    write_folder(tmp_path, {"annotations.xml": content.encode(), "images/1.jpg": image_bytes()})

    with pytest.raises(DatasetError, match="declares a document type"):
        read_exports([tmp_path], "cvat")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<annotations>" + b"<a>" * 10**5, "nested more than"),
        (b"<annotations><meta>", "isn't XML"),
        (xml(POLYGON)[:-30], "isn't XML"),
        (b"<annotations>\xff\xfe</annotations>", "isn't XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotations/>', "isn't XML"),
        (b"<annotation><annotations/></annotation>", "at its top"),
    ],
)
def test_broken_xml_is_refused_by_its_name(content, what, tmp_path):
    write_folder(tmp_path, {"annotations.xml": content, "images/1.jpg": image_bytes()})

    with pytest.raises(DatasetError, match=rf"annotations\.xml.*{what}"):
        read_exports([tmp_path], "cvat")


def test_memory_stays_small_for_many_labels(tmp_path):
    shapes = POLYGON * 50
    images = "".join(f'<image id="{n}" name="{n}.jpg" width="40" height="30">{shapes}</image>' for n in range(200))
    files = {f"images/{number}.jpg": b"" for number in range(200)}
    write_folder(tmp_path, {**files, "annotations.xml": f"<annotations>{META}{images}</annotations>".encode()})
    del images

    tracemalloc.start()
    (export,) = read_exports([tmp_path], "cvat")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(export.images) == 200 and peak < 2e6  # the labels have 10 MB


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_xml_with_broken_bytes_is_read_or_refused(data, tmp_path):
    content = bytearray(xml(POLYGON + '<mask label="brick" rle="2, 3, 1" left="4" top="5" width="3" height="2"/>'))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    write_folder(tmp_path, {"annotations.xml": bytes(content), "images/1.jpg": image_bytes()})

    try:
        exports = read_exports([tmp_path], "cvat")
    except DatasetError as error:
        assert str(tmp_path) in str(error)
    else:
        assert exports[0].kind == "cvat-xml"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(max_size=20), key=st.sampled_from(["label", "rle", "left", "width", "z_order", "group_id"]))
def test_odd_values_are_read_or_noted(value, key, tmp_path):
    from xml.sax.saxutils import quoteattr

    values = {"label": "brick", "rle": "2,3,1", "left": "4", "top": "5", "width": "3", "height": "2", key: value}
    printable = "".join(character for character in value if character >= " ")
    values[key] = printable
    attributes = " ".join(f"{name}={quoteattr(text)}" for name, text in values.items())
    content = xml(f"<mask {attributes}/>").decode("utf-8", "replace")

    write_folder(tmp_path, {"annotations.xml": content.encode("utf-8", "replace"), "images/1.jpg": image_bytes()})

    try:
        (export,) = read_exports([tmp_path], "cvat")
    except DatasetError as error:
        assert "isn't XML" in str(error)  # characters that XML forbids
    else:
        labels = export.images[0].labels
        assert len(labels()) + len(export.notes) == 1
