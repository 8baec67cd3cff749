"""Which names make a layer, and which only look like one."""

from __future__ import annotations

import pytest

from bncheck.batchnorm.grouping import Candidate, Grouping, group
from bncheck.batchnorm.names import Role


def _group(*names: str, shape: tuple[int, ...] = (8,), dtype: str = "float32") -> Grouping:
    return group(Candidate(name, name, shape, dtype) for name in names)


def _layers(grouping: Grouping) -> dict[str, dict[str, str]]:
    return {
        layer.name: {role.value: candidate.key for role, candidate in layer.roles.items()}
        for layer in grouping.layers
    }


STATISTICS = ("moving_mean", "moving_variance")

LAYERS = {
    "tf.layers": (["a/bn/gamma", "a/bn/beta", "a/bn/moving_mean", "a/bn/moving_variance"], "a/bn"),
    "no bn in it": (["g_/b1/gamma", "g_/b1/moving_mean", "g_/b1/moving_variance"], "g_/b1"),
    "statistics alone": (["x/moving_mean", "x/moving_variance"], "x"),
    "keras 1": (["bn_1_gamma", "bn_1_running_mean", "bn_1_running_std"], "bn_1"),
    "keras 1, in a scope": (["m/bn_1_beta", "m/bn_1_running_mean", "m/bn_1_running_std"], "m/bn_1"),
    "tensorpack": (["c/bn/beta", "c/bn/mean/EMA", "c/bn/variance/EMA"], "c/bn"),
    "sonnet 2": (
        ["bn/scale", "bn/offset", "bn/moving_mean/average", "bn/moving_variance/average"],
        "bn",
    ),
    "caffe-tensorflow": (["bn2a/scale", "bn2a/offset", "bn2a/mean", "bn2a/variance"], "bn2a"),
    "tutorial": (["l/scale", "l/beta", "l/pop_mean", "l/pop_var"], "l"),
    "deeplab": (["c/gamma", "c/beta", "c/bn/mean", "c/bn/variance"], "c"),
    "by hand": (
        [
            "d/beta",
            "d/gamma",
            "d/d_1/moments/Squeeze/ExponentialMovingAverage",
            "d/d_1/moments/Squeeze_1/ExponentialMovingAverage",
        ],
        "d",
    ),
    "by hand, named outputs": (
        [
            "l/bn/gamma",
            "l/bn/l/bn/batch_mean/ExponentialMovingAverage",
            "l/bn/l/bn/batch_var/ExponentialMovingAverage",
        ],
        "l/bn",
    ),
    "tflib": (
        ["G.BN1.scale", "G.BN1.offset", "G.BN1.moving_mean", "G.BN1.moving_variance"],
        "G.BN1",
    ),
    "by hand, scope twice, in a cond": (
        [
            "d/beta",
            "d/d/cond/moments_1/mean/ExponentialMovingAverage",
            "d/d/cond/moments_1/variance/ExponentialMovingAverage",
        ],
        "d",
    ),
    "averaged weights alone": (
        [f"b/{role}/ExponentialMovingAverage" for role in ("gamma", "beta", *STATISTICS)],
        "b",
    ),
}


@pytest.mark.parametrize(("names", "layer"), LAYERS.values(), ids=LAYERS)
def test_every_variable_of_a_convention_is_in_its_layer(names: list[str], layer: str) -> None:
    found = _layers(_group(*names))
    assert list(found) == [layer]
    assert sorted(found[layer].values()) == sorted(names)
    assert set(found[layer]) >= set(STATISTICS)


NO_LAYERS = {
    "layer norm": ["enc/LayerNorm/gamma", "enc/LayerNorm/beta"],
    "layer norm of keras": ["layer_normalization_3/gamma", "layer_normalization_3/beta"],
    "layer norm with a hyphen": ["enc/layer-norm/gamma", "enc/layer-norm/beta"],
    "instance norm": ["in/InstanceNorm_1/gamma", "in/InstanceNorm_1/beta"],
    "group norm": ["GroupNorm/gamma", "GroupNorm/beta"],
    "virtual batch norm": ["d_vbn1/gamma", "d_vbn1/beta"],
    "activation": ["srelu_beta", "prelu/beta", "attention/gamma"],
    "observations": ["obs/mean", "obs/variance", "obs/count"],
    "normalization layer": ["norm/mean", "norm/variance", "norm/count", "norm/scale"],
    "latent": ["z/mean", "z/variance"],
    "mixture": ["mixture/mean", "mixture/variance", "mixture/scale"],
    "running moments with their count": ["obs/running_mean", "obs/running_var", "obs/count"],
    "loss averages": ["AddN/ExponentialMovingAverage", "loss/moving_avg", "loss_1/avg"],
    "slots": ["bn/moving_mean/Adam", "bn/moving_mean/Adam_1", "bn/gamma/Momentum"],
    "powers": ["beta1_power", "beta2_power_1"],
    "compare_gan": ["b/accu/accu_mean", "b/accu/accu_variance", "b/accu/accu_counter"],
    "vector quantization": ["vq/ema_mean", "vq/ema_var"],
    "one statistic of something": ["reward/moving_mean"],
}


@pytest.mark.parametrize("names", NO_LAYERS.values(), ids=NO_LAYERS)
def test_look_alikes_are_no_layers(names: list[str]) -> None:
    grouping = _group(*names)
    assert _layers(grouping) == {}
    assert grouping.unknown == []


def test_scalars_and_integers_are_no_roles() -> None:
    names = ["bn/moving_mean", "bn/moving_variance"]
    assert _layers(_group(*names, shape=())) == {}
    assert _layers(_group(*names, dtype="int64")) == {}


def test_shadows_and_helpers_stay_out_of_the_layer() -> None:
    names = ["bn/gamma", "bn/moving_mean", "bn/moving_variance"]
    extra = [f"{name}/ExponentialMovingAverage" for name in names]
    extra += ["bn/bn/moving_mean/biased", "bn/bn/moving_mean/local_step", "bn/gamma/Ftrl_1"]
    grouping = _group(*names, *extra)
    assert sorted(_layers(grouping)["bn"].values()) == sorted(names)
    assert grouping.layers[0].zero_debiased == {Role.MOVING_MEAN}


def test_the_surer_name_wins() -> None:
    found = _layers(
        _group("bn/beta", "bn/mean", "bn/variance", "bn/moving_mean", "bn/moving_variance")
    )
    assert found["bn"]["moving_mean"] == "bn/moving_mean"


def test_affine_in_a_batch_norm_scope_is_a_layer_without_statistics() -> None:
    assert list(_layers(_group("BatchNorm/beta"))) == ["BatchNorm"]
    assert list(_layers(_group("res/bn1/gamma", "res/bn1/beta"))) == ["res/bn1"]
    # scale and offset alone are those of a batch norm that keeps no statistics, as often as not.
    grouping = _group("batchnorm/scale", "batchnorm/offset")
    assert _layers(grouping) == {}
    assert [each.name for each in grouping.unknown] == ["batchnorm"]


def test_a_strange_vector_beside_the_affine_may_be_its_statistic() -> None:
    grouping = _group("bn1/gamma", "bn1/beta", "bn1/mu", "bn1/sigma2")
    assert _layers(grouping) == {}
    assert [each.name for each in grouping.unknown] == ["bn1"]
    # A bias, a slot and the affine's own average are nothing strange.
    known = ["bn1/gamma/Adam", "bn1/biases", "bn1/gamma/ExponentialMovingAverage"]
    assert list(_layers(_group("bn1/gamma", "bn1/beta", *known))) == ["bn1"]


def test_each_use_of_a_handmade_layer_has_its_own_averages() -> None:
    averages = (
        "moments/Squeeze/ExponentialMovingAverage",
        "moments/Squeeze_1/ExponentialMovingAverage",
    )
    names = ["bn/gamma", "bn/beta", "bn_1/gamma", "bn_1/beta"]
    names += [f"bn/bn/{each}" for each in averages] + [f"bn/bn_1/{each}" for each in averages]
    found = _layers(_group(*names))
    assert {layer: len(roles) for layer, roles in found.items()} == {"bn": 4, "bn_1": 4}
    assert found["bn_1"]["moving_mean"] == f"bn/bn_1/{averages[0]}"


def test_averages_that_no_affine_claims_are_a_layer_of_their_own() -> None:
    averages = (
        "moments/Squeeze/ExponentialMovingAverage",
        "moments/Squeeze_1/ExponentialMovingAverage",
    )
    names = ["d/beta"] + [f"d/d_{use}/{each}" for use in (1, 2) for each in averages]
    assert {layer: len(roles) for layer, roles in _layers(_group(*names)).items()} == {
        "d": 3,
        "d/d_2": 2,
    }


def test_an_average_does_not_stand_for_what_a_graph_asks_for() -> None:
    candidates = [
        Candidate(
            "b/gamma/ExponentialMovingAverage", "b/gamma/ExponentialMovingAverage", (8,), "float32"
        ),
        Candidate("b/gamma", "b/gamma", (8,), "float32", in_checkpoint=False),
        Candidate("b/moving_mean", "b/moving_mean", (8,), "float32"),
        Candidate("b/moving_variance", "b/moving_variance", (8,), "float32"),
    ]
    assert _layers(group(candidates))["b"]["gamma"] == "b/gamma/ExponentialMovingAverage"
    assert _layers(group(candidates, {"b/gamma"}))["b"]["gamma"] == "b/gamma"


def test_affine_in_an_unknown_scope_is_unknown() -> None:
    grouping = _group("conv1_in_block/gamma", "conv1_in_block/beta", "other/beta")
    assert _layers(grouping) == {}
    assert [each.name for each in grouping.unknown] == ["conv1_in_block"]


def test_numbered_names_are_matched_by_number_and_shape() -> None:
    roles = ("gamma", "beta", *STATISTICS)
    candidates = [Candidate(f"n/{role}", f"n/{role}", (4,), "float32") for role in roles]
    candidates += [Candidate(f"n/{role}_1", f"n/{role}_1", (8,), "float32") for role in STATISTICS]
    # A layer normalization in the same scope took number 1 of gamma.
    candidates.append(Candidate("n/gamma_1", "n/gamma_1", (3,), "float32"))
    assert _layers(group(candidates)) == {
        "n": {role: f"n/{role}" for role in roles},
        "n #1": {role: f"n/{role}_1" for role in STATISTICS},
    }


def test_slots_of_keras_optimizers_are_no_layers() -> None:
    """Keras 2.11 puts the optimizer in front: Adam/m/bn/gamma is no layer called Adam/m/bn."""
    own = ["bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"]
    slots = [f"Adam/{kind}/bn/{role}" for kind in ("m", "v") for role in ("gamma", "beta")]
    grouping = _group(*own, *slots)
    assert list(_layers(grouping)) == ["bn"]
    assert grouping.unknown == []
    # Without the variable that it would serve, it is no slot but somebody's scope.
    assert list(_layers(_group("Adam/m/bn/gamma", "Adam/m/bn/moving_mean"))) == ["Adam/m/bn"]
