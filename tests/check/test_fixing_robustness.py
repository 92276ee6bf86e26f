"""detr-d2 check --fix on files of any content: a copy that passes or a refusal, and nothing outside of it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_d2.check import Source, Sources, dataset_faults
from detr_d2.check.copying import fix_dataset
from detr_d2.errors import DatasetError
from detr_d2.files import open_regular
from detr_d2.labels.rules import json_files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def fixed_or_refused(folder: Path) -> dict[str, Any] | None:
    """The JSON of the copy, which has no error; None where there is no copy, and nothing else either."""
    data = folder / "data"
    panoptic = str(data / "panoptic") if any((data / "panoptic").iterdir()) else None
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    try:
        fix_dataset(Sources((Source(str(data / "labels.json"), str(data / "images"), panoptic),)), str(folder / "out"))
    except DatasetError as error:
        assert "no copy" in str(error)
        assert [path.name for path in folder.iterdir()] == ["data"]
        return None
    finally:
        assert before == {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert sorted(path.name for path in folder.iterdir()) == ["data", "out"]
    copy = Source(
        *(str(folder / "out" / name) for name in ("labels.json", "images")),
        str(folder / "out" / "panoptic") if panoptic else None,
    )
    assert [fault for fault in dataset_faults(Sources((copy,))) if fault.severity == "error"] == []
    content: dict[str, Any] = json.loads((folder / "out" / "labels.json").read_text(), parse_constant=pytest.fail)
    return content


def made(build: Any, folder: str, panoptic: bool) -> Any:
    (Path(folder) / "data").mkdir()
    return build(Path(folder) / "data", 0, panoptic)


@settings(max_examples=50, deadline=None, database=None)
@given(data=st.data(), panoptic=st.booleans())
def test_any_value_in_any_place_is_fixed_or_refused(build: Any, data: st.DataObject, panoptic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = made(build, folder, panoptic)
        place, key = built.content, data.draw(st.sampled_from(sorted(built.content)))
        while isinstance(place[key], (list, dict)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(range(len(place)) if isinstance(place, list) else sorted(place)))
        place[key] = data.draw(JSON)
        built.json_file.write_text(json.dumps(built.content))

        fixed_or_refused(Path(folder))


def is_json(content: bytes) -> bool:
    try:
        json.loads(content.decode("utf-8-sig"))
    except ValueError:
        return False
    return True


@settings(max_examples=20, deadline=None, database=None)
@given(content=st.binary(max_size=200), cut=st.integers(0, 2000))
def test_any_bytes_as_json_are_refused(build: Any, content: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = made(build, folder, panoptic=False)
        written = json.dumps(built.content).encode()[:cut] + content
        built.json_file.write_bytes(written)

        assert fixed_or_refused(Path(folder)) is None or is_json(written)  # blanks behind the end, say, are well


@settings(max_examples=30, deadline=None, database=None)
@given(image=st.binary(max_size=100), cut=st.integers(0, 3000), png=st.booleans(), jpg=st.booleans())
def test_any_bytes_as_an_image_cost_no_other_image(build: Any, image: bytes, cut: int, png: bool, jpg: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = made(build, folder, panoptic=True)
        path = built.png() if png else built.image()
        head = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" if jpg else path.read_bytes()[:cut]
        path.write_bytes(head + image)
        built.json_file.write_text(json.dumps(built.content))

        content = fixed_or_refused(Path(folder))

        assert content is not None
        assert {entry["id"] for entry in built.content["images"][1:]} <= {entry["id"] for entry in content["images"]}


@pytest.mark.parametrize("depth", [100, 900])
def test_what_is_nested_beyond_reason_is_left_out(build: Any, tmp_path: Path, depth: int) -> None:
    built = made(build, str(tmp_path), panoptic=False)
    built.content["info"] = "NESTED"
    built.content["annotations"][0]["attributes"] = "NESTED"
    nested = json.dumps(built.content).replace('"NESTED"', "[" * depth + "]" * depth)
    built.json_file.write_text(nested)

    content = fixed_or_refused(tmp_path)

    assert content is not None and len(content["annotations"]) == 6
    assert json.dumps(content).count("[[[[[[[[[[") < 10


def test_json_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = made(build, str(tmp_path), panoptic=False)
    built.json_file.write_text(json.dumps(built.content))
    monkeypatch.setattr(json_files, "memory_free", lambda: 1000)
    monkeypatch.setattr(json.JSONDecoder, "decode", pytest.fail)

    source = Source(str(built.json_file), str(built.folder / "images"))

    assert [fault.code for fault in dataset_faults(Sources((source,)))] == ["json-large"]
    assert fixed_or_refused(tmp_path) is None
    with pytest.raises(DatasetError, match="GB of memory"):
        fix_dataset(Sources((source,)), str(tmp_path / "out"))


@pytest.mark.parametrize("text", ["[[],[],[],[]]", '{"a": {}, "b": {}}', '["a", 1.5, "ééé"]'])
def test_memory_that_a_json_takes_is_not_reckoned_too_low(tmp_path: Path, text: str) -> None:
    import tracemalloc

    path = tmp_path / "labels.json"
    path.write_text("[" + ",".join([text] * 20_000) + "]")
    tracemalloc.start()
    json.loads(path.read_text())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak <= json_files.memory_needed(lambda: open_regular(path)) <= 6 * peak


def test_thousands_of_annotations_of_one_image_are_looked_at(build: Any, tmp_path: Path) -> None:
    built = made(build, str(tmp_path), panoptic=False)
    template = built.content["annotations"][0]
    built.content["annotations"] += [template | {"id": 10**8 + number, "area": -1} for number in range(2_500)]
    built.json_file.write_text(json.dumps(built.content))

    content = fixed_or_refused(tmp_path)

    assert content is not None and len(content["annotations"]) == 2_506
