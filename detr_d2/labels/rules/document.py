"""The way through one COCO file: categories, images, and which labels are on each, as far as the JSON says it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..archives import is_folder
from ..values import Size, is_id, numbered, shallow, size_problem
from . import annotations as rules
from .categories import Categories
from .images import FileNames, ImageId, Images, ImageTask, ListedImage, size_rules
from .json_files import PARTS, list_rules, objects_of
from .masks import mask_rules
from .rule import Finding, Place, Walk

Entry = dict[str, Any]
#: Makes what finds files: of the code of the rule that one that isn't there breaks, and all names that the JSON gives.
NamesOf = Callable[[str, Iterable[Any]], FileNames]


@dataclass
class ImageLabels:
    """What is labelled on one image: annotations of COCO instances, or segments of a panoptic JSON.

    ``annotation`` is the panoptic entry that has the name of the PNG; ``count`` includes labels that were left out.
    """

    labels: list[Entry] = field(default_factory=list)
    annotation: Entry | None = None
    count: int = 0


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
    return Document(content, file, images_folder, panoptic_root, is_thing_of, names_of).walk()


class Document:
    """One COCO file; for its arguments see :func:`walk_document`.

    Once it has been walked through, ``categories`` and ``images`` are its parts, ``labels`` what is labelled, by id of
    the image, and ``is_panoptic`` says whether it is COCO panoptic, else COCO instances.
    """

    def __init__(
        self,
        content: Entry,
        file: str,
        images_folder: str | None,
        panoptic_root: str | None,
        is_thing_of: Callable[[], Mapping[str, int]] | None,
        names_of: NamesOf | None,
    ) -> None:
        self.file, self._content, self._fixes = file, content, is_thing_of is not None
        self._copy: Callable[[Entry], Entry] = shallow if self._fixes and not names_of else lambda entry: entry
        self._entries, self._annotations, self._categories = (objects_of(content, key) for key in PARTS)
        self.is_panoptic = any("segments_info" in entry for _, entry in numbered(self._annotations)) or (
            panoptic_root is not None and not any("bbox" in entry for _, entry in numbered(self._annotations))
        )
        self._folders = {"images": images_folder, **({"panoptic PNGs": panoptic_root} if self.is_panoptic else {})}
        known = is_thing_of() if is_thing_of else None
        self.categories = Categories(self._categories, file, self.is_panoptic, known)

        def names(folder: str | None, missing: str, entries: list[Any]) -> FileNames:
            named = [entry.get("file_name") for _, entry in numbered(entries)] if self._fixes else ()
            return names_of(missing, named) if names_of else FileNames(folder, missing, named)

        self._image_names = names(images_folder, "image-missing", self._entries)
        self._png_names = names(panoptic_root if self.is_panoptic else None, "png-missing", self._annotations)
        stems = _stems_of(self._annotations) if self._fixes and self.is_panoptic else {}
        self.images = Images(file, self._image_names, stems)
        self.labels: dict[ImageId, ImageLabels] = {}

    def task(self, image_id: ImageId) -> ImageTask:
        """What pixels have to say of an image."""
        labels = self.labels.get(image_id) or ImageLabels()
        png = self._png_names.path(labels.annotation.get("file_name")) if labels.annotation is not None else None
        entry = self.images.entries[image_id]
        listed = ListedImage(image_id, self._image_names.path(entry.get("file_name")), self._size_of(image_id))
        fixed = entry if self._fixes else None
        return ImageTask(listed, self.file, labels.labels, self.is_panoptic, png, fixed, labels.count)

    def _size_of(self, image_id: ImageId) -> Size:
        """As the JSON has it now; 0 and 0 where it has none that is right."""
        entry = self.images.entries[image_id]
        return (0, 0) if size_problem(entry) else (entry["width"], entry["height"])

    def walk(self) -> Walk[Document | None]:
        """Goes through the parts in turn; see :func:`walk_document`."""
        for key in PARTS:
            if not (yield list_rules(self._content, key, Place(self.file))):
                return None
        for what, folder in self._folders.items():
            if not (yield _folder_rules(folder, what, self.file)):
                return None
        for number, original in numbered(self._categories):
            entry = self._copy(original)
            if (yield self.categories.rules(entry, number)):
                self.categories.add(entry, number)
        if isinstance(self._content.get("categories"), list) and not (yield self.categories.final_rules()):
            return None
        yield from self._walk_images()
        labels = yield from (self._walk_panoptic() if self.is_panoptic else self._walk_instances())
        if not self._fixes and isinstance(self._content.get("annotations"), list):
            yield rules.crowd_only_rules(labels, self.categories.names, self.file)
            yield rules.unlabelled_rules(self.images.entries, self.labels, self.file)
        return self

    def _walk_images(self) -> Walk[None]:
        for number, original in numbered(self._entries):
            entry = self._copy(original)
            if not (yield self.images.rules(entry, number)):
                self.images.leave_out(entry.get("id"))
            elif self.images.add(entry) and not self._fixes:
                yield size_rules(entry, Place(self.file, entry["id"], None, f"images[{number}]"))

    def _walk_instances(self) -> Walk[list[Entry]]:
        """Annotations of COCO instances, all of which are returned."""
        ids, labels = rules.AnnotationIds(self._annotations), list[Entry]()
        if self._fixes:
            self.labels.update((image_id, ImageLabels()) for image_id in self.images.entries)
        sizes = {image_id: self._size_of(image_id) for image_id in self.images.entries}
        for number, original in numbered(self._annotations):
            if self._is_gone(original):
                continue
            label = self._copy(original)
            place = Place(self.file, original.get("image_id"), original.get("id"), f"annotations[{number}]")
            size = sizes.get(original["image_id"], (0, 0)) if is_id(original.get("image_id")) else (0, 0)
            kept = yield self._annotation_rules(label, ids, size, place)
            labels.append(label)
            if kept:
                ids.add(label, original)
            image_id = self._image_of(label)
            if image_id is not None:
                group = self.labels.setdefault(image_id, ImageLabels())
                group.count += 1
                if kept:
                    group.labels.append(self._settled(label, image_id))
        return labels

    def _annotation_rules(self, label: Entry, ids: rules.AnnotationIds, size: Size, place: Place) -> Iterator[Finding]:
        yield from rules.image_of_rules(label, self.images, place)
        yield from ids.rules(label, place)
        yield from rules.category_of_rules(label, self.categories, place)
        yield from rules.crowd_rules(label, place)
        if not self._fixes:
            yield from rules.box_rules(label, size, place)
            yield from rules.area_rules(label, place)
            yield from mask_rules(label, size, place)

    def _walk_panoptic(self) -> Walk[list[Entry]]:
        """Annotations of COCO panoptic; all segments with ids of their own are returned."""
        labels: list[Entry] = []
        for number, original in numbered(self._annotations):
            if self._is_gone(original):
                continue
            entry = self._copy(original)
            place = Place(self.file, original.get("image_id"), None, f"annotations[{number}]")
            if not (yield rules.image_of_rules(entry, self.images, place)):
                continue
            image_id = self._image_of(entry)
            if image_id is not None and image_id in self.labels:
                yield [place.found("id-duplicate", "is of an image that has its annotation already.")]
                continue
            is_right = yield self._png_names.rules(entry, place)
            is_right = (yield list_rules(entry, "segments_info", place)) and is_right
            group = ImageLabels(annotation=entry if is_right else None, count=1)
            size = self._size_of(image_id) if image_id is not None else (0, 0)
            if is_right:
                yield from self._walk_segments(entry, group, size, place)
            if image_id is not None:
                self.labels[image_id] = group
            labels += group.labels
        return labels

    def _walk_segments(self, entry: Entry, group_: ImageLabels, size: Size, place: Place) -> Walk[None]:
        segments = objects_of(entry, "segments_info")
        group_.count = len(segments)
        if not self._fixes:
            yield self._rules_of_segments(segments, group_, size, place)
            return
        for number, segment in numbered(segments):
            if (yield self._segment_rules(segment, _segment_place(place, segment, number))):
                group_.labels.append(self._settled(segment))

    def _rules_of_segments(
        self, segments: list[Any], group_: ImageLabels, size: Size, place: Place
    ) -> Iterator[Finding]:
        """Findings about all segments of an image at once, as there may be millions; the usable ones are kept."""
        taken: set[int] = set()
        for number, segment in numbered(segments):
            here = _segment_place(place, segment, number)
            yield from rules.segment_id_rules(segment, taken, here)
            yield from self._segment_rules(segment, here)
            yield from rules.geometry_rules(segment, size, here, None)
            if rules.is_usable(segment.get("id")) and segment["id"] not in taken:
                taken.add(segment["id"])
                group_.labels.append(segment)
        yield from rules.area_sum_rules(group_.labels, size, place)

    def _segment_rules(self, segment: Entry, place: Place) -> Iterator[Finding]:
        yield from rules.category_of_rules(segment, self.categories, place)
        yield from rules.crowd_rules(segment, place)

    def _is_gone(self, original: Entry) -> bool:
        """Whether a label is left out with its image, which has been reported."""
        value = original.get("image_id")
        return self._fixes and self.images.id_of(value) is None and self.images.was_left_out(value)

    def _image_of(self, label: Entry) -> ImageId | None:
        value = label.get("image_id")
        return self.images.id_of(value) if self.images.is_listed(value) else None

    def _settled(self, label_: Entry, image_id: ImageId | None = None) -> Entry:
        """A label of what its image and category have become."""
        if self._fixes:
            label_["category_id"] = self.categories.ids[label_["category_id"]]
            if image_id is not None:
                label_["image_id"] = image_id
        return label_


def _folder_rules(folder: str | None, what: str, file: str) -> Iterator[Finding]:
    if folder is None:
        yield Place(file).found("folder-unknown", f"the folder of its {what} isn't known; none was looked at.")
    elif not is_folder(folder):
        yield Place(folder).found("folder-missing", f"isn't there; it should hold the {what} of {file}.")


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
