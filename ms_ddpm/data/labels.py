"""Classes of images, from whatever a caller gives: checked, and one int32 for each image."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from ..trainable import said_by
from . import check_labels


def class_numbers(classes, num_classes: int) -> np.ndarray:
    """``classes``, a number or a row of them, as int32 () or (N,).

    Raises UserError for what are no whole numbers, for none of them, for a table, and for an unknown class.
    """
    expected = f"expected whole numbers from 0 to {num_classes - 1}"
    try:
        found = np.asarray(classes.asnumpy() if hasattr(classes, "asnumpy") else classes)
    except (ValueError, TypeError):  # lists of different lengths
        raise UserError(f"labels are lists of different lengths, {expected}") from None
    if found.size == 0:
        raise UserError(f"labels are given, but they are none, {expected}")
    large = found.dtype == object and all(type(value) is int for value in found.flat)  # that 64 bits do not hold
    if found.dtype.kind not in "iu" and not large:
        raise UserError(f"labels of type {found.dtype}, {expected}")
    if found.ndim > 1:
        raise UserError(f"labels of shape {found.shape}, expected a row of them, one for each image")
    check_labels(np.atleast_1d(found), num_classes)
    return found.astype(np.int32)


def require_conditional(cell) -> None:
    """Raises UserError where labels are given to a model that has no classes."""
    if not said_by(cell, "conditional"):
        raise UserError("labels are given, but this model is not conditional: it knows no classes")


def labels_for(cell, num: int, classes=None) -> np.ndarray | None:
    """The class of each of ``num`` images, int32 (num,): ``classes`` in turn (default: all); None without classes.

    Raises:
        UserError: as `class_numbers`, and for classes given to a model that has none.
    """
    if classes is not None:
        require_conditional(cell)
    elif not said_by(cell, "conditional"):
        return None
    chosen = class_numbers(range(cell.num_classes) if classes is None else classes, cell.num_classes)
    return np.resize(chosen, num)


def labels_of_images(cell, labels, num: int, first_image: int = 0) -> np.ndarray | None:
    """The class of each of ``num`` images, int32 (num,): ``labels``, one for each or one for all.

    By default image i has class (first_image + i) mod num_classes; None for a model without classes.

    Raises:
        UserError: as `class_numbers`, for another number of labels, and for labels of a model that has no classes.
    """
    if labels is None:
        if not said_by(cell, "conditional"):
            return None
        return (np.arange(first_image, first_image + num) % cell.num_classes).astype(np.int32)
    require_conditional(cell)
    found = class_numbers(labels, cell.num_classes)
    if found.ndim and len(found) != num:
        raise UserError(f"labels of shape {found.shape} for {num} images, expected one each, or one for all")
    return np.broadcast_to(found, (num,)).copy()
