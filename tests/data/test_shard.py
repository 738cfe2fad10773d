"""One order for all ranks, against torch's DistributedSampler and against counting."""

from itertools import chain

import pytest
import torch
import torch.distributed
import torch.utils.data as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from lampwork._core.errors import InputError
from lampwork.data import DistributedOrder
from lampwork.data.shard import CHUNK, torchs_share


class Sized:
    """A dataset of which only the length is ever asked for."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def shares(size, ranks, **options):
    """What each rank gets."""
    return [list(DistributedOrder(Sized(size), ranks, rank, **options)) for rank in range(ranks)]


def dealt(shares):
    """The order that was dealt out in turn."""
    longest = max(map(len, shares))
    return [share[turn] for turn in range(longest) for share in shares if turn < len(share)]


sizes = st.integers(0, 60)
worlds = st.integers(1, 9)


@given(sizes, worlds, st.booleans(), st.integers(0, 3))
def test_by_default_each_sample_comes_once(size, ranks, shuffle, seed):
    """No sample is repeated or lost, ranks differ by at most one, and `len` tells how many."""
    found = shares(size, ranks, shuffle=shuffle, seed=seed)
    assert sorted(chain(*found)) == list(range(size))
    lengths = [len(share) for share in found]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)
    assert lengths == [
        len(DistributedOrder(Sized(size), ranks, rank, shuffle=shuffle)) for rank in range(ranks)
    ]


@given(sizes, worlds, st.sampled_from(["pad", "drop_last"]))
def test_padded_or_cut_it_is_torchs(size, ranks, way):
    """Not shuffled, `pad` and `drop_last` give what torch's sampler gives."""
    ours = shares(size, ranks, shuffle=False, **{way: True})
    torchs = [
        list(
            reference.DistributedSampler(
                Sized(size), ranks, rank, shuffle=False, drop_last=way == "drop_last"
            )
        )
        for rank in range(ranks)
    ]
    assert ours == torchs


@given(st.integers(1, 60), worlds, st.integers(0, 3))
def test_shuffled_shares_are_of_one_order(size, ranks, seed):
    """However many ranks there are, put together in turn their shares are the same order."""
    alone = shares(size, 1, seed=seed)[0]
    assert dealt(shares(size, ranks, seed=seed)) == alone
    padded = dealt(shares(size, ranks, seed=seed, pad=True))
    assert padded == [alone[place % size] for place in range(len(padded))]
    cut = dealt(shares(size, ranks, seed=seed, drop_last=True)) if size >= ranks else []
    assert cut == alone[: size // ranks * ranks]


def test_an_epoch_has_its_order():
    """`set_epoch` gives another order, and the same again when it is set again."""
    sampler = DistributedOrder(Sized(100), 2, 1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(DistributedOrder(Sized(100), 2, 1, seed=1)) != first


def test_indices_are_pythons_own():
    """Any loader and any dataset can take them, in one piece or several."""
    size = 2 * CHUNK + 5
    found = list(DistributedOrder(Sized(size), 1, 0))
    assert {type(index) for index in found} == {int}
    assert sorted(found) == list(range(size))


def test_torchs_loader_takes_it():
    """As the sampler of torch's loader it gives each rank its share."""
    data = reference.TensorDataset(torch.arange(11))
    batches = [
        batch.tolist()
        for rank in range(2)
        for (batch,) in reference.DataLoader(data, 3, sampler=DistributedOrder(data, 2, rank))
    ]
    assert sorted(chain(*batches)) == list(range(11))
    assert [len(batch) for batch in batches] == [3, 3, 3, 2]


def test_nothing_of_the_size_of_the_dataset_is_made():
    """An order of 2**62 samples can be begun, and in its middle."""
    sampler = DistributedOrder(Sized(2**62), 1024, 1023)
    first = [index for index, _ in zip(iter(sampler), range(5), strict=False)]
    assert len(set(first)) == 5
    middle = sampler.indices(2**51, 2**51 + 5)
    assert len(middle) == 5
    assert not set(middle.tolist()) & set(first)


def test_ranks_come_from_torchrun(monkeypatch):
    """Without `torch.distributed` the rank is the one that `torchrun` tells; alone it is 0 of 1."""
    sampler = DistributedOrder(Sized(10))
    assert (sampler.rank, sampler.num_replicas) == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    sampler = DistributedOrder(Sized(10), shuffle=False)
    assert list(sampler) == [2, 5, 8]


def test_ranks_come_from_torch_distributed_first(monkeypatch):
    """A process group that is there knows better than the environment."""
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        sampler = DistributedOrder(Sized(10))
    finally:
        torch.distributed.destroy_process_group()
    assert (sampler.rank, sampler.num_replicas) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "num_replicas is 0: pass 1 or more"),
        ((2, 2), "rank is 2 of 2 replicas: pass a rank from 0 to 1"),
        ((2, -1), "rank is -1 of 2 replicas: pass a rank from 0 to 1"),
    ],
)
def test_a_rank_that_is_not_there_is_told(arguments, message):
    """The message has the values and what may be passed."""
    with pytest.raises(InputError, match=f"^{message}$"):
        DistributedOrder(Sized(10), *arguments)


def test_cut_and_padded_at_once_is_told():
    """Both ways to make ranks even cannot be meant."""
    with pytest.raises(InputError, match="drop_last and pad are both True"):
        DistributedOrder(Sized(10), 2, 0, drop_last=True, pad=True)


@given(sizes, worlds, st.booleans(), st.booleans(), st.integers(0, 3), st.integers(0, 3))
def test_torchs_share_is_what_torch_deals(size, ranks, shuffle, drop_last, seed, epoch):
    """As a tensor, each rank's share of torch's sampler is what that sampler yields."""
    for rank in range(ranks):
        sampler = reference.DistributedSampler(
            Sized(size), ranks, rank, shuffle=shuffle, seed=seed, drop_last=drop_last
        )
        sampler.set_epoch(epoch)
        share = torchs_share(sampler, taken=0, seed=seed, epoch=epoch)
        assert share.tolist() == list(sampler)
        assert share.dtype == torch.int64


@settings(max_examples=50)
@given(
    st.integers(1, 60),
    st.integers(1, 5),
    worlds,
    st.booleans(),
    st.sampled_from(["uneven", "pad", "drop_last"]),
    st.data(),
)
def test_what_is_left_is_dealt_to_other_ranks(size, before, after, torchs, way, data):
    """After some samples of all ranks, as many ranks as there are now share exactly the others."""
    rounds = data.draw(st.integers(0, size // before))
    taken = rounds * before
    options = {"pad": way == "pad", "drop_last": way == "drop_last"}

    def rest(ranks, since):
        """What each rank has after so many samples of all."""
        if not torchs:
            samplers = [
                DistributedOrder(Sized(size), ranks, rank, **options) for rank in range(ranks)
            ]
            return [sampler.indices(0, size, taken=since).tolist() for sampler in samplers]
        drop_last = way == "drop_last"
        samplers = [
            reference.DistributedSampler(Sized(size), ranks, rank, drop_last=drop_last)
            for rank in range(ranks)
        ]
        return [torchs_share(one, taken=since, seed=0, epoch=0).tolist() for one in samplers]

    whole = dealt(rest(1, 0))
    found = dealt(rest(after, taken))
    left = whole[taken:]
    if way == "drop_last":
        assert found == left[: len(left) // after * after]
    else:
        assert found[: len(left)] == left
        assert len(found) - len(left) < after
        if way == "uneven" and not torchs:
            assert found == left
    # The same number of ranks goes on as if nothing had happened.
    assert [share[rounds:] for share in rest(before, 0)] == rest(before, taken)
