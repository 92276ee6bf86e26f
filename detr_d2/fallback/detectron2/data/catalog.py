"""An independently written subset of Detectron2's API; not Detectron2. How datasets are loaded, and what is known."""

from __future__ import annotations

import types
from collections import UserDict
from collections.abc import Callable
from typing import Any


class _Catalog(UserDict):
    def list(self) -> list[str]:
        """All names."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forget a name; KeyError if it isn't known."""
        self.pop(name)


class _DatasetCatalog(_Catalog):
    """Functions without arguments that return a dataset's list of dicts, by the dataset's name."""

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Add a dataset; AssertionError if ``func`` can't be called or the name is taken."""
        assert callable(func), "You must register a function with `DatasetCatalog.register`!"
        assert name not in self, f"Dataset '{name}' is already registered!"
        self[name] = func

    def get(self, name: str) -> Any:  # type: ignore[override]
        """Load a dataset; the KeyError for an unknown name lists those that are registered."""
        if name not in self:
            raise KeyError(f"Dataset '{name}' is not registered! Available datasets are: {', '.join(self)}")
        return self[name]()


class Metadata(types.SimpleNamespace):
    """What is known about a dataset: attributes that never change once they are set (AssertionError)."""

    name: str = "N/A"

    def __getattr__(self, key: str) -> Any:
        known = f"Available keys are {self.__dict__.keys()}." if len(self.__dict__) > 1 else "metadata is empty."
        raise AttributeError(f"Attribute '{key}' does not exist in the metadata of dataset '{self.name}': {known}")

    def __setattr__(self, key: str, value: Any) -> None:
        old = self.__dict__.get(key, value)
        assert old == value, (
            f"Attribute '{key}' in the metadata of '{self.name}' cannot be set to a different value!\n{old} != {value}"
        )
        super().__setattr__(key, value)

    def as_dict(self) -> dict[str, Any]:
        """A shallow copy of all attributes."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> Metadata:
        """Set several attributes and return this object."""
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or ``default`` if it isn't set."""
        return getattr(self, key, default)


class _MetadataCatalog(_Catalog):
    """One ``Metadata`` for each name; asking for a new name makes an empty one."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The metadata of a dataset; always the same object for a name."""
        assert len(name), "A dataset's name can't be empty."
        return self.setdefault(name, Metadata(name=name))


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
