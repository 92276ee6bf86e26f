"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

import itertools
from typing import Any

import torch


class Instances:
    """What is known about the N instances of one picture: fields of N entries each.

    ``instances.scores = tensor`` sets a field, ``instances.scores`` reads it, ``"scores" in instances.get_fields()``
    and ``instances.has("scores")`` ask for it, ``instances[instances.scores > 0.5]`` indexes all fields.
    Names with a leading underscore aren't fields.

    Args:
        image_size: (height, width) of the picture, in pixels.
        kwargs: fields to start with.
    """

    _image_size: tuple[int, int]
    _fields: dict[str, Any]

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size = image_size
        self._fields = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # "_fields" itself is asked for here while an object is being unpickled.
        if name == "_fields" or name not in self._fields:
            raise AttributeError(f"Cannot find field '{name}' in the given Instances!")
        return self._fields[name]

    def set(self, name: str, value: Any) -> None:
        """Set a field.

        Raises:
            AssertionError: its length isn't that of the other fields.
        """
        length = len(value)
        if self._fields:
            assert len(self) == length, f"Adding a field of length {length} to a Instances of length {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is a field of this name."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Remove a field; KeyError if there is none of this name."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """A field; KeyError if there is none of this name."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """All fields by name; changing this dict changes the instances."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """A copy on which every field that has a ``to`` has been moved."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: Any) -> Instances:
        """Instances chosen by an int (one instance), a slice, a bool mask or indices.

        Raises:
            IndexError: an int outside of the instances.
        """
        if type(item) is int:
            if not -len(self) <= item < len(self):
                raise IndexError("Instances index out of range!")
            item = slice(item, None, len(self))
        chosen = Instances(self._image_size)
        for name, value in self._fields.items():
            chosen.set(name, value[item])
        return chosen

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Empty Instances does not support __len__!")

    def __iter__(self) -> Any:
        raise NotImplementedError("`Instances` object is not iterable!")

    @staticmethod
    def cat(instance_lists: list[Instances]) -> Instances:
        """The instances of a list of them, all of one picture size, with the fields of the first.

        Raises:
            AssertionError: an empty list, or pictures of several sizes.
            ValueError: a field of a type that can't be joined.
        """
        assert len(instance_lists) > 0 and all(isinstance(instances, Instances) for instances in instance_lists)
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        assert all(instances.image_size == first.image_size for instances in instance_lists)
        joined = Instances(first.image_size)
        for name, value in first.get_fields().items():
            joined.set(name, _join([instances.get(name) for instances in instance_lists], type(value)))
        return joined

    def __repr__(self) -> str:
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"{type(self).__name__}(num_instances={len(self)}, image_height={height}, image_width={width}, "
            f"fields=[{fields}])"
        )


def _join(values: list[Any], kind: type) -> Any:
    if issubclass(kind, torch.Tensor):
        return torch.cat(values, dim=0)
    if issubclass(kind, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(kind, "cat"):
        return kind.cat(values)
    raise ValueError(f"Unsupported type {kind} for concatenation")
