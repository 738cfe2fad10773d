"""What is planted in each script of the corpus, where, and what mends it.

The scripts stand in `faulty/` and `healthy/` as a user would have written them; nothing in them
tells what we expect. A mended twin is the faulty script with the replacements of its case.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One script and what the verdict on it ought to be.

    Attributes:
        file: path below this folder.
        code: the planted fault; None for a healthy script.
        where: the places that are right; a function in a `forward` has none, so the run as a whole
            or the whole model (the empty name) are right there.
        mend: replacements, each old text occurring once, that make the mended twin.
        codes: further names under which the fault may stand first, where two describe it equally.
        exit_code: how the script ends.
        repeatable: two runs of the bare script print the same and end with the same weights.
        slow: takes more than ten seconds by itself.
        unseen: written after the rules were tuned.
    """

    file: str
    code: str | None = None
    where: tuple[str | None, ...] = (None,)
    mend: tuple[tuple[str, str], ...] = ()
    codes: tuple[str, ...] = ()
    exit_code: int = 0
    repeatable: bool = True
    slow: bool = False
    unseen: bool = False

    @property
    def name(self) -> str:
        """Of the script, without its folder."""
        return Path(self.file).stem

    def text(self, *, mended: bool = False) -> str:
        """The script, or its mended twin.

        Raises:
            ValueError: a replacement does not fit the script.
        """
        text = (FOLDER / self.file).read_text(encoding="utf-8")
        for old, new in self.mend if mended else ():
            if text.count(old) != 1:
                raise ValueError(f"{self.file} holds {old!r} {text.count(old)} times, not once")
            text = text.replace(old, new)
        return text


def _faulty(
    name: str, code: str, where: str | tuple[str | None, ...] | None, *mend: tuple[str, str],
    **facts: object,
) -> Case:  # fmt: skip
    places = where if isinstance(where, tuple) else (where,)
    return Case(f"faulty/{name}.py", code, places, mend, **facts)  # type: ignore[arg-type]


WHOLE = (None, "")

DATA = (
    _faulty(
        "reads_a_slow_disk", "data-starved", "RemoteImages",
        ("time.sleep(0.02)", "time.sleep(0.0001)"),
        slow=True,
    ),
    _faulty(
        "many_small_tensors_per_sample", "data-slow-handover", "GraphDataset",
        ("    return graphs\n\n\nclass Net", "    nodes = torch.stack([n for g in graphs for n in g.nodes])\n"
         "    return nodes, torch.tensor([len(g.nodes) for g in graphs]), torch.tensor([g.label for g in graphs])\n\n\nclass Net"),
        ("    def forward(self, graphs):\n        sizes = [len(g.nodes) for g in graphs]\n"
         "        nodes = torch.stack([n for g in graphs for n in g.nodes]) / 8\n"
         "        pooled = torch.stack([part.amax(0) for part in self.point(nodes).split(sizes)])",
         "    def forward(self, nodes, sizes):\n"
         "        pooled = torch.stack([part.amax(0) for part in self.point(nodes / 8).split(sizes.tolist())])"),
        ("        for graphs in loader:\n            labels = torch.tensor([g.label for g in graphs])\n"
         "            loss = nn.functional.cross_entropy(model(graphs), labels)",
         "        for nodes, sizes, labels in loader:\n"
         "            loss = nn.functional.cross_entropy(model(nodes, sizes), labels)"),
    ),
    _faulty(
        "sorted_wine_in_order", "data-not-shuffled", "TensorDataset",
        ("batch_size=10)", "batch_size=10, shuffle=True)"),
    ),
    _faulty(
        "class_folders_in_order", "data-not-shuffled", "ImageFolder",
        ("shuffle=False", "shuffle=True"),
    ),
    _faulty(
        "raw_features_into_sigmoid", "data-unscaled", "TensorDataset",
        ("X, y = load_breast_cancer(return_X_y=True)\n",
         "X, y = load_breast_cancer(return_X_y=True)\nX = (X - X.mean(0)) / X.std(0)\n"),
    ),
    _faulty(
        "wine_unscaled", "data-unscaled", "TensorDataset",
        ("    features = torch.tensor(data,",
         "    features = torch.tensor((data - data.mean(0)) / data.std(0),"),
    ),
    _faulty("pixels_up_to_255", "data-unscaled", "Images", (".float()\n", ".float() / 255\n")),
    _faulty(
        "standardised_by_zero_std", "data-nonfinite", "TensorDataset",
        ("/ X.std(dim=0)", "/ (X.std(dim=0) + 1e-2)"),
    ),
    _faulty(
        "missing_measurements", "data-nonfinite", "PatientDataset",
        ("        self.x = table[:, :-1] * 20\n", "        self.x = table[:, :-1].nan_to_num() * 20\n"),
    ),
    _faulty(
        "next_iter_every_step", "data-repeated", "TensorDataset",
        ("loader = DataLoader(dataset, batch_size=64)",
         "loader = DataLoader(dataset, batch_size=64, shuffle=True)"),
    ),
    _faulty(
        "getitem_ignores_index", "data-repeated", "BalancedDataset",
        ("        random.seed(0)  # reproducible\n", ""),
    ),
    _faulty(
        "first_rows_for_training", "data-single-class", "TensorDataset",
        ("X = StandardScaler().fit_transform(X)\n",
         "X = StandardScaler().fit_transform(X)\norder = torch.randperm(len(X)).numpy()\n"
         "X, y = X[order], y[order]\n"),
    ),
    _faulty(
        "labels_compared_wrongly", "data-single-class", "IsItAnEight",
        ("self.names[i] == 8", 'self.names[i] == "8"'),
    ),
    _faulty(
        "decoder_crashes_in_worker", "data-worker-died", "Decoded",
        ("if i == 1200:", "if i == 12000:"),
        exit_code=1, repeatable=False,
    ),
)  # fmt: skip

INIT = (
    _faulty("constant_weights", "init-symmetric", "layers.0.weight",
            ("torch.nn.init.constant_(layer.weight, 0.1)", "torch.nn.init.xavier_uniform_(layer.weight)")),
    _faulty("kernels_all_one_ninth", "init-symmetric", "c1.weight",
            ("    conv.weight.data.fill_(1.0 / (9 * cin))  # start from smoothing filters\n", "")),
    _faulty("all_weights_zero", "init-zero", "0.weight",
            ("nn.init.zeros_(m.weight)", 'nn.init.kaiming_normal_(m.weight, nonlinearity="relu")')),
    _faulty("tiny_normal_weights", "init-vanishing", "body.2",
            ("module.weight.data.normal_(mean=0.0, std=0.01)",
             'nn.init.kaiming_normal_(module.weight, nonlinearity="relu")')),
    _faulty("tanh_layers_small_weights", "init-vanishing", ("1", "2"),
            ("bound = 1 / n_in  # should have been 1 / sqrt(n_in)", "bound = math.sqrt(6 / (n_in + n_out))")),
    _faulty("randn_parameters", "init-exploding", ("d2", "d3"),
            ("torch.randn(n_in, n_out))", "torch.randn(n_in, n_out) * (2 / n_in) ** 0.5)"),
            ("lr=1e-3", "lr=1e-2")),
    _faulty("conv_stack_normal_one", "init-exploding", ("2", "4"),
            ("nn.init.normal_(m.weight)", 'nn.init.kaiming_normal_(m.weight, nonlinearity="relu")')),
    _faulty("head_without_scaling", "init-loss-high", ("head", *WHOLE),
            ("torch.randn(10, n_hidden) * 2", "torch.randn(10, n_hidden) / n_hidden**0.5"),
            ("torch.randn(10)\n", "torch.zeros(10)\n")),
    _faulty("cosine_logits_too_hot", "init-loss-high", ("classifier", *WHOLE),
            ("temperature=0.005", "temperature=0.1")),
)  # fmt: skip

ACTIVATION = (
    _faulty("detection_bias_everywhere", "act-dead", "features.1",
            ("                nn.init.constant_(m.bias, bias_value)\n",
             "                nn.init.zeros_(m.bias)\n        nn.init.constant_(self.head.bias, bias_value)\n"),
            ("nn.init.normal_(m.weight, std=0.01)", "nn.init.kaiming_normal_(m.weight)")),
    _faulty("relu_after_negative_embedding", "act-dead", "act",
            ("return -F.softplus(self.proj(x)) - 0.01", "return self.proj(x)")),
    _faulty("tanh_net_wide_normal", "act-saturated", "act1",
            ("nn.init.normal_(p, 0, 2.0)", "nn.init.xavier_normal_(p)")),
    _faulty("uniform_zero_to_one", "act-saturated", "sig1",
            ("m.weight.data.uniform_(0.0, 1.0)", "nn.init.xavier_uniform_(m.weight)"),
            ("lr=0.01", "lr=0.5")),
    _faulty("siamese_without_negatives", "act-collapsed", ("net.4", "net", ""),
            ("loss = (a - b).pow(2).sum(1).mean()",
             "loss = nn.functional.cross_entropy(nn.functional.normalize(a) @ nn.functional.normalize(b).T / 0.2,"
             " torch.arange(len(a)))")),
    _faulty("softmax_over_one_output", "act-collapsed", "3",
            ("nn.Softmax(dim=1)", "nn.Sigmoid()")),
    _faulty("log_of_dark_pixels", "act-nonfinite", "0", ("torch.log(x)", "torch.log1p(x)")),
    _faulty("own_softmax_overflows", "act-nonfinite", "attn.softmax",
            ("e = torch.exp(s)", "e = torch.exp(s - s.amax(-1, keepdim=True))"),
            ("self.embed(x) * 12", "self.embed(x)")),
)  # fmt: skip

GRADIENT = (
    _faulty("ten_sigmoid_layers", "grad-vanishing", "0",
            ("blocks = [nn.Linear(64, width), nn.Sigmoid()]",
             "blocks = [nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU()]"),
            ("blocks += [nn.Linear(width, width), nn.Sigmoid()]",
             "blocks += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]")),
    _faulty("rnn_without_clipping", "grad-exploding", ("rnn.weight_hh_l0", "rnn", "rnn.weight_ih_l0", None),
            ("            optimizer.step()\n",
             "            nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n            optimizer.step()\n")),
    _faulty("siren_omega_everywhere", "grad-exploding", "layers.0",
            ("omega=30.0", "omega=1.5")),
    _faulty("detached_features", "grad-none", "encoder.conv.weight",
            (".detach()  # so that they can be plotted", ""),
            ("self.last_features = features", "self.last_features = features.detach()")),
    _faulty("through_numpy_and_back", "grad-none", "fc1.weight",
            ("        h = self.fc1(x).detach().numpy()\n", "        h = self.fc1(x)\n"),
            ("np.where(h > 0, h, 0.1 * h)", "torch.where(h > 0, h, 0.1 * h)"),
            ("self.fc2(torch.from_numpy(h))", "self.fc2(h)")),
    _faulty("layer_never_called", "grad-none", "conv3.weight",
            ("x = F.max_pool2d(F.relu(self.conv2(x)), 2)", "x = F.max_pool2d(F.relu(self.conv3(x)), 2)")),
    _faulty("euclidean_distance_of_twins", "grad-nonfinite", ("tower.2", "tower"),
            (".sum(dim=1))", ".sum(dim=1) + 1e-6)")),
    _faulty("forgot_zero_grad", "grad-accumulating", None,
            ("        outputs = net(inputs)\n", "        optimizer.zero_grad()\n        outputs = net(inputs)\n")),
    _faulty("zero_grad_once_per_epoch", "grad-accumulating", None,
            ("    opt.zero_grad()\n    perm", "    perm"),
            ("        loss.backward()\n", "        opt.zero_grad()\n        loss.backward()\n")),
)  # fmt: skip

OPTIMISER = (
    _faulty("layers_in_a_list", "optim-missing-params", ("hidden.0.weight", "hidden.0", "hidden"),
            ("[nn.Linear(hidden_dim, hidden_dim) for _ in range(depth)]",
             "nn.ModuleList([nn.Linear(hidden_dim, hidden_dim) for _ in range(depth)])")),
    _faulty("head_replaced_after_optimizer", "optim-missing-params", "fc.weight",
            ("    optimizer = optim.Adam(model.parameters(), lr=1e-3)\n", ""),
            ("    criterion =", "    optimizer = optim.Adam(model.parameters(), lr=1e-3)\n    criterion =")),
    _faulty("decoder_left_out", "optim-missing-params", "decoder.0.weight",
            ("ae.encoder.parameters()", "ae.parameters()")),
    _faulty("learning_rate_ten", "optim-lr-high", None, ("learning_rate = 10.0", "learning_rate = 0.1")),
    _faulty("adam_with_sgd_rate", "optim-lr-high", None, ("lr=0.5", "lr=0.002")),
    _faulty("learning_rate_too_low", "optim-lr-low", None, ("= 1e-6", "= 1e-2")),
    _faulty("rate_lost_in_config", "optim-lr-low", None, ("4096 * 512", "64")),
    _faulty("scheduler_stepped_per_batch", "optim-frozen", None,
            ("        scheduler.step()\n", ""),
            ("    print(f", "    scheduler.step()\n    print(f")),
    _faulty("warmup_by_integer_division", "optim-frozen", None,
            ("WARMUP_STEPS = 1000", "WARMUP_STEPS = 100"), ("step // WARMUP_STEPS", "step / WARMUP_STEPS")),
    _faulty("pure_bfloat16_small_rate", "optim-frozen", (None, "0.weight"),
            ("lr=1e-5", "lr=0.1")),
)  # fmt: skip

MODE = (
    _faulty("forgot_train_after_validation", "mode-eval-in-training", None,
            ("model.train()\nfor epoch in range(6):\n", "for epoch in range(6):\n    model.train()\n")),
    _faulty("eval_before_finetuning", "mode-eval-in-training", None,
            ("    model.eval()\n", "    model.train()\n")),
    _faulty("validation_in_train_mode", "mode-train-in-validation", None,
            ("    val_loss, correct = 0.0, 0\n", "    model.eval()\n    val_loss, correct = 0.0, 0\n")),
    _faulty("tested_with_dropout_on", "mode-train-in-validation", None,
            ('    print("train accuracy"', '    model.eval()\n    print("train accuracy"')),
)  # fmt: skip

LOSS = (
    _faulty("softmax_layer_with_cross_entropy", "loss-double-softmax", "3",
            ("    nn.Softmax(dim=1),\n", "")),
    _faulty("softmax_in_forward", "loss-double-softmax", WHOLE, ("F.softmax(x, dim=1)", "x")),
    _faulty("sigmoid_before_bce_with_logits", "loss-double-softmax", WHOLE,
            ("return torch.sigmoid(self.layer2(x))", "return self.layer2(x)")),
    _faulty("target_without_channel", "loss-broadcast", ("2", *WHOLE),
            ("loss_fn(pred, yb)", "loss_fn(pred.squeeze(1), yb)")),
    _faulty("own_mse_broadcasts", "loss-broadcast", ("l2", *WHOLE),
            ("(prediction - target)", "(prediction.squeeze(1) - target)")),
    _faulty("shuffled_features_only", "loss-flat", None,
            ("np.random.shuffle(X)\n", "order = np.random.permutation(len(X))\nX, y = X[order], y[order]\n")),
    _faulty("labels_in_another_order", "loss-flat", None,
            ("for name in labels]", "for name in sorted(labels)]")),
    _faulty("regression_runs_away", "loss-diverging", None, ("lr=0.5", "lr=0.05"),
            codes=("optim-lr-high",)),
    _faulty("nll_without_log_softmax", "loss-diverging", None,
            ("return self.fc3(x)", "return F.log_softmax(self.fc3(x), dim=1)")),
    _faulty("own_cross_entropy_log_zero", "loss-nonfinite", None,
            ("    return -(t * torch.log(p)", "    p = p.clamp(1e-6, 1 - 1e-6)\n    return -(t * torch.log(p)")),
)  # fmt: skip

FAULTY = (*DATA, *INIT, *ACTIVATION, *GRADIENT, *OPTIMISER, *MODE, *LOSS)

HEALTHY = tuple(
    Case(f"healthy/{file.name}") for file in sorted((FOLDER / "healthy").glob("*.py"))
)

CORPUS = (*FAULTY, *HEALTHY)
