"""Chooses the rows of each split: takes examples and fractions, and returns the split of each row.

Equal texts stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np

from textclf.data.examples import Examples, Split
from textclf.data.tokens.row_keys import RowKeys, Texts
from textclf.recipe.settings import DatasetSettings


# --- Splits ----------------------------------------------------------------------------------------------------------
def make_splits(
    settings: DatasetSettings,
    seed: int,
    labels: Sequence[str],
    examples: dict[str, Examples],
    keys: RowKeys,
    strata: Sequence[int] | None = None,
) -> dict[str, Split]:
    """Returns the splits. Fractions of the training rows are taken in proportion from each of the `strata`, by default
    the labels."""
    train = examples["train"]
    shares = {
        name: share
        for name, share in (("test", settings.test), ("validation", settings.validation))
        if isinstance(share, float)
    }
    index_of = {label: index for index, label in enumerate(labels)}
    strata = [index_of[label] for label in train.labels] if strata is None else strata
    side = set_aside(train.texts, strata, shares, seed, keys.keys)
    splits: dict[str, Split] = {}
    for name in ("train", "validation", "test"):
        source = examples.get(name, train)
        if name in examples or name in shares:
            chosen = [index for index in range(len(source.rows)) if source is not train or side[index] == name]
            splits[name] = Split(
                name,
                [source.texts[index] for index in chosen],
                np.array([index_of[source.labels[index]] for index in chosen], np.int32),
                [source.rows[index] for index in chosen],
                source.file,
            )
    return splits


def set_aside(
    texts: Sequence[Texts],
    labels: Sequence[int],
    shares: dict[str, float],
    seed: int,
    keys: Sequence[Hashable] | None = None,
) -> list[str]:
    """Returns the split of each row: "train", or a key of `shares`, which is served in its order.

    Each fraction is taken from every label in proportion (rounded by largest remainders). Rows with equal `keys`
    (default: the texts) stay together, under the label of the first row. Every label with two or more different keys
    gives at least one key to the last fraction; with three or more, to both. At least one key stays in train.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(texts if keys is None else keys):
        groups.setdefault(key, []).append(index)
    # A group's place depends on its first text in alphabetical order, not on its position in the file.
    order = {key: _shuffled_order(min(texts[index] for index in group), seed) for key, group in groups.items()}
    strata: dict[int, list[list[int]]] = {}
    for key in sorted(groups, key=order.__getitem__):
        strata.setdefault(labels[groups[key][0]], []).append(groups[key])
    sizes = {label: sum(map(len, strata[label])) for label in sorted(strata)}
    side = ["train"] * len(texts)
    for place, (name, share) in enumerate(shares.items()):
        for label, quota in _quotas(sizes, share).items():
            remaining = len(shares) - place  # one for train, one for each share that follows
            taken, strata[label] = _take(strata[label], quota, keep=remaining)
            for index in (index for group in taken for index in group):
                side[index] = name
    return side


def _shuffled_order(texts: Texts, seed: int) -> bytes:
    """Returns a place in a random order that depends on the seed and the text only, on every machine and version."""
    content = "\0".join(texts).encode("utf-8", errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=16, key=seed.to_bytes(8, "little")).digest()


def _quotas(sizes: dict[int, int], share: float) -> dict[int, int]:
    """Returns whole numbers of rows per label that add up to the fraction of all rows (largest remainders; the first of
    equal ones)."""
    quotas = {label: int(share * size) for label, size in sizes.items()}
    missing = round(share * sum(sizes.values())) - sum(quotas.values())
    by_remainder = sorted(sizes, key=lambda label: quotas[label] - share * sizes[label])
    for label in by_remainder[: max(missing, 0)]:
        quotas[label] += 1
    return quotas


def _take(groups: list[list[int]], quota: int, keep: int) -> tuple[list[list[int]], list[list[int]]]:
    """Returns the first groups that fit into `quota` rows, at least one, and the other groups, at least `keep`."""
    allowed = len(groups) - keep
    taken: list[list[int]] = []
    left: list[list[int]] = []
    for group in groups:
        if len(taken) < allowed and len(group) <= quota:
            taken.append(group)
            quota -= len(group)
        else:
            left.append(group)
    if not taken and allowed > 0:
        taken.append(left.pop(min(range(len(left)), key=lambda place: len(left[place]))))
    return taken, left
