"""Which weight and which layer is whose: by name, by structure, by what the user says, and what is refused."""

import numpy as np
import pytest

from portparity.sides.mapping import Unpaired, pair, pair_layers
from portparity.sides.side import Weight


def weights(**shapes):
    """Trained parameters by name, "__" for a dot; a shape in a tuple with a word for those that are not."""
    found = {}
    for name, shape in shapes.items():
        *shape, how = shape if isinstance(shape[-1], str) else (*shape, "")
        value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        found[name.replace("__", ".")] = Weight(value, is_buffer=how == "buffer", trainable=not how)
    return found


THEIRS = weights(first__weight=(4, 3), first__bias=(4,), norm__weight=(4,), norm__running_mean=(4, "buffer"))


def test_mindspores_words_are_pytorchs():
    ours = weights(first__weight=(4, 3), first__bias=(4,), norm__gamma=(4,), norm__moving_mean=(4, "untrained"))
    pairs = pair(ours, THEIRS, {})
    assert pairs.weights == {
        "first.weight": "first.weight", "first.bias": "first.bias", "norm.gamma": "norm.weight",
        "norm.moving_mean": "norm.running_mean",
    }  # fmt: skip
    assert pairs.guessed == {}
    assert pairs.notes == []


def test_a_name_that_both_have_is_no_guess():
    """A scale of layers is often called gamma; the word is MindSpore's for a norm's weight too."""
    both = weights(a__gamma=(4,), a__weight=(4,), b__gamma=(4,))
    pairs = pair(both, both, {})
    assert pairs.weights == {name: name for name in both}
    assert pairs.notes == []


def test_what_is_called_otherwise_is_paired_by_shape_and_role_in_order_and_said():
    theirs = weights(a__weight=(4, 3), b__weight=(4, 3), c__weight=(2, 4))
    pairs = pair(weights(one__weight=(4, 3), two__weight=(4, 3), three__weight=(2, 4)), theirs, {})
    assert pairs.weights == {"one.weight": "a.weight", "two.weight": "b.weight", "three.weight": "c.weight"}
    assert pairs.guessed == pairs.weights
    assert pairs.notes == ["paired by shape and order, as their names differ: " + (
        "one.weight = a.weight, two.weight = b.weight, three.weight = c.weight"
    )]  # fmt: skip


def test_arrays_go_to_the_port_and_back_in_each_sides_own_shape():
    ours = weights(conv__weight=(4, 3, 1, 5), dense__weight=(3, 4))
    theirs = weights(conv__weight=(4, 3, 5), dense__weight=(4, 3))
    pairs = pair(ours, theirs, {"dense.weight": "dense.weight.T"})
    there = {name: weight.value for name, weight in theirs.items()}
    here = pairs.to_ours(there)
    np.testing.assert_array_equal(here["dense.weight"], there["dense.weight"].T)
    produced = {"grad.weight.dense.weight": here["dense.weight"], "grad.weight.conv.weight": ours["conv.weight"].value}
    back = pairs.to_theirs(produced, {f"grad.weight.{name}": value for name, value in there.items()})
    np.testing.assert_array_equal(back["grad.weight.dense.weight"], there["dense.weight"])
    assert back["grad.weight.conv.weight"].shape == (4, 3, 5)


SQUARE = weights(first__weight=(4, 3), last__weight=(2, 4))


@pytest.mark.parametrize(
    ("ours", "names", "words"),
    [
        (SQUARE, {"frist.weight": "first.weight"}, "the port has no parameter 'frist.weight'; nearest: first.weight"),
        (SQUARE, {"first.weight": "frist.weight"}, "the original has no 'frist.weight'; nearest: first.weight"),
        (
            SQUARE, {"first.weight": "last.weight"},
            "names: the port's first.weight (4, 3) cannot be the original's last.weight of (2, 4)",
        ),
        (
            weights(first__weight=(3, 4), last__weight=(2, 4)), {"first.weight": "first.weight"},
            'first.weight of (4, 3); the other way round it fits: "first.weight.T"',
        ),
        (SQUARE, {"first.weight": "first.weight.T"}, "(4, 3) cannot be the original's first.weight.T of (4, 3)"),
        (
            weights(a__weight=(4, 3), b__weight=(4, 3), last__weight=(2, 4)),
            {"a.weight": "first.weight", "b.weight": "first.weight"},
            "names: a.weight and b.weight are both paired with first.weight",
        ),
        (
            weights(first__weight=(3, 4), last__weight=(2, 4)), {},
            '(3, 4) has no counterpart; first.weight is the same the other way round ("first.weight.T")',
        ),
        (weights(first__weight=(4, 3)), {}, "the original's last.weight (2, 4) has no counterpart in the port"),
    ],
)  # fmt: skip
def test_what_cannot_be_paired_is_one_line(ours, names, words):
    with pytest.raises(Unpaired) as error:
        pair(ours, SQUARE, names)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_none_leaves_a_parameter_alone_and_what_is_not_trained_is_noted():
    ours = {**SQUARE, **weights(extra__weight=(7, 7), table=(5, 5, "untrained"))}
    pairs = pair(ours, SQUARE, {"extra.weight": None})
    assert pairs.weights == {name: name for name in SQUARE}
    assert pairs.notes == ["table of the port, which is not trained, has no counterpart and stays as it is"]


def layers_of(given=None):
    """A block in a block, called otherwise on each side; the activations have no weights."""
    pairs = pair(
        weights(body__0__weight=(4, 3), head__weight=(2, 4)), weights(net__in__weight=(4, 3), out__weight=(2, 4)), {}
    )
    ours = {"": "Port", "body": "SequentialCell", "body.0": "Dense", "body.1": "GELU", "head": "Dense"}
    theirs = {"": "Net", "net": "Sequential", "net.in": "Linear", "net.act": "GELU", "out": "Linear"}
    pair_layers(pairs, ours, theirs, given)
    return pairs.layers


def test_layers_are_paired_by_the_weights_in_them_and_those_without_by_their_class():
    assert layers_of() == {"body": "net", "body.0": "net.in", "body.1": "net.act", "head": "out"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"body.2": "net.act"}, "the port has no layer 'body.2'; nearest: body.1, body.0, body"),
        ({"body.1": "net.acts"}, "the original has no layer 'net.acts'; nearest: net.act, net"),
    ],
)
def test_a_layer_that_is_not_there_is_told_with_those_near_it(given, words):
    with pytest.raises(Unpaired) as error:
        layers_of(given)
    assert words in str(error.value)
