"""However a worker, the trainer or a loop ends: an error that says why, and nothing left behind."""

import contextlib
import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
import torch.utils.data as reference

from lampwork.data import DataLoader

pytestmark = [
    # Python warns of forking beside other threads, such as the one that watches a test's time.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # torch warns where the machine has fewer cores than a test has workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

ROOT = Path(__file__).parents[3]
SOON_S = 5.0
"""How long it may take until something that should be immediate is done, on a busy machine."""
TORCHS = re.compile(r"DataLoader worker \(pid (\d+)\) is killed by signal: ")


class Deeds(reference.Dataset):
    """Samples are (index, pid of the worker); at one of them something is done first."""

    def __init__(self, deed=None, at=5, size=20):
        self.deed, self.at, self.size = deed, at, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if self.deed is not None and index == self.at:
            self.deed()
        return index, os.getpid()


def kill_myself():
    """As the kernel kills: without a last word."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault():
    """As a fault in native code."""
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_at_once():
    """Without any cleaning up."""
    os._exit(3)


def leave():
    """As a script does."""
    sys.exit(4)


def hang():
    """For longer than any test waits."""
    time.sleep(600)


@contextlib.contextmanager
def soon(limit_s=SOON_S):
    """What happens within is to be over in time."""
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s < limit_s


def state_of(pid):
    """R, S, Z, …, or None for a process that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_until(true, limit_s=SOON_S):
    """Wait, but not for ever."""
    deadline_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.005)


def all_gone(pids):
    """Whether none of these processes runs any more."""
    # A zombie has ended; that nobody has asked for its exit code is not the loader's affair.
    return all(state_of(pid) in (None, "Z", "X") for pid in pids)


def pids_of(batches):
    """The workers that loaded these batches."""
    return {int(pid) for _, pids in batches for pid in pids}


def error_of(loader, kind=RuntimeError):
    """The error that ends an epoch."""
    with soon(), pytest.raises(kind) as caught:
        list(loader)
    return str(caught.value)


# A worker dies


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("parallel", ["batch", "sample"])
def test_a_worker_killed_over_a_sample_is_reported_with_its_pid_and_the_sample(
    persistent, parallel, tmp_path
):
    """The text begins as torch's, for which programs look, and names the sample's index."""
    told = tmp_path / "pid"
    dataset = Deeds(lambda: (told.write_text(str(os.getpid())), kill_myself()), at=13)
    options = {"persistent_workers": persistent, "parallel": parallel}
    text = error_of(DataLoader(dataset, batch_size=4, num_workers=2, shuffle=True, **options))
    assert (said := TORCHS.match(text)) is not None
    assert said[1] == told.read_text()
    assert "SIGKILL" in text
    assert "was loading sample 13, at place" in text


def test_a_worker_that_crashes_is_reported_with_the_signal():
    """A fault in native code ends the worker, and only that."""
    text = error_of(DataLoader(Deeds(segfault), batch_size=4, num_workers=2))
    assert TORCHS.match(text)
    assert "SIGSEGV" in text
    assert "loading sample 5, at place 1 of its batch" in text


def test_a_worker_killed_from_outside_over_a_sample_is_reported():
    """As the kernel does when memory runs out."""
    busy = multiprocessing.Value("i", 0)

    def deed():
        busy.value = os.getpid()
        hang()

    batches = iter(DataLoader(Deeds(deed, at=6), batch_size=2, num_workers=2))
    wait_until(lambda: busy.value)
    os.kill(busy.value, signal.SIGKILL)
    with soon(), pytest.raises(RuntimeError) as caught:
        list(batches)
    assert TORCHS.match(str(caught.value))[1] == str(busy.value)
    assert "loading sample 6, at place 0 of its batch" in str(caught.value)


def test_a_worker_killed_while_it_waits_is_reported():
    """It held no sample then, and the text says so."""
    batches = iter(DataLoader(Deeds(), batch_size=1, num_workers=2, prefetch_factor=1))
    worker = batches._workers[1]
    wait_until(lambda: batches._crew.doing(1)[0] == -1 and state_of(worker.pid) == "S")
    os.kill(worker.pid, signal.SIGKILL)
    with soon(), pytest.raises(RuntimeError, match=TORCHS) as caught:
        list(batches)
    assert f"(pid {worker.pid})" in str(caught.value)


@pytest.mark.parametrize(("deed", "code"), [(leave_at_once, 3), (leave, 4)])
def test_a_worker_that_exits_is_reported_with_its_exit_code(deed, code):
    """Leaving from within a dataset is a mistake, and the text says where to look."""
    text = error_of(DataLoader(Deeds(deed), batch_size=4, num_workers=2))
    assert re.match(rf"DataLoader worker \(pid\(s\) \d+\) .* exit code {code}\.", text)
    assert "loading sample 5" in text
    assert "sys.exit" in text


def test_after_a_death_the_workers_are_gone_and_a_new_epoch_starts_new_ones():
    """The loader can be used again once the cause is mended."""
    dataset = Deeds(kill_myself, at=3)
    loader = DataLoader(dataset, batch_size=2, num_workers=2)
    batches = iter(loader)
    pids = [worker.pid for worker in batches._workers]
    with pytest.raises(RuntimeError):
        list(batches)
    del batches
    wait_until(lambda: all_gone(pids))
    dataset.deed = None
    indices = [index for numbers, _ in loader for index in numbers.tolist()]
    assert indices == list(range(20))


# A worker cannot begin, or does not get on


def refuse(worker):
    """Raises, as a worker_init_fn or while unpickling."""
    raise LookupError(f"worker {worker} has no data")


def refuse_late(worker):
    """A `worker_init_fn` that fails, in the first worker after all others have."""
    time.sleep(0.5 * (worker == 0))
    raise LookupError(f"worker {worker} has no licence")


def test_a_worker_that_could_not_begin_waits_for_its_turn_to_say_so():
    """Its further tasks do not end it, so that its error is not taken for its death."""
    text = error_of(DataLoader(Deeds(), num_workers=2, worker_init_fn=refuse_late), LookupError)
    assert "worker 0 has no licence" in text


def test_an_error_of_worker_init_fn_is_raised_with_its_type():
    """As by torch, with the first batch."""
    text = error_of(DataLoader(Deeds(), num_workers=2, worker_init_fn=refuse), LookupError)
    assert "worker 0 has no data" in text
    assert "in DataLoader worker process 0" in text


class Unreadable(Deeds):
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return refuse, (9,)


def test_a_dataset_that_cannot_be_unpickled_is_an_error_of_the_epoch():
    """A spawned worker tells what went wrong rather than leaving the loop to wait."""
    loader = DataLoader(Unreadable(), num_workers=1, multiprocessing_context="spawn")
    with soon(60), pytest.raises(LookupError, match="worker 9 has no data"):
        list(loader)


def test_a_dataset_that_cannot_be_pickled_starts_no_spawned_worker():
    """The error comes from `iter`, and no descriptor is left open."""
    loader = DataLoader(Deeds(lambda: None), num_workers=2, multiprocessing_context="spawn")
    open_files = []
    for _ in range(3):
        with pytest.raises(Exception, match=r"(?i)pickle|local"):
            iter(loader)
        open_files.append(len(os.listdir("/proc/self/fd")))
    assert len(set(open_files)) == 1  # the template, which the first starts, stays


def test_a_hanging_worker_is_an_error_after_the_timeout():
    """In torch's words, with the sample that it hangs over; then it is made to go."""
    loader = DataLoader(Deeds(hang), batch_size=2, num_workers=1, timeout=0.2)
    batches = iter(loader)
    pid = batches._workers[0].pid
    with pytest.raises(RuntimeError, match=r"^DataLoader timed out after 0\.2 seconds") as caught:
        list(batches)
    assert f"(pid {pid}) is on sample 5" in str(caught.value)
    with soon(4 * SOON_S):
        del batches, caught
        gc.collect()
        wait_until(lambda: all_gone([pid]), 3 * SOON_S)


# What cannot cross


def raise_local():
    """Raises what no pickle can name."""

    class Local(Exception):
        pass

    raise Local("the seventh seal is broken")


def test_an_exception_whose_class_cannot_be_pickled_is_told_all_the_same():
    """Where torch's loader waits for ever, its text arrives in a RuntimeError."""
    text = error_of(DataLoader(Deeds(raise_local), batch_size=2, num_workers=1))
    assert "the seventh seal is broken" in text
    assert "raise_local" in text  # the worker's traceback


class Picky(Exception):
    """Its constructor does not take what `args` holds: pickle could not make it again."""

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")


def raise_picky():
    """Raises what no pickle can make again."""
    raise Picky(7, reason="no such shelf")


def test_an_exception_that_cannot_be_made_again_is_told_all_the_same():
    """As torch does, whose wrapper falls back to a RuntimeError."""
    text = error_of(DataLoader(Deeds(raise_picky), batch_size=2, num_workers=1))
    assert "Picky" in text
    assert "7: no such shelf" in text


def as_lambda(samples):
    """A batch that cannot be pickled."""
    return lambda: samples


@pytest.mark.parametrize("persistent", [False, True])
def test_a_batch_that_cannot_be_pickled_is_an_error_and_the_next_one_arrives(persistent):
    """The loop neither waits for ever nor loses the worker."""
    options = {"num_workers": 1, "batch_size": 2, "persistent_workers": persistent}
    batches = iter(DataLoader(Deeds(), collate_fn=lambda_of_the_first, **options))
    with soon(), pytest.raises(Exception, match=r"(?i)pickle|local"):
        next(batches)
    assert next(batches) == [2, 3]


def lambda_of_the_first(samples):
    """Only the batch with sample 0 cannot be pickled."""
    numbers = [index for index, _ in samples]
    return as_lambda(numbers) if 0 in numbers else numbers


def test_batches_larger_than_the_memory_granted_arrive_and_may_all_be_held():
    """With room for no batch at all each is copied, and none is overwritten."""
    data = torch.arange(40 * 30_000, dtype=torch.float64).view(40, 30_000)
    loader = DataLoader(Rows(data), batch_size=4, num_workers=2, arena_bytes=1)
    assert torch.equal(torch.cat(list(loader)), data)


class Rows(reference.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index].clone()


# The loop ends early


def test_workers_end_when_the_loop_breaks_off():
    """Nobody holds the iterator any more."""
    pids = []
    for _, of_batch in DataLoader(Deeds(), batch_size=2, num_workers=2):
        pids += of_batch.tolist()
        if len(pids) == 4:
            break
    assert len(set(pids)) == 2
    wait_until(lambda: all_gone(pids))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_end_when_iterator_and_loader_are_dropped(persistent):
    """An iterator dropped unfinished, and the loader, leave no process."""
    loader = DataLoader(Deeds(), batch_size=2, num_workers=2, persistent_workers=persistent)
    batches = iter(loader)
    pids = [worker.pid for worker in batches._workers]
    next(batches)
    del batches, loader
    wait_until(lambda: all_gone(pids))


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_kept_for_the_next_epoch_end_with_the_loader(persistent):
    """They wait for an epoch that never comes, but not for ever."""
    loader = DataLoader(Deeds(), batch_size=2, num_workers=2, persistent_workers=persistent)
    pids = pids_of(loader)
    assert not all_gone(pids)
    del loader
    wait_until(lambda: all_gone(pids))


# The trainer ends; each of these runs in a process of its own


def trainer(how, *, start=None):
    """A trainer that tells the pids of its workers; for `how` see `train`."""
    program = f"from {__name__} import train; train({how!r}, {start!r})"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def train(how, start):
    """The trainer's program: in the middle of an epoch it says so and goes on for ever, or ends."""
    warnings.simplefilter("ignore")
    if how == "thread":
        thread = threading.Thread(target=train, args=("wait", start), daemon=True)
        thread.start()
        hang()
    dataset = Deeds(hang, at=9) if how != "end" else Deeds()
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=start)
    kept = DataLoader(Deeds(), batch_size=2, num_workers=1, multiprocessing_context=start)
    pids = pids_of(kept)
    batches = iter(loader)
    pids |= {worker.pid for worker in batches._workers}
    next(batches)
    try:
        print(*pids, flush=True)
        if how == "end":
            globals()["held"] = kept, loader, batches
            return
        list(batches)
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def told_pids(process):
    """The workers of a trainer, as soon as it is in the middle of an epoch."""
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3, process.communicate()
    return pids


@pytest.mark.parametrize(
    ("how", "start"),
    [("wait", None), ("thread", None), ("wait", "spawn")],
    ids=["fork", "thread", "spawn"],
)
def test_no_worker_outlives_a_trainer_that_is_killed(how, start):
    """Busy or waiting, forked, spawned or started by another thread: the workers go with it."""
    process = trainer(how, start=start)
    with process:
        pids = told_pids(process)
        assert not any(all_gone([pid]) for pid in pids)
        process.kill()
        process.wait()
        wait_until(lambda: all_gone(pids))
        assert process.stderr.read() == ""


@pytest.mark.parametrize("start", [None, "spawn"])
def test_an_interrupt_ends_trainer_and_workers_without_noise(start):
    """Ctrl-C reaches all of them at once: the trainer's KeyboardInterrupt is all there is."""
    process = trainer("wait", start=start)
    with process:
        pids = told_pids(process)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=6 * SOON_S)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    wait_until(lambda: all_gone(pids))


@pytest.mark.parametrize("start", [None, "spawn"])
def test_a_program_may_end_with_a_live_iterator(start):
    """The interpreter's end is silent, in time, and leaves no worker."""
    process = trainer("end", start=start)
    with process:
        pids = told_pids(process)
        out, err = process.communicate(timeout=6 * SOON_S)
    assert (process.returncode, out, err) == (0, "", "")
    wait_until(lambda: all_gone(pids))


# Nothing piles up


def held_by_this_process():
    """How many descriptors and threads this process has, and how many dead children."""
    me = f" {os.getpid()} "
    stats = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats.append(stat.read_text().rpartition(")")[2])
    zombies = sum(stat.startswith(f" Z{me}") for stat in stats)
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), zombies


@pytest.mark.parametrize("workers", ["kept", "persistent", "fresh"])
def test_many_epochs_leave_nothing_behind(workers):
    """Descriptors, threads and processes are as many after many epochs as after three."""
    dataset = Deeds(size=2)
    if workers == "fresh":
        dataset.unpicklable = lambda: None
    loader = DataLoader(dataset, num_workers=1, persistent_workers=workers == "persistent")
    seen = [pids_of(loader) for _ in range(3)]
    before = held_by_this_process()
    seen += [pids_of(loader) for _ in range(47 if workers == "fresh" else 197)]
    assert held_by_this_process() == before
    assert before[2] == 0
    assert (len(set.union(*seen)) == 1) == (workers != "fresh")


def test_many_epochs_that_break_off_leave_nothing_behind():
    """Workers that were stopped in the middle are gone with all that belonged to them."""
    loader = DataLoader(Deeds(), num_workers=2)
    before = held_by_this_process()
    for _ in range(20):
        next(iter(loader))
    assert held_by_this_process() == before


def in_a_child(action):
    """Run in a fork of this process; whether it returned something true."""
    pid = os.fork()
    if not pid:
        good = False
        try:
            good = action()
        finally:
            os._exit(0 if good else 1)
    wait_until(lambda: state_of(pid) in (None, "Z"), 4 * SOON_S)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_used_in_a_fork_does_not_disturb_its_origin(persistent):
    """Neither an epoch under way, nor workers kept, nor memory of a batch that is held."""
    loader = DataLoader(Deeds(), batch_size=2, num_workers=2, persistent_workers=persistent)
    everything = list(range(20))

    def indices():
        return [index for numbers, _ in loader for index in numbers.tolist()]

    def elsewhere():
        nonlocal batches, held
        batches = held = None  # as a child would that lets go of what it inherited
        gc.collect()
        loader._iterator = None
        return indices() == everything

    batches = iter(loader)
    pids = {worker.pid for worker in batches._workers}
    held = [next(batches)]
    assert in_a_child(elsewhere)
    assert not any(all_gone([pid]) for pid in pids)
    held += list(batches)
    assert [index for numbers, _ in held for index in numbers.tolist()] == everything
    assert in_a_child(elsewhere)
    assert pids_of(loader) == pids
