import torch
from sklearn.datasets import load_digits

torch.manual_seed(0)


class Dense(torch.nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(n_in, n_out))
        self.b = torch.nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return x @ self.w + self.b


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.d1 = Dense(64, 128)
        self.d2 = Dense(128, 128)
        self.d3 = Dense(128, 128)
        self.d4 = Dense(128, 128)
        self.d5 = Dense(128, 10)

    def forward(self, x):
        for layer in (self.d1, self.d2, self.d3, self.d4):
            x = torch.relu(layer(x))
        return self.d5(x)


digits = load_digits()
x_all, y_all = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
net = Net()
optim = torch.optim.SGD(net.parameters(), lr=1e-3)
for it in range(200):
    batch = torch.randint(0, len(x_all), (32,))
    loss = torch.nn.functional.cross_entropy(net(x_all[batch]), y_all[batch])
    optim.zero_grad()
    loss.backward()
    optim.step()
    if it % 40 == 0:
        print(it, "%.3f" % loss.item())
