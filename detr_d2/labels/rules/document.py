"""The way through one COCO file: categories, images, and which labels are on each, as far as the JSON says it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..archives import is_folder
from ..values import is_id, numbered, shallow, size_problem
from .annotations import (
    AnnotationIds,
    category_of_rules,
    crowd_only_rules,
    crowd_rules,
    geometry_rules,
    image_of_rules,
    is_usable,
    segment_id_rules,
    unlabelled_rules,
)
from .boxes import area_rules, area_sum_rules, box_rules
from .categories import Categories
from .images import ImageId, Images, ImageTask, ListedImage, size_rules
from .json_files import PARTS, list_rules, objects_of
from .masks import mask_rules
from .names import FileNames
from .rule import Finding, Place, Walk

Entry = dict[str, Any]
#: Makes what finds files: of the rule that one that isn't there breaks, and all names that the JSON gives.
NamesOf = Callable[[str, Iterable[Any]], FileNames]


@dataclass
class ImageLabels:
    """What is labelled on one image.

    Args:
        labels: annotations of COCO instances, or segments of a panoptic JSON.
        annotation: of a panoptic JSON: the entry that has the name of the PNG; None for instances.
        count: labels that the file has, those left out included.
    """

    labels: list[Entry] = field(default_factory=list)
    annotation: Entry | None = None
    count: int = 0


@dataclass
class Document:
    """One COCO file that has been walked through.

    Args:
        file: the JSON.
        is_panoptic: COCO panoptic, else COCO instances.
        categories, images: its parts.
        image_names, png_names: find the files.
        fixes: what is found is fixed.
        labels: by id of the image.
    """

    file: str
    is_panoptic: bool
    categories: Categories
    images: Images
    image_names: FileNames
    png_names: FileNames
    fixes: bool
    labels: dict[ImageId, ImageLabels] = field(default_factory=dict)

    def task(self, image_id: ImageId) -> ImageTask:
        """What pixels have to say of an image."""
        labels = self.labels.get(image_id) or ImageLabels()
        png = self.png_names.path(labels.annotation.get("file_name")) if labels.annotation is not None else None
        entry = self.images.entries[image_id] if self.fixes else None
        found = self.listed(image_id), self.file, labels.labels, self.is_panoptic, png, entry, labels.count
        return ImageTask(*found)

    def listed(self, image_id: ImageId) -> ListedImage:
        """An image as the JSON has it now."""
        entry = self.images.entries[image_id]
        width, height = (0, 0) if size_problem(entry) else (entry["width"], entry["height"])
        return ListedImage(image_id, width, height, self.image_names.path(entry.get("file_name")))


def walk_document(
    content: Entry,
    file: str,
    images_folder: str | None,
    panoptic_root: str | None,
    is_thing_of: Callable[[], Mapping[str, int]] | None = None,
    names_of: NamesOf | None = None,
) -> Walk[Document | None]:
    """What is wrong in a JSON by itself, and in the names that it gives.

    Args:
        content: of the file; nothing of it is changed, unless ``names_of`` is given.
        file: its path.
        images_folder, panoptic_root: of its files, or None where they aren't known.
        is_thing_of: 1 or 0 for known names of categories. Given, what is found is fixed: entries are copies, and what
            needs pixels is left to :func:`~.image.walk_image`; else that is reported as far as the JSON says it.
        names_of: of a reader, which finds files in other ways, and needs the content only once: entries are changed.

    Returns:
        What is in it, or None where nothing can be made of it.
    """
    return _Walker(content, file, images_folder, panoptic_root, is_thing_of, names_of).walk()


def is_panoptic_file(annotations: list[Any], panoptic_root: str | None) -> bool:
    """Whether a JSON is COCO panoptic, by its ``annotations`` and its folders."""
    return any("segments_info" in entry for _, entry in numbered(annotations)) or (
        panoptic_root is not None and not any("bbox" in entry for _, entry in numbered(annotations))
    )


def _folder_rules(folder: str | None, what: str, file: str) -> Iterator[Finding]:
    if folder is None:
        yield Place(file).found("folder-unknown", f"the folder of its {what} isn't known; none was looked at.")
    elif not is_folder(folder):
        yield Place(folder).found("folder-missing", f"isn't there; it should hold the {what} of {file}.")


class _Walker:
    """Goes through the parts of one file, in turn; for its arguments see :func:`walk_document`."""

    def __init__(
        self,
        content: Entry,
        file: str,
        images_folder: str | None,
        panoptic_root: str | None,
        is_thing_of: Callable[[], Mapping[str, int]] | None,
        names_of: NamesOf | None,
    ) -> None:
        self._content, self._file = content, file
        self._folder, self._panoptic_root, self._names_of = images_folder, panoptic_root, names_of
        self.fixes, self._is_thing_of = is_thing_of is not None, is_thing_of
        self._copy: Callable[[Entry], Entry] = shallow if self.fixes and not names_of else lambda entry: entry
        self._entries, self._annotations, self._categories = (objects_of(content, key) for key in PARTS)
        self._is_panoptic = is_panoptic_file(self._annotations, panoptic_root)

    def walk(self) -> Walk[Document | None]:
        """See :func:`walk_document`."""
        for key in PARTS:
            if not (yield list_rules(self._content, key, Place(self._file))):
                return None
        if not (yield _folder_rules(self._folder, "images", self._file)):
            return None
        if self._is_panoptic and not (yield _folder_rules(self._panoptic_root, "panoptic PNGs", self._file)):
            return None
        known = self._is_thing_of() if self._is_thing_of else None
        self.categories = Categories(self._categories, self._file, self._is_panoptic, known)
        if not (yield from self._walk_categories()):
            return None
        stems = _stems_of(self._annotations) if self.fixes and self._is_panoptic else {}
        image_names = self._names(self._folder, "image-missing", self._entries)
        self.images = Images(self._file, image_names, stems)
        yield from self._walk_images()
        png_names = self._names(self._panoptic_root if self._is_panoptic else None, "png-missing", self._annotations)
        parts = self.categories, self.images, image_names, png_names
        document = Document(self._file, self._is_panoptic, *parts, self.fixes)
        labels: list[Entry] = []
        yield from (self.walk_panoptic if self._is_panoptic else self.walk_instances)(document, labels)
        if not self.fixes and isinstance(self._content.get("annotations"), list):
            yield crowd_only_rules(labels, self.categories.names, self._file)
            yield unlabelled_rules(self.images.entries, document.labels, self._file)
        return document

    def _names(self, folder: str | None, missing: str, entries: list[Any]) -> FileNames:
        """What finds the files that entries name."""
        names = [entry.get("file_name") for _, entry in numbered(entries)] if self.fixes else ()
        return self._names_of(missing, names) if self._names_of else FileNames(folder, missing, names)

    def _walk_categories(self) -> Walk[bool]:
        """Categories; False where there is none."""
        for number, original in numbered(self._categories):
            entry = self._copy(original)
            if (yield self.categories.rules(entry, number)):
                self.categories.add(entry, number)
        has_list = isinstance(self._content.get("categories"), list)
        return not has_list or (yield self.categories.final_rules())

    def _walk_images(self) -> Walk[None]:
        """Entries of ``images``."""
        for number, original in numbered(self._entries):
            entry = self._copy(original)
            if not (yield self.images.rules(entry, number)):
                self.images.leave_out(entry.get("id"))
            elif self.images.add(entry) and not self.fixes:
                yield size_rules(entry, Place(self._file, entry["id"], None, f"images[{number}]"))

    def walk_instances(self, document_: Document, labels_: list[Entry]) -> Walk[None]:
        """Annotations of COCO instances; all are put into ``labels_``."""
        ids = AnnotationIds(self._annotations)
        found = document_.labels
        if self.fixes:
            found.update((image_id, ImageLabels()) for image_id in self.images.entries)
        sizes = {image_id: document_.listed(image_id).size for image_id in self.images.entries}
        for number, original in numbered(self._annotations):
            if self._is_gone(original):
                continue
            label = self._copy(original)
            place = Place(self._file, original.get("image_id"), original.get("id"), f"annotations[{number}]")
            size = sizes.get(original["image_id"], (0, 0)) if is_id(original.get("image_id")) else (0, 0)
            kept = yield self._annotation_rules(label, ids, size, place)
            labels_.append(label)
            if kept:
                ids.add(label, original)
            image_id = self._image_of(label)
            if image_id is not None:
                group = found.setdefault(image_id, ImageLabels())
                group.count += 1
                if kept:
                    group.labels.append(self._settled(label, image_id))

    def _annotation_rules(
        self, label: Entry, ids: AnnotationIds, size: tuple[int, int], place: Place
    ) -> Iterator[Finding]:
        yield from image_of_rules(label, self.images, place)
        yield from ids.rules(label, place)
        yield from category_of_rules(label, self.categories, place)
        yield from crowd_rules(label, place)
        if not self.fixes:
            yield from box_rules(label, size, place)
            yield from area_rules(label, place)
            yield from mask_rules(label, size, place)

    def walk_panoptic(self, document_: Document, labels_: list[Entry]) -> Walk[None]:
        """Annotations of COCO panoptic; all segments with ids of their own are put into ``labels_``."""
        found = document_.labels
        for number, original in numbered(self._annotations):
            if self._is_gone(original):
                continue
            entry = self._copy(original)
            place = Place(self._file, original.get("image_id"), None, f"annotations[{number}]")
            if not (yield image_of_rules(entry, self.images, place)):
                continue
            image_id = self._image_of(entry)
            if image_id is not None and image_id in found:
                yield [place.found("id-duplicate", "is of an image that has its annotation already.")]
                continue
            is_right = yield document_.png_names.rules(entry, place)
            is_right = (yield list_rules(entry, "segments_info", place)) and is_right
            group = ImageLabels(annotation=entry if is_right else None, count=1)
            size = document_.listed(image_id).size if image_id is not None else (0, 0)
            if is_right:
                yield from self._walk_segments(entry, group, size, place)
            if image_id is not None:
                found[image_id] = group
            labels_ += group.labels

    def _walk_segments(self, entry: Entry, group_: ImageLabels, size: tuple[int, int], place: Place) -> Walk[None]:
        segments = objects_of(entry, "segments_info")
        group_.count = len(segments)
        if not self.fixes:
            yield self._rules_of_segments(segments, group_, size, place)
            return
        for number, segment in numbered(segments):
            if (yield self._segment_rules(segment, _segment_place(place, segment, number))):
                group_.labels.append(self._settled(segment))

    def _rules_of_segments(
        self, segments: list[Any], group_: ImageLabels, size: tuple[int, int], place: Place
    ) -> Iterator[Finding]:
        """Findings about all segments of an image at once, as there may be millions; the usable ones are kept."""
        taken: set[int] = set()
        for number, segment in numbered(segments):
            here = _segment_place(place, segment, number)
            yield from segment_id_rules(segment, taken, here)
            yield from self._segment_rules(segment, here)
            yield from geometry_rules(segment, size, here, None)
            if is_usable(segment.get("id")) and segment["id"] not in taken:
                taken.add(segment["id"])
                group_.labels.append(segment)
        yield from area_sum_rules(group_.labels, size, place)

    def _segment_rules(self, segment: Entry, place: Place) -> Iterator[Finding]:
        yield from category_of_rules(segment, self.categories, place)
        yield from crowd_rules(segment, place)

    def _is_gone(self, original: Entry) -> bool:
        """Whether a label is left out with its image, which has been reported."""
        value = original.get("image_id")
        return self.fixes and self.images.id_of(value) is None and self.images.was_left_out(value)

    def _image_of(self, label: Entry) -> ImageId | None:
        value = label.get("image_id")
        return self.images.id_of(value) if self.images.is_listed(value) else None

    def _settled(self, label_: Entry, image_id: ImageId | None = None) -> Entry:
        """A label of what its image and category have become."""
        if self.fixes:
            label_["category_id"] = self.categories.ids[label_["category_id"]]
            if image_id is not None:
                label_["image_id"] = image_id
        return label_


def _segment_place(place: Place, segment: Entry, number: int) -> Place:
    return Place(place.file, place.image_id, segment.get("id"), f"{place.text}.segments_info[{number}]")


def _stems_of(entries: list[Any]) -> dict[ImageId, str]:
    """Name without ending of the PNG of each image of a panoptic JSON, by the id that the JSON has."""
    found: dict[ImageId, str] = {}
    for _, entry in numbered(entries):
        image_id, name = entry.get("image_id"), entry.get("file_name")
        if isinstance(name, str) and is_id(image_id):
            found.setdefault(image_id, os.path.splitext(name)[0])
    return found
