"""The configuration: what it tells of batch normalization, and texts that are none."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from bncheck import limits
from bncheck.checkpoint.keras_config import Layer, load_json, read_config, snake_case
from bncheck.errors import DamagedError


def read(config: Any) -> Layer:
    layer = read_config(json.dumps(config), "file", "config.json")
    assert layer is not None
    return layer


def keras(class_name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": config}


ZEROS = keras("Zeros")


def test_a_batch_normalization_of_keras_3() -> None:
    layer = read(
        keras(
            "BatchNormalization",
            name="bn",
            trainable=False,
            dtype=keras("DTypePolicy", name="float32"),
            axis=-1,
            momentum=0.9,
            epsilon=1e-3,
            center=True,
            scale=False,
            beta_initializer=ZEROS,
            gamma_initializer=keras("Ones"),
            moving_mean_initializer=keras("Constant", value=0.25),
            moving_variance_initializer=keras("RandomNormal", mean=0.0),
        )
    )
    assert layer.name == "bn"
    assert layer.class_name == "BatchNormalization"
    assert layer.roles == ("beta", "moving_mean", "moving_variance")
    assert dict(layer.parts) == {}
    assert layer.config[:4] == ("BatchNormalization", 0.9, 1e-3, False)
    assert layer.config.initial == {
        "gamma": 1.0,
        "beta": 0.0,
        "moving_mean": 0.25,
        "moving_variance": None,
    }


def test_a_batch_normalization_of_keras_1() -> None:
    config = keras("BatchNormalization", name="bn", mode=0, beta_init="zero", gamma_init="one")
    layer = read(config)
    assert layer.roles == ("gamma", "beta", "moving_mean", "moving_variance")
    assert layer.config.initial == {"gamma": 1.0, "beta": 0.0}
    assert layer.config.momentum is None


CUSTOM = dict.fromkeys(("momentum", "epsilon", "center", "scale", "moving_mean_initializer"), 1)


@pytest.mark.parametrize(
    ("class_name", "config", "expected"),
    [
        ("BatchNormalization", {}, True),
        ("BatchNormalizationV1", {}, True),
        ("BatchNormalizationV2", {}, True),
        ("SyncBatchNormalization", {}, True),
        ("Addons>SyncBatchNormalization", {}, True),
        ("MyNorm", CUSTOM, True),
        ("MyNorm", {"momentum": 0.9, "epsilon": 1}, False),
        ("BatchNormalizationNot", {}, False),
        ("LayerNormalization", {"epsilon": 1, "center": True, "scale": True}, False),
    ],
)
def test_which_classes_are_batch_normalization(
    class_name: str, config: Any, expected: bool
) -> None:
    assert bool(read(keras(class_name, **config)).roles) is expected


@pytest.mark.parametrize(
    ("initializer", "number"),
    [
        ("zeros", 0.0),
        ("Ones", 1.0),
        ("one", 1.0),
        ("uniform", None),
        (keras("Zeros"), 0.0),
        (keras("Constant", value=2), 2.0),
        (keras("Constant"), 0.0),
        (keras("Constant", value=[1, 2]), None),
        (keras("Constant", value=True), None),
        ({"class_name": "Constant"}, None),
        ({"class_name": 3}, None),
        (None, None),
        (5, None),
    ],
)
def test_initializers(initializer: Any, number: float | None) -> None:
    layer = read(keras("BatchNormalization", gamma_initializer=initializer))
    assert layer.config.initial == {"gamma": number}


@pytest.mark.parametrize("value", ["0.9", True, None, [0.9], "x", 10**400])
def test_a_momentum_that_is_no_number(value: Any) -> None:
    assert read(keras("BatchNormalization", momentum=value, name=3)).config.momentum is None


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_momentum_that_is_not_finite(text: str) -> None:
    stored = f'{{"class_name": "BatchNormalization", "config": {{"momentum": {text}}}}}'
    layer = read_config(stored, "file", "config.json")
    assert layer is not None
    assert layer.config.momentum is None


def test_layers_within_layers() -> None:
    bn = keras("BatchNormalization", name="bn")
    layer = read(
        keras(
            "Functional",
            name="m",
            dtype=keras("DTypePolicy", name="float32"),
            loss=bn,
            optimizer_1=bn,
            layers=[keras("Wrapper", name="w", layer=bn), 3, {"class_name": "NoConfig"}],
            heads={"a": bn, "b": "text"},
        )
    )
    assert [each.name for each in layer.layers()] == ["w", "bn"]
    assert layer.lists["layers"][0].parts["layer"].name == "bn"
    assert list(layer.lists) == ["layers", "heads"]


def test_an_old_sequential_is_a_list() -> None:
    layer = read({"class_name": "Sequential", "config": [keras("Dense", name="d")]})
    assert [each.name for each in layer.layers()] == ["d"]


@pytest.mark.parametrize(
    "config", [[], 3, None, "text", {}, {"class_name": "X"}, keras("X") | {"class_name": 1}]
)
def test_no_layer(config: Any) -> None:
    assert read_config(json.dumps(config), "file", "config.json") is None


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("BatchNormalization", "batch_normalization"),
        ("Conv2D", "conv2d"),
        ("MyBN", "my_bn"),
        ("LSTM", "lstm"),
        ("PReLU", "p_re_lu"),
        ("ReLU", "re_lu"),
        ("TFOpLambda", "tf_op_lambda"),
        ("BatchNormalizationV1", "batch_normalization_v1"),
        ("_Private", "private__private"),
        ("a.b C", "ab_c"),
    ],
)
def test_groups_are_called_as_keras_calls_them(name: str, group: str) -> None:
    assert snake_case(name) == group


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"class_name": "X", "config": {"layer":'])
def test_a_text_that_nests_without_end(opening: str) -> None:
    with pytest.raises(DamagedError, match=r"file: config\.json nests too deep"):
        read_config(opening * 100_000, "file", "config.json")


def test_layers_nest_to_a_limit() -> None:
    def nested(depth: int) -> Any:
        config: Any = keras("Dense")
        for _ in range(depth):
            config = keras("Wrapper", layer=config)
        return config

    read(nested(limits.DEEPEST_MODEL))
    with pytest.raises(DamagedError, match="nests layers deeper than 50"):
        read(nested(limits.DEEPEST_MODEL + 1))


def test_a_text_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_JSON", 10)
    assert load_json(b'"12345678"', "file", "it") == "12345678"
    with pytest.raises(DamagedError, match="it is 11 bytes long, more than any model needs"):
        load_json(b'"123456789"', "file", "it")


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        (b"", 0),
        (b"{", 1),
        (b"\xff", 0),
        (b'["\xff"]', 2),
        (b"{'a': 1}", 1),
        ('["ü", x]'.encode(), 7),
        ('["ü", x]'.encode("utf-16-le"), 12),
        (b'["\\ud800", x]', 11),
    ],
)
def test_no_json(text: bytes, byte: int) -> None:
    with pytest.raises(DamagedError, match=re.escape("file: it is no valid JSON")) as caught:
        load_json(text, "file", "it")
    assert caught.value.offset is None  # where the text is no file itself
    for start in (0, 100):
        with pytest.raises(DamagedError, match=rf"\(byte {start + byte}\): it is no valid JSON"):
            load_json(text, "file", "it", start)


def test_a_number_without_end() -> None:
    with pytest.raises(DamagedError, match="it has a number of thousands of digits"):
        load_json(b"1" * 5000, "file", "it")


@pytest.mark.parametrize("value", [-0.1, 1.5, 1e300, float("nan"), float("inf"), 10**400, "x"])
def test_a_momentum_or_an_epsilon_that_cannot_be_is_none(value: Any) -> None:
    layer = read(keras("BatchNormalization", name="bn", momentum=value, epsilon=value))
    assert (layer.config.momentum, layer.config.epsilon) == (None, None)


@pytest.mark.parametrize("value", [0, 0.0, 1e-320, 0.99, 1])
def test_every_momentum_and_epsilon_from_0_to_1_is_one(value: float) -> None:
    layer = read(keras("BatchNormalization", name="bn", momentum=value, epsilon=value))
    assert (layer.config.momentum, layer.config.epsilon) == (value, value)


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        (r"\ud800bn", "\ufffdbn"),
        (r"bn\uDFFF", "bn\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (r"\ud83d\ude00", "\U0001f600"),
        (r"\udcff", "\udcff"),  # a byte that is no UTF-8, as in the names in HDF5
        (r"\\ud800", r"\ud800"),
        (r"\"\ud800", '"\ufffd'),
    ],
)
def test_half_a_character_is_replaced(escaped: str, name: str) -> None:
    assert load_json(f'"{escaped}"', "file", "it") == name
    assert load_json(f'"{escaped}"'.encode(), "file", "it") == name


def test_bytes_that_are_half_a_character_are_no_json() -> None:
    with pytest.raises(DamagedError, match="it is no valid JSON"):
        load_json(b'"\xed\xa0\x80"', "file", "it")
    assert load_json('"\u00e9"'.encode("utf-8-sig"), "file", "it") == "\u00e9"
    assert load_json('"\u00e9"'.encode("utf-16"), "file", "it") == "\u00e9"


def test_parts_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_JSON_PARTS", 10)
    assert load_json(json.dumps([[]] * 9), "file", "it") == [[]] * 9
    with pytest.raises(DamagedError, match="it has more parts than any model needs"):
        load_json(json.dumps([[]] * 10), "file", "it")
