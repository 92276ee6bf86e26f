"""An independently written subset of Detectron2's API; not Detectron2.

Things that can be built with plain arguments or from a configuration.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _CfgNode


def configurable(init_func: Callable | None = None, *, from_config: Callable | None = None) -> Callable:
    """Let ``__init__`` or a function be called with a config as well as with its own arguments.

    ``@configurable`` goes on an ``__init__`` whose class has a classmethod ``from_config(cls, cfg, ...)``;
    ``@configurable(from_config=function)`` on any function. ``from_config`` returns the keyword arguments.
    Arguments given beside the config go to ``from_config`` if it takes them, else override what it returned.

    Raises:
        TypeError: when called on a class without a usable ``from_config``.
        AssertionError: wrong use as a decorator.
    """
    if from_config is not None:
        return functools.partial(_configurable_function, from_config)
    assert inspect.isfunction(init_func) and init_func.__name__ == "__init__", (
        "Incorrect use of @configurable: put it on an __init__, or give it from_config= on a function."
    )

    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        translate = getattr(type(self), "from_config", None)
        if not inspect.ismethod(translate):
            raise TypeError(f"{type(self).__name__} uses @configurable and must have a 'from_config' classmethod.")
        _call(functools.partial(init_func, self), translate, args, kwargs)

    return wrapped


def _configurable_function(from_config: Callable, function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _call(function, from_config, args, kwargs)

    return wrapped


def _call(function: Callable, from_config: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call the function, with what ``from_config`` makes of the arguments if the first of them is a config."""
    if not isinstance(args[0] if args else kwargs.get("cfg"), _CfgNode):
        return function(*args, **kwargs)
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{from_config.__qualname__} must take 'cfg' as the first argument!")
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        return function(**from_config(*args, **kwargs))
    known = {name: value for name, value in kwargs.items() if name in parameters}
    others = {name: value for name, value in kwargs.items() if name not in parameters}
    return function(**{**from_config(*args, **known), **others})
