"""Detectron2's ``Metadata`` of a dataset whose JSON is read when somebody asks for what only the JSON knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detr_d2.labels.rules.json_files import read_json

from detectron2.data import Metadata, MetadataCatalog

from ..errors import DatasetError

#: What :data:`Description` functions return.
FROM_JSON = (
    *("thing_classes", "thing_colors", "thing_dataset_id_to_contiguous_id"),
    *("stuff_classes", "stuff_colors", "stuff_dataset_id_to_contiguous_id"),
)

#: Gives the attributes ``FROM_JSON`` of a dataset.
Description = Callable[[], dict[str, Any]]

_descriptions: dict[str, tuple[Description, Callable[[], str]]] = {}


class LazyMetadata(Metadata):
    """Has ``thing_classes`` and the like from the start, and ``json_file`` where COCO's evaluators can judge by it."""

    def __getattr__(self, key: str) -> Any:
        """Called for what isn't known yet; raises what reading the JSON raises."""
        if self.name in _descriptions and (key in FROM_JSON or key == "json_file"):
            describe, instances_file = _descriptions[self.name]
            if key == "json_file":
                self.__dict__[key] = _ground_truth(self, instances_file())
            else:
                self.learn(describe())
            return self.__dict__[key]
        return super().__getattr__(key)

    def learn(self, values: dict[str, Any]) -> None:
        """Set attributes; AssertionError, as ever, where one is known already and was another."""
        new = {key: value for key, value in values.items() if key not in self.__dict__}
        self.__dict__.update(new)
        self.set(**values)


def make_lazy(name: str, describe: Description, instances_file: Callable[[], str]) -> LazyMetadata:
    """The dataset's entry in the ``MetadataCatalog``, which reads what it doesn't know.

    Args:
        name: of the dataset.
        describe: reads the attributes ``FROM_JSON``.
        instances_file: the path of its COCO instances, or nothing; called when needed, too.
    """
    _descriptions[name] = describe, instances_file
    known = MetadataCatalog.get(name).as_dict()  # somebody may have set something
    MetadataCatalog[name] = metadata = LazyMetadata(**known)
    return metadata


def _ground_truth(metadata: LazyMetadata, path: str) -> str:
    """The instances file, if ``COCOEvaluator`` can judge by it: it takes the n-th thing for the n-th id in the file.

    Raises:
        DatasetError: it would judge by nothing, stop without a word, or take one class for another.
    """
    wanted = list(metadata.thing_dataset_id_to_contiguous_id)
    if not path:
        reason = "no instances_json to judge by"
    elif wanted != sorted(wanted):
        reason = f"things whose ids don't rise in the order of the categories ({', '.join(map(str, wanted[:5]))} ...)"
    elif sorted(entry["id"] for entry in read_json(path).get("categories", [])) != wanted:
        reason = f"an instances_json, {path}, whose categories aren't its things"
    else:
        return path
    raise DatasetError(
        f"dataset {metadata.name!r} has {reason}, so COCOEvaluator can't be used; "
        "detr_d2.evaluation.build_evaluator(cfg, name, folder) gives the same AP of any dataset."
    )
