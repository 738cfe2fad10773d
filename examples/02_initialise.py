"""First weights: from a file, constant, of fixed variance, Xavier, He; and why it matters."""

import tempfile

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

import lampwork as lw

torch.set_num_threads(1)  # the matrices are too small to share
images, labels = load_digits(return_X_y=True)
x, y = (torch.tensor(images).float() - 4.9) / 6.0, torch.tensor(labels)  # mean 0, variance 1


def mlp(depth):
    hidden = [part for _ in range(depth - 2) for part in (nn.Linear(128, 128), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), *hidden, nn.Linear(128, 10))


# Layer by layer, as torch users know it: Module.apply calls a function on every module.
model = mlp(depth=3)
model.apply(lw.init.layerwise("zeros"))  # all weights 0: every unit stays like the others
model.apply(lw.init.layerwise("constant", val=0.01))  # the same fault
model.apply(lw.init.layerwise("normal", std=0.02))  # Gaussian, fixed variance
model.apply(lw.init.layerwise("uniform", a=-0.05, b=0.05))  # uniform, fixed variance
model.apply(lw.init.layerwise("xavier_uniform", bias=0.0))  # variance 2 / (fan_in + fan_out)
model.apply(lw.init.layerwise("kaiming_normal", nonlinearity="relu"))  # He: variance 2 / fan_in
assert 0.12 < model[2].weight.std() < 0.13  # √(2/128)

# As a plan: look at it before it is applied. The example input shows what follows each layer.
plan = lw.init.plan(model, x[:2], rules=[("4.weight", ("normal", {"std": 0.01}))])
print(plan)
plan.apply(seed=0)
for scheme in ("zeros", ("constant", {"val": 0.01}), "xavier_normal", "kaiming_uniform"):
    lw.init.plan(model, scheme=scheme).apply(seed=0)

# From a file, as far as it fits: here the classes differ, and the report says so.
with tempfile.TemporaryDirectory() as folder:
    save_file(mlp(3).state_dict() | {"4.weight": torch.zeros(5, 128)}, f"{folder}/w.safetensors")
    report = lw.init.pretrained(model, f"{folder}/w.safetensors")
assert report.mismatched == {"4.weight": ((10, 128), (5, 128))}


def accuracy_after_training(scheme):
    torch.manual_seed(0)
    model = mlp(depth=10)
    lw.init.initialize(model, scheme=scheme)  # plan and apply
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for batch in torch.randint(1400, (200, 128)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()


he, small = (accuracy_after_training(s) for s in ("kaiming_normal", ("normal", {"std": 0.01})))
assert he > 0.7 > 0.2 > small, f"He {he:.2f}, N(0, 0.01²) {small:.2f}"
