import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale
from torch.utils.data import DataLoader, Dataset


class Diabetes(Dataset):
    def __init__(self):
        x, y = load_diabetes(return_X_y=True)
        self.x, self.y = torch.tensor(scale(x)).float(), torch.tensor(scale(y)).float()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"features": self.x[i], "target": self.y[i]}


torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(10, 40), torch.nn.SiLU(), torch.nn.Linear(40, 1))
criterion = torch.nn.SmoothL1Loss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(15):
    for batch in DataLoader(Diabetes(), batch_size=26, shuffle=True):
        loss = criterion(model(batch["features"]), batch["target"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(epoch + 1, round(loss.item(), 3))
