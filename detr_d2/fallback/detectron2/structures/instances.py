"""An independently written subset of Detectron2's API; not Detectron2."""

from __future__ import annotations

from typing import Any


class Instances:
    """What is known about the N instances of one image: fields of N entries each.

    ``instances.scores = tensor`` sets a field, ``instances.scores`` reads it, ``"scores" in instances.get_fields()``
    and ``instances.has("scores")`` ask for it, ``instances[instances.scores > 0.5]`` indexes all fields.
    Names with a leading underscore aren't fields.

    Args:
        image_size: (height, width) of the image, in pixels.
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
        """Set a field; AssertionError if its length isn't that of the other fields."""
        length = len(value)
        if self._fields:
            assert len(self) == length, f"Adding a field of length {length} to a Instances of length {len(self)}"
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether there is a field of this name."""
        return name in self._fields

    def get_fields(self) -> dict[str, Any]:
        """All fields by name; changing this dict changes the instances."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """A copy on which every field that has a ``to`` has been moved."""
        moved = {k: v.to(*args, **kwargs) if hasattr(v, "to") else v for k, v in self._fields.items()}
        return Instances(self._image_size, **moved)

    def __getitem__(self, item: Any) -> Instances:
        """Instances chosen by an int (one instance; maybe an IndexError), a slice, a bool mask or indices."""
        if type(item) is int:
            if not -len(self) <= item < len(self):
                raise IndexError("Instances index out of range!")
            item = slice(item, None, len(self))
        return Instances(self._image_size, **{name: value[item] for name, value in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Empty Instances does not support __len__!")

    def __iter__(self) -> Any:
        raise NotImplementedError("`Instances` object is not iterable!")

    def __repr__(self) -> str:
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return f"Instances(num_instances={len(self)}, image_height={height}, image_width={width}, fields=[{fields}])"
