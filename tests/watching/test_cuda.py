"""Watching on a CUDA device: the same record as on the CPU, and nothing waits."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lampwork as lw
from lampwork._core.summary import COLUMN
from lampwork.record.reader import Record

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def network():
    """Convolutions in place and not, with a silent channel."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),  # before a norm its gradient would be rounding alone
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 36, 16),
        nn.ReLU(),
        nn.Linear(16, 10),
    )
    with torch.no_grad():
        model[1].bias[3] = -100.0
    return model


def batch_on(device):
    """Images and labels, always the same; the copy waits for the device."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, 8, 8, generator=generator).to(device)
    return x, torch.randint(10, (4,), generator=generator).to(device)


def train(model, optimizer, batch, steps, run=None):
    """Steps on one batch, without anything that waits for the device."""
    x, y = batch
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if run is not None:
            run.log(loss=loss)


def record(device, folder, *, strict=False, compiled=False, make=torch.optim.SGD, **options):
    """What a run of five steps on a device left behind, and its model."""
    model = network().to(device)
    optimizer = make(model.parameters(), lr=0.1, **options)
    batch = batch_on(device)
    with lw.watch(model, every=1, dir=folder, name=str(device), pictures=False) as run:
        called = torch.compile(model, fullgraph=True) if compiled else model
        train(called, optimizer, batch, 1, run)
        if strict:
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
        try:
            train(called, optimizer, batch, 4, run)
        finally:
            if strict:
                torch.cuda.set_sync_debug_mode("default")
        assert run._recorder._activations._compiled.traced == compiled
    return Record(run.path), model


@pytest.fixture
def exact():
    """Without TF32, whose products have ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_the_record_is_that_of_the_cpu(tmp_path, exact):
    """Counts, zeros and silent channels are equal, and numbers up to float32's rounding."""
    here, _ = record("cpu", tmp_path)
    there, _ = record("cuda", tmp_path)
    assert there.steps.tolist() == here.steps.tolist() == list(range(5))
    names = [(t.kind, t.name) for t in here.tensors]
    assert names == [(t.kind, t.name) for t in there.tensors]
    for one, other in zip(here.tensors, there.tensors, strict=True):
        a, b = here.summary(one), there.summary(other)
        for column in ("count", "nan", "posinf", "neginf", "units", "dead"):
            np.testing.assert_array_equal(a.column(column), b.column(column), err_msg=one.name)
        scale = np.sqrt(a.column("count") * a.column("sumsq")) + 1e-30
        assert (abs(a.column("sum") - b.column("sum")) / scale < 1e-3).all(), one
    dead = [t for t in there.tensors if t.kind == "output" and t.name == "2"]
    assert (there.summary(dead[0]).column("dead") == 1).all()
    loss = [record.scalar("loss")[1] for record in (here, there)]
    np.testing.assert_allclose(*loss, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.AdamW, {"foreach": True}),
    ],
)
def test_nothing_waits_for_the_device(tmp_path, caplog, make, options):
    """A watched step is allowed where waiting is an error, and every step is in the record."""
    found, _ = record("cuda", tmp_path, strict=True, make=make, **options)
    assert not [r for r in caplog.records if "ends" in r.getMessage()]
    assert found.steps.tolist() == list(range(5))
    assert len(found.scalar("loss")[1]) == 5


@pytest.mark.filterwarnings("default")  # those of Inductor about torch itself
def test_a_compiled_model_waits_for_nothing_and_has_the_rows_of_eager(tmp_path, caplog, exact):
    """Outputs and their gradients are recorded from inside the graph, where waiting is an error."""
    torch.compiler.reset()
    there, _ = record("cuda", tmp_path, strict=True, compiled=True)
    assert not [r for r in caplog.records if "ends" in r.getMessage()]
    here, _ = record("cuda", tmp_path)
    assert there.steps.tolist() == here.steps.tolist() == list(range(5))
    names = [{(t.kind, t.name) for t in found.tensors} for found in (here, there)]
    assert names[0] == names[1]
    rows = {(t.kind, t.name): here.summary(t) for t in here.tensors}
    for tensor in there.tensors:
        a, b = rows[tensor.kind, tensor.name], there.summary(tensor)
        np.testing.assert_array_equal(a.column("count"), b.column("count"), err_msg=tensor.name)
        scale = np.sqrt(a.column("count") * a.column("sumsq")) + 1e-30
        assert (abs(a.column("sum") - b.column("sum")) / scale < 1e-3).all(), tensor


def test_weights_are_those_without_us(tmp_path):
    """After some steps every weight is the same, bit for bit."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        _, watched = record("cuda", tmp_path)
        bare = network().cuda()
        train(bare, torch.optim.SGD(bare.parameters(), lr=0.1), batch_on("cuda"), 5)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in bare.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_updates_are_new_minus_old(tmp_path):
    """Of plain SGD the update's norm is the gradient's times the rate, bfloat16 included."""
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = nn.Linear(64, 64, bias=False).to("cuda", dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        with lw.watch(model, every=1, dir=tmp_path, pictures=False) as run:
            old = model.weight.detach().clone()
            model(torch.randn(32, 64, device="cuda", dtype=dtype)).square().mean().backward()
            optimizer.step()
            change = (model.weight.detach().double() - old.double()).norm().item()
        found = Record(run.path)
        (update,) = [t for t in found.tensors if t.kind == "update"]
        assert found.summary(update).norm[0] == pytest.approx(change, rel=1e-5)
        (weight,) = [t for t in found.tensors if t.kind == "weight"]
        assert found.summary(weight).column("sum")[0] == pytest.approx(old.double().sum().item())


def test_a_captured_graph_is_left_alone(tmp_path):
    """While a CUDA graph is captured nothing is measured, and it can be replayed."""
    model, x = nn.Linear(8, 8).cuda(), torch.randn(4, 8, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lw.watch(model, every=1, dir=tmp_path, pictures=False):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad()
        with torch.cuda.graph(graph):
            output = model(x)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(output, model(x))


def test_columns_of_a_gradient_scaler(tmp_path):
    """Under a GradScaler gradients are recorded unscaled."""
    model = nn.Linear(8, 1, bias=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    x = torch.randn(16, 8, device="cuda")
    with lw.watch(model, every=1, dir=tmp_path, pictures=False) as run:
        scaler.scale(model(x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    found = Record(run.path)
    for kind, total in (("grad", x.double().sum().item()), ("grad_output", 16.0)):
        (gradient,) = [t for t in found.tensors if t.kind == kind]
        row = found.summary(gradient).rows[0]
        assert row[COLUMN["sum"]] == pytest.approx(total, rel=1e-4)
