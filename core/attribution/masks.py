"""Instance masks: which units a training instance may use.

Turn-over dropout (Kobayashi et al. 2020, section 3) gives every training instance z a fixed dropout
mask m(z). Storing N masks for every layer would cost more than the model, so a mask is *computed*,
each time, from nothing but (seed, layer, instance):

1. SplitMix64 (Steele, Lea and Flood 2014) is seeded with a hash of (seed, layer, instance) and
   gives one 64-bit number for every unit.
2. The k units with the smallest numbers are on. Exactly k of them: the masks are *balanced*, which
   makes the estimate less noisy than independent coin flips do.

With *shared* masks the instances are put into M cohorts by a hash of (seed, instance), and a cohort
shares one mask. Cohorts 2j and 2j + 1 are a pair: their masks are each other's complements, so M
forward passes give both losses of every instance, however many there are. A cohort's number does
not depend on the layer: who shares a mask in one layer of a network shares it in all of them.

All arithmetic is on 64-bit integers modulo 2⁶⁴, so CPU, CUDA, one batch or another, this process or
the next give the same bits (law 1). It is written twice: for accelerators in torch, and for the CPU
in NumPy, whose 64-bit products and partial sorts are vectorised there (four times as fast); a test
compares the two. Nothing here knows about scaling; `turnover.attribution.dropout` turns bits
into the values 0 and 1/p.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAX_ID = 2**63 - 1
"""The largest instance id; ids are whole numbers from 0."""

UNOWNED = 2**62
"""This package gives no training instance an id from here on: masks that no instance owns.
"""

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_WORD = 2**64
_INDEX_BITS = 20
MAX_UNITS = 2**_INDEX_BITS
"""A layer may have at most this many maskable units (the unit's number shares a word with its
random key).
"""

_UNITS_IN_CACHE = 2**16
_COHORTS = 3 * _GOLDEN
MAX_MASKS = 2**20
"""The most masks that instances can share in a network."""


def _signed(word: int) -> int:
    """A 64-bit word as the two's complement number that torch's int64 holds."""
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def mix(word: int) -> int:
    """SplitMix64's finaliser on one Python integer: a bijection of 64-bit words."""
    word %= _WORD
    word = ((word ^ (word >> 30)) * _MIX_1) % _WORD
    word = ((word ^ (word >> 27)) * _MIX_2) % _WORD
    return word ^ (word >> 31)


def derive_seed(seed: int, *path: int) -> int:
    """A new 63-bit seed for the use named by `path` (member, epoch, layer …), unrelated to the
    seeds of its neighbours.
    """
    word = mix(seed + _GOLDEN)
    for step in path:
        # one more mix on the left: seed 1, member 2 is not seed 2, member 1
        word = mix(mix(word) ^ mix(step + _GOLDEN))
    return word >> 1


def _shift(words: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own extends the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _mix(words: Tensor) -> Tensor:
    """`mix` on int64 tensors, whose products wrap modulo 2⁶⁴."""
    words = (words ^ _shift(words, 30)) * _signed(_MIX_1)
    words = (words ^ _shift(words, 27)) * _signed(_MIX_2)
    return words ^ _shift(words, 31)


def _mix_in_place(words: np.ndarray) -> np.ndarray:
    """`mix` on uint64 arrays, whose products wrap modulo 2⁶⁴; overwrites its argument."""
    shifted = np.empty_like(words)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        words ^= np.right_shift(words, np.uint64(shift), out=shifted)
        words *= np.uint64(factor)
    words ^= np.right_shift(words, np.uint64(31), out=shifted)
    return words


def units_on(units: int, p: float) -> int:
    """How many of `units` units a mask with keep rate `p` leaves on: k = floor(p · units + .5).

    Raises:
        ValueError: if the mask would be all on or all off, so that one of the two sub-networks is
            empty.
    """
    on = int(p * units + 0.5)
    if not 0 < on < units:
        raise ValueError(
            f"p={p} of {units} units or groups leaves {on} on; choose p so that 0 < on < {units}"
        )
    return on


def instance_masks(ids: Tensor, units: int, on: int, *, seed: int, layer: int) -> Tensor:
    """The masks of some instances in one layer.

    Args:
        ids: int64 instance ids in [0, 2⁶³ − 1], any shape `(…)`; the masks are computed on
            their device.
        units: units (or groups of units) of the layer, at most `MAX_UNITS`.
        on: how many units each mask leaves on.
        seed: the member's mask seed.
        layer: the layer's number in the network.

    Returns:
        Booleans `(…, units)`, `on` of them true in every row.
    """
    stream = mix(mix(seed + _GOLDEN) ^ mix(layer + 2 * _GOLDEN))
    if ids.device.type in ("cpu", "mps"):  # MPS lacks 64-bit kthvalue
        try:
            return torch.from_numpy(_masks_numpy(ids.cpu().numpy(), units, on, stream)).to(
                ids.device
            )
        except RuntimeError:  # inside torch.func, tensors have no accessible memory
            pass
    return _masks_torch(ids, units, on, stream)


def instance_cohorts(ids: Tensor, masks: int, *, seed: int) -> Tensor:
    """The cohort of each instance, from 0 to `masks` − 1, for int64 ids in [0, 2⁶³ − 1]."""
    stream = _signed(mix(mix(seed + _GOLDEN) ^ mix(_COHORTS)))
    return _shift(_mix(_mix(ids + _signed(_GOLDEN)) ^ stream), 1) % masks


def pair_ids(masks: int) -> Tensor:
    """Stand-ins for the ids of instances in the cohorts 0, 2, 4 …, which only the engine uses: a
    negative number −1 − j names the pair of cohorts 2j and 2j + 1.
    """
    return -1 - torch.arange(masks // 2)


def cohort_masks(ids: Tensor, units: int, masks: int, *, seed: int, layer: int) -> Tensor:
    """The masks of some instances in one layer, where instances share `masks` masks.

    Args and result as for `instance_masks`, with half of the units on; `ids` may be `pair_ids`.
    """
    cohorts = torch.where(ids < 0, 2 * ~ids, instance_cohorts(ids, masks, seed=seed))
    pairs, second = cohorts >> 1, (cohorts & 1).bool().unsqueeze(-1)
    if masks // 2 < ids.numel():
        known = torch.arange(masks // 2, device=ids.device)
        return instance_masks(known, units, units // 2, seed=seed, layer=layer)[pairs] ^ second
    return instance_masks(pairs, units, units // 2, seed=seed, layer=layer) ^ second


def _masks_torch(ids: Tensor, units: int, on: int, stream: int) -> Tensor:
    rows = _mix(_mix(ids + _signed(_GOLDEN)) ^ _signed(stream))
    counter = torch.arange(1, units + 1, device=ids.device)
    keys = _mix(rows.unsqueeze(-1) + counter * _signed(_GOLDEN))
    # The unit's own number in the low bits makes every key of a row different, so exactly `on` pass
    # the threshold.
    keys = (keys & ~(MAX_UNITS - 1)) | (counter - 1)
    return keys <= keys.sort(-1).values[..., on - 1 : on]  # on a GPU far faster than kthvalue


def _masks_numpy(ids: np.ndarray, units: int, on: int, stream: int) -> np.ndarray:
    rows = _mix_in_place(ids.astype(np.uint64).ravel() + np.uint64(_GOLDEN))
    rows = _mix_in_place(rows ^ np.uint64(stream))
    counter = np.arange(1, units + 1, dtype=np.uint64)
    steps = counter * np.uint64(_GOLDEN)
    bits = np.empty((len(rows), units), np.bool_)
    size = max(1, _UNITS_IN_CACHE // units)
    for first in range(0, len(rows), size):
        keys = _mix_in_place(rows[first : first + size, None] + steps)
        keys &= np.uint64(_WORD - MAX_UNITS)
        keys |= counter - np.uint64(1)
        signed = keys.view(np.int64)
        np.less_equal(
            signed,
            np.partition(signed, on - 1, axis=-1)[:, on - 1 : on],
            out=bits[first : first + size],
        )
    return bits.reshape(*ids.shape, units)
