"""Train a CNN on digits from a config dictionary."""
import torch
from sklearn.datasets import load_digits
from torch import nn

CONFIG = {
    "optimizer": {"lr": 1e-3, "weight_decay": 1e-4},
    "scale_lr_by_batch": True,
    "base_batch": 4096 * 512,
    "batch_size": 64,
    "epochs": 8,
}


class Trainer:
    def __init__(self, config):
        self.config = config
        torch.manual_seed(0)
        digits = load_digits()
        self.x = torch.tensor(digits.images).float().unsqueeze(1).div(16)
        self.y = torch.tensor(digits.target)
        self.model = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 10))
        options = dict(config["optimizer"])
        if config["scale_lr_by_batch"]:
            options["lr"] *= config["batch_size"] / config["base_batch"]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **options)

    def train_step(self, rows):
        logits = self.model(self.x[rows])
        loss = nn.functional.cross_entropy(logits, self.y[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def fit(self):
        for epoch in range(self.config["epochs"]):
            order = torch.randperm(len(self.x))
            losses = [self.train_step(rows) for rows in order.split(self.config["batch_size"])]
            print(epoch, f"{torch.stack(losses).mean():.4f}")


Trainer(CONFIG).fit()
