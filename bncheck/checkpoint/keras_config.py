"""The configuration that Keras stores beside the weights: JSON, read as data and never executed.

Keras would import modules and call constructors by what it says; here it becomes a tree of layers,
each with its name, its class, and what it tells of batch normalization. Keras 1, 2 and 3 nest it
alike: a layer is a dict with `class_name` and `config`, and its parts stand in its own `config`
(`layers` of a model, `layer` of a wrapper, `cell` of an RNN).
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bncheck import limits
from bncheck.checkpoint.structure import LayerConfig
from bncheck.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


AFFINE: Final = ("gamma", "beta")
STATISTICS: Final = ("moving_mean", "moving_variance")
RENORM: Final = ("moving_stddev", "renorm_mean", "renorm_stddev")

_BATCH_NORM: Final = re.compile(r"(Sync|TPU)?BatchNormalization(V[12])?")
_BATCH_NORM_KEYS: Final = frozenset(
    ("momentum", "epsilon", "center", "scale", "moving_mean_initializer")
)
_CONSTANTS: Final = {"zeros": 0.0, "zero": 0.0, "ones": 1.0, "one": 1.0}
# Keras 1 has no initializers of the statistics, and calls the other two otherwise.
_INITIALIZERS: Final = {
    "gamma": ("gamma_initializer", "gamma_init"),
    "beta": ("beta_initializer", "beta_init"),
    "moving_mean": ("moving_mean_initializer",),
    "moving_variance": ("moving_variance_initializer",),
}
# A surrogate that JSON writes out, alone or as one half of a character; or another escape.
_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}"
    r"|u(?P<alone>[dD][89a-fA-F][\da-fA-F]{2})|.)"
)
# Halves that stand for bytes in names that are no UTF-8, and can be written as those.
_BYTES: Final = range(0xDC80, 0xDD00)
# Parts of a configuration that look like layers and are none.
_NO_LAYERS: Final = re.compile(
    r"dtype|activation|.*_(initializer|regularizer|constraint|activation|policy)|optimizer.*|loss"
)


class Layer(NamedTuple):
    """One layer as the configuration tells it.

    `roles` are the variables of a batch normalization, in the order in which Keras stores them, and
    empty for other layers. The layers in it stand by their keys in its configuration: one alone in
    `parts` (`layer`, `cell`), several in `lists` (`layers`, `cells`).
    """

    name: str
    config: LayerConfig
    roles: tuple[str, ...]
    parts: Mapping[str, Layer]
    lists: Mapping[str, tuple[Layer, ...]]

    @property
    def class_name(self) -> str:
        """Its class, without the package of a registered one."""
        return self.config.class_name

    def layers(self) -> Iterator[Layer]:
        """Yield the layers in it, not those in them."""
        yield from self.parts.values()
        for each in self.lists.values():
            yield from each


def load_json(text: str | bytes, path: str, what: str, start: int | None = None) -> Any:
    """Return what a JSON text holds, in strings that can be written again.

    `start` is the byte of the file at which it starts, None where it is not there as it is. Raises
    DamagedError where it is none, too long or too deep.
    """
    if len(text) > limits.LARGEST_JSON:
        raise DamagedError(path, f"{what} is {len(text)} bytes long, more than any model needs")
    encoding = "utf-8"
    try:
        if isinstance(text, bytes):
            # Strictly: json.loads would make lone surrogates of bytes that are no UTF-8.
            encoding = json.detect_encoding(text)
            text = text.decode(encoding)
        if text.count("[") + text.count("{") > limits.MOST_JSON_PARTS:
            raise DamagedError(path, f"{what} has more parts than any model needs")
        if "\\ud" in text or "\\uD" in text:
            text = _ESCAPE.sub(_whole, text)
        return json.loads(text)
    except RecursionError:
        raise DamagedError(path, f"{what} nests too deep to be a model's") from None
    except json.JSONDecodeError as error:
        # Half a character may be among the letters, which is as long as what stands for it.
        before = len(error.doc[: error.pos].encode(encoding, "surrogatepass"))
        raise DamagedError(
            path,
            f"{what} is no valid JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            offset=None if start is None else start + before,
        ) from None
    except UnicodeDecodeError as error:
        raise DamagedError(
            path,
            f"{what} is no valid JSON: {error.reason} of {error.encoding.upper()}",
            offset=None if start is None else start + error.start,
        ) from None
    except ValueError:
        raise DamagedError(path, f"{what} has a number of thousands of digits") from None


def _whole(match: re.Match[str]) -> str:
    """Return an escape that stands for a character: half of one says nothing."""
    alone = match["alone"]
    return match[0] if not alone or int(alone, 16) in _BYTES else "\\ufffd"


def read_config(text: str | bytes, path: str, what: str, start: int | None = None) -> Layer | None:
    """Return the model that a configuration describes, None where it describes no layer.

    Raises DamagedError where it is no JSON, or nests deeper than any model; `start` is that of
    `load_json`.
    """
    loaded = load_json(text, path, what, start)
    if not _is_layer(loaded):
        return None
    return _Reader(path, what).layer(loaded, 0)


def snake_case(class_name: str) -> str:
    """Return the name of a group for a class, as keras/src/utils/naming.py makes it."""
    name = re.sub(r"\W+", "", class_name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    return name if name[:1] != "_" else f"private{name}"


class _Reader:
    """Turns the dicts of one configuration into layers."""

    def __init__(self, path: str, what: str) -> None:
        self._path = path
        self._what = what

    def layer(self, stored: dict[str, Any], depth: int) -> Layer:
        if depth > limits.DEEPEST_MODEL:
            raise DamagedError(
                self._path, f"{self._what} nests layers deeper than {limits.DEEPEST_MODEL}"
            )
        config = stored["config"]
        if isinstance(config, list):  # a Sequential before Keras 2.2.3
            config = {"layers": config}
        class_name = stored["class_name"].rpartition(">")[2]
        inner = {key: value for key, value in config.items() if not _NO_LAYERS.fullmatch(key)}
        parts = {
            key: self.layer(value, depth + 1) for key, value in inner.items() if _is_layer(value)
        }
        lists = {
            key: tuple(self.layer(each, depth + 1) for each in _listed(value))
            for key, value in inner.items()
            if key not in parts
        }
        name = config.get("name", stored.get("name"))
        is_batch_norm = bool(_BATCH_NORM.fullmatch(class_name)) or config.keys() >= _BATCH_NORM_KEYS
        return Layer(
            name=name if isinstance(name, str) else "",
            config=_layer_config(class_name, config, is_batch_norm=is_batch_norm),
            roles=tuple(_roles(config)) if is_batch_norm else (),
            parts=parts,
            lists={key: layers for key, layers in lists.items() if layers},
        )


def _is_layer(stored: object) -> bool:
    return (
        isinstance(stored, dict)
        and isinstance(stored.get("class_name"), str)
        and isinstance(stored.get("config"), dict | list)
    )


def _listed(value: object) -> list[dict[str, Any]]:
    """Return the layers in a list, or among the values of a dict."""
    if isinstance(value, dict):
        value = list(value.values())
    return [each for each in value if _is_layer(each)] if isinstance(value, list) else []


def _layer_config(class_name: str, config: dict[str, Any], *, is_batch_norm: bool) -> LayerConfig:
    trainable = config.get("trainable")
    known = LayerConfig(class_name, trainable=trainable if isinstance(trainable, bool) else None)
    if not is_batch_norm:
        return known
    return known._replace(
        momentum=_fraction(config.get("momentum")),
        epsilon=_fraction(config.get("epsilon")),
        initial={
            variable: _constant(config[key])
            for variable, keys in _INITIALIZERS.items()
            for key in keys
            if key in config
        },
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _fraction(value: object) -> float | None:
    """Return a number from 0 to 1: a momentum or an epsilon beyond that is none."""
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None


def _constant(initializer: object) -> float | None:
    """Return the number that an initializer writes into every element, None for any other."""
    if isinstance(initializer, str):
        return _CONSTANTS.get(initializer.lower())
    if not isinstance(initializer, dict) or not isinstance(initializer.get("class_name"), str):
        return None
    if initializer["class_name"].lower() == "constant":
        config = initializer.get("config")
        return _number(config.get("value", 0)) if isinstance(config, dict) else None
    return _CONSTANTS.get(initializer["class_name"].lower())


def _roles(config: dict[str, Any]) -> Iterator[str]:
    """Yield a batch normalization's variables: the trainable ones first, as Keras stores them."""
    for role, switch in zip(AFFINE, ("scale", "center"), strict=True):
        if config.get(switch, True):
            yield role
    yield from STATISTICS
    if config.get("renorm"):
        yield from RENORM
