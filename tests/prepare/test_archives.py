"""Zips and folders as lists of files; zips that could do harm."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detr_d2.errors import DatasetError, MissingFileError
from detr_d2.labels import archives
from detr_d2.labels.archives import folder_tree, is_safe_name, zip_tree
from detr_d2.labels.readers import read_exports
from tests.prepare.made_exports import annotation, coco_files, write_folder, write_zip

BAD_NAMES = ["../evil.txt", "images/../../evil.txt", "/etc/evil.txt", "C:\\evil.txt", "c:/evil.txt", "..\\evil.txt"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_zip_with_a_name_that_leads_out_is_refused(name, tmp_path):
    path = write_zip(tmp_path / "in" / "bad.zip", {**coco_files(annotation()), name: b"evil"})

    with pytest.raises(DatasetError, match="leads out"):
        read_exports([path], "cvat")

    assert sorted(os.listdir(tmp_path)) == ["in"] and os.listdir(tmp_path / "in") == ["bad.zip"]


def test_zip_with_a_link_is_refused(tmp_path):
    path = tmp_path / "link.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("images/1.jpg")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")

    with pytest.raises(DatasetError, match="link"):
        zip_tree(path)


def test_zip_with_one_name_twice_is_refused(tmp_path):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("coco.json", "{}")
        archive.writestr("coco.json", "[]")

    with pytest.raises(DatasetError, match="twice"):
        zip_tree(path)


def test_zip_with_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = write_zip(tmp_path / "bomb.zip", {"annotations.xml": bytes(64 * 2**20)})

    with pytest.raises(DatasetError, match="would unpack from"):
        read_exports([path], "cvat")


def test_zip_whose_members_share_bytes_is_refused(tmp_path):
    path = tmp_path / "overlap.zip"
    write_zip(path, {"a.bin": random.Random(0).randbytes(3000), "b.bin": b"x"})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<II", content, second + 20, 3000, 3000)
    struct.pack_into("<I", content, second + 42, 0)
    path.write_bytes(content)

    with pytest.raises(DatasetError, match="in a file of"):
        zip_tree(path)


def test_zip_with_encrypted_members_is_refused(tmp_path):
    path = write_zip(tmp_path / "secret.zip", {"coco.json": b"{}"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)

    with pytest.raises(DatasetError, match="encrypted"):
        zip_tree(path)


def test_zip_of_too_many_members_is_refused_before_they_are_listed(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "many.zip", {f"{number}": b"" for number in range(50)})
    monkeypatch.setattr(archives, "MOST_FILES", 40)
    monkeypatch.setattr(zipfile, "ZipFile", None)

    with pytest.raises(DatasetError, match="more than 40 members"):
        zip_tree(path)


def test_folder_of_too_many_files_is_refused(tmp_path, monkeypatch):
    write_folder(tmp_path, {f"{number}": b"" for number in range(50)})
    monkeypatch.setattr(archives, "MOST_FILES", 40)

    with pytest.raises(DatasetError, match="more than 40 files"):
        folder_tree(tmp_path)


def test_folder_with_a_link_to_itself_is_read_once(tmp_path):
    write_folder(tmp_path / "brick", coco_files(annotation()))
    (tmp_path / "brick" / "again").symlink_to(tmp_path, target_is_directory=True)

    exports = read_exports([tmp_path], "cvat")

    assert [export.name for export in exports] == ["brick"]


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")

    with pytest.raises(DatasetError, match="can't be read as a zip"):
        zip_tree(tmp_path / "text.zip")
    with pytest.raises(MissingFileError):
        zip_tree(tmp_path / "absent.zip")


@given(st.text(max_size=30))
def test_safe_names_stay_below_their_folder(name):
    if is_safe_name(name):
        path = os.path.normpath(os.path.join("/folder", name.replace("\\", "/")))
        assert path.startswith("/folder")


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_zip_with_broken_bytes_is_read_or_refused(data, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in coco_files(annotation()).items():
            archive.writestr(name, content)
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(content), len(content) // 2, 30]))
    path = tmp_path / "broken.zip"
    path.write_bytes(content[:cut])

    try:
        exports = read_exports([path], "cvat")
    except DatasetError as error:
        assert "broken.zip" in str(error)
    else:
        for record in exports[0].images:
            assert record.image.member
    assert os.listdir(tmp_path) == ["broken.zip"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_random_bytes_are_no_zip(content, tmp_path):
    path = tmp_path / "random.zip"
    path.write_bytes(content)

    with pytest.raises(DatasetError):
        read_exports([path], "cvat")
