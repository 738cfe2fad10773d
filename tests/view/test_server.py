"""Who may ask the page for what, and what it answers about a record."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from starlette.testclient import TestClient

from lampwork.record.reader import Record
from lampwork.view.server import app, listen

PAGE = {"index.html": b"<!doctype html>", "assets/page-1a2b.js": b"1"}
HOME = "http://127.0.0.1:8265"


@pytest.fixture
def client(mlp):
    """A client of the page over the folder of the run `mlp`."""
    mlp.read()
    return TestClient(app(mlp.folder.parent, PAGE), base_url=HOME)


@pytest.fixture
def bare(tmp_path):
    """A client of the page over a folder without runs: what is refused, is refused anywhere."""
    return TestClient(app(tmp_path, PAGE), base_url=HOME)


def array(response) -> tuple[dict, np.ndarray]:
    """The header and the values of a binary answer."""
    assert response.status_code == 200, response.text
    (length,) = struct.unpack_from("<I", response.content)
    header = json.loads(response.content[4 : 4 + length])
    values = np.frombuffer(response.content, "<f4", offset=4 + length)
    return header, values.reshape(header["shape"])


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8265", "10.0.0.1:8265", "",
     "127.0.0.1:8265:1", "127.0.0.1@evil.example", "[::2]", "0.0.0.0:8265"],
)  # fmt: skip
def test_a_foreign_host_is_refused(bare, host):
    """A name that was made to point at this machine by somebody else gets nothing."""
    assert bare.get("/api/runs", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8265", "localhost:9000", "LOCALHOST", "[::1]:8265"])
def test_names_of_this_machine_are_served(bare, host):
    """Loopback by any of its names and any port passes, so that a tunnel works."""
    assert bare.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8265", "http://127.0.0.1:1", "//["]
)
def test_a_foreign_origin_is_refused(bare, origin):
    """A script of another site, also of another port, gets nothing."""
    assert bare.get("/api/runs", headers={"origin": origin}).status_code == 403
    assert bare.get("/api/runs", headers={"origin": HOME}).status_code == 200


def test_an_embedded_request_of_another_site_is_refused(bare):
    """A picture tag of another site sends no Origin, but its browser tells all the same."""
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert bare.get("/api/runs", headers=foreign).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert bare.get("/", headers=link).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/runs/mlp/overview", "/nothing"])
def test_writes_are_refused(bare, method, path):
    """The page only reads: every other method is refused at every address."""
    response = bare.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "name",
    ["..", "%2e%2e", "..%2fmlp", "%2e%2e%2f%2e%2e%2fetc", "%2fetc", ".", "mlp%00", "mlp%2f..",
     "..%5cmlp", "mlp/../mlp", "link", "linked_file"],
)  # fmt: skip
def test_no_path_leaves_the_runs_folder(client, mlp, tmp_path, name):
    """Dots, absolute paths, encoded ones and links to elsewhere lead to no run."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rank0.sqlite").write_bytes((mlp.folder / "rank0.sqlite").read_bytes())
    (mlp.folder.parent / "link").symlink_to(outside)
    (mlp.folder.parent / "linked_file").mkdir()
    (mlp.folder.parent / "linked_file" / "rank0.sqlite").symlink_to(outside / "rank0.sqlite")
    response = client.get(f"/api/runs/{name}/overview")
    # A client may resolve the dots itself; then the plain name is asked for, which is fine.
    assert response.status_code == 404 or response.request.url.path == "/api/runs/mlp/overview"
    assert [run["run"] for run in client.get("/api/runs").json()["runs"]] == ["mlp"]


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd"]
)
def test_only_the_files_of_the_page_are_served(bare, path):
    """There is no way from an address to a file on disk."""
    assert bare.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/", "/api/runs", "/nothing", "/api/runs/mlp/heat"])
def test_every_answer_is_locked_down(bare, path):
    """Each answer, errors included, forbids foreign and inline scripts, framing and guessing."""
    headers = bare.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_the_overview_tells_the_facts(client):
    """The facts of a run come from its record."""
    told = client.get("/api/runs/mlp/overview").json()
    assert (told["model"], told["parameters"], told["steps"]) == ("Net", 1234, 31)
    assert told["finished"] is True


def test_findings_come_with_a_verdict(client):
    """The page gets the verdict and its findings in the order of cause."""
    told = client.get("/api/runs/mlp/findings").json()
    assert told["verdict"] in ("pass", "warn", "fail")
    assert (told["verdict"] == "pass") == (not told["findings"])


def test_scalars_are_the_logged_ones(client):
    """A short curve comes point by point, a long one as mean and envelope of its stretches."""
    loss = client.get("/api/runs/mlp/scalars").json()[0]
    expected = [2 * np.exp(-step / 10) for step in range(31)]
    assert loss["name"] == "loss"
    assert loss["steps"] == list(range(31))
    np.testing.assert_allclose(loss["mean"], expected, rtol=1e-5)
    short = client.get("/api/runs/mlp/scalars?points=2").json()[0]
    np.testing.assert_allclose(short["mean"], [np.mean(expected[:16]), np.mean(expected[16:])],
                               rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(short["high"], [expected[0], expected[16]], rtol=1e-5)
    np.testing.assert_allclose(short["low"], [expected[15], expected[30]], rtol=1e-5)


def test_a_loss_that_is_not_finite_is_told(build):
    """NaN and infinity are not in JSON, so they come as steps with a word."""
    made = build("broken", steps=3)
    for step, value in enumerate([1.0, float("nan"), float("inf")]):
        made.writer.scalar(step, "loss", value)
    made.read()
    client = TestClient(app(made.folder.parent, PAGE), base_url=HOME)
    (loss,) = client.get("/api/runs/broken/scalars").json()
    assert loss["mean"] == [1.0, None, None]
    assert loss["broken"] == [[1, "nan"], [2, "inf"]]


def test_the_heat_map_is_the_statistic_by_depth(client, mlp):
    """Every row of the heat map is that tensor's statistic, rows in the order of execution."""
    header, values = array(client.get("/api/runs/mlp/heat?kind=weight&statistic=rms"))
    names = {one["id"]: one["name"] for one in client.get("/api/runs/mlp/tensors").json()}
    rows = [names[number] for number in header["ids"]]
    assert rows == [f"layers.{i}.{kind}" for i in range(6) for kind in ("weight", "bias")]
    assert header["starts"] == header["ends"] == [0, 10, 20, 30]
    for i, name in enumerate(rows):
        arrays = [mlp.arrays["weight", name, step] for step in header["starts"]]
        expected = [np.sqrt(np.mean(array**2)) for array in arrays]
        np.testing.assert_allclose(values[i], expected, rtol=1e-5)


def test_a_zoomed_heat_map_holds_only_its_steps(client):
    """A zoom reads the steps between two, both included, folded to the columns asked for."""
    header, values = array(client.get("/api/runs/mlp/heat?from=10&to=30&points=1"))
    assert (header["starts"], header["ends"]) == ([10], [30])
    _, whole = array(client.get("/api/runs/mlp/heat"))
    together = np.sqrt((whole[:, 1:].astype(float) ** 2).mean(axis=1))
    np.testing.assert_allclose(values[:, 0], together, rtol=1e-5)


def test_the_share_of_waiting_is_told_step_by_step(build):
    """From what each step noted of its loaders come the present share of waiting and throughput."""
    made = build("fed", steps=41)
    for step in range(0, 41, 10):
        made.add("output", "fc", step, np.ones(3))
        # Steps take 0.5 s; a tenth of the time is waited for data, later a half.
        slow = max(step - 30, 0)
        loaded = {"wait_s": 0.5 * (0.1 * (step - slow) + 0.5 * slow), "samples": 32 * step}
        made.note(step, loaded=loaded)
    made.read()
    client = TestClient(app(made.folder.parent, PAGE), base_url=HOME)
    told = client.get("/api/runs/fed/timing").json()
    assert told["curve"]["steps"] == told["share_curve"]["steps"] == [10, 20, 30, 40]
    np.testing.assert_allclose(told["share_curve"]["mean"], [0.1, 0.1, 0.1, 0.5], rtol=1e-5)
    np.testing.assert_allclose(told["rate_curve"]["mean"], [64] * 4, rtol=1e-5)
    assert (told["data_share"], told["samples_per_s"]) == (pytest.approx(0.5), pytest.approx(64))


def test_a_ratio_is_of_an_update_and_its_weight(client, mlp):
    """The rms of each update is divided by the rms of the weight of the same name."""
    _, values = array(client.get("/api/runs/mlp/heat?kind=update&statistic=update_ratio"))
    rms = lambda kind: np.sqrt(np.mean(mlp.arrays[kind, "layers.0.weight", 10] ** 2))  # noqa: E731
    assert values[0, 1] == pytest.approx(rms("update") / rms("weight"), rel=1e-5)
    assert np.isnan(values[1]).all()  # a bias that is zero


def test_the_plan_and_its_check_are_shown(build):
    """What a run was told of its first values, and the signal of the first step, come unchanged."""
    rows = [{"name": "fc.weight", "std": float("nan")}]
    made = build("planned", plan={"seed": 3, "rows": rows}, check={"verdict": "PASS"})
    made.add("output", "fc", 0, np.full(4, 3.0), module="Linear")
    made.add("grad_output", "fc", 0, np.full(4, 0.5))
    made.add("weight", "fc.weight", 0, np.array([[-1.0, 1.0]]))
    made.read()
    client = TestClient(app(made.folder.parent, PAGE), base_url=HOME)
    told = client.get("/api/runs/planned/initialisation").json()
    assert told["plan"] == {"seed": 3, "rows": [{"name": "fc.weight", "std": "NaN"}]}
    assert told["check"] == {"verdict": "PASS"}
    (layer,) = told["layers"]
    assert (layer["output_rms"], layer["grad_rms"], layer["weight_std"]) == (3.0, 0.5, 1.0)


def test_a_run_that_ended_tells_its_own_verdict(mlp):
    """Findings are those of the run's report.json, until then those of the rules."""
    mlp.read()
    client = TestClient(app(mlp.folder.parent, PAGE), base_url=HOME)
    finding = {"code": "act-dead", "severity": "fail", "where": "layers.0", "step": 3,
               "evidence": {"dead_share": 0.5}, "advice": "Do this.\nso()"}  # fmt: skip
    (mlp.folder / "report.json").write_text(json.dumps({"findings": [finding]}))
    told = client.get("/api/runs/mlp/findings").json()
    assert (told["verdict"], [one["code"] for one in told["findings"]]) == ("fail", ["act-dead"])
    assert told["findings"][0]["evidence"] == [["dead share", "50 %"]]
    assert told["findings"][0]["fix"] == "so()"


def test_a_broken_tensor_is_infinite_on_the_heat_map(build):
    """NaN among the elements shows also where neighbouring steps are folded together."""
    made = build("broken")
    for step in range(4):
        made.add("output", "fc", step, np.array([1.0, np.nan if step == 2 else 1.0]))
    made.read()
    client = TestClient(app(made.folder.parent, PAGE), base_url=HOME)
    _, values = array(client.get("/api/runs/broken/heat?points=2"))
    np.testing.assert_array_equal(values, [[1.0, np.inf]])


def test_a_histogram_is_a_share_of_elements(client, mlp):
    """Each column of a histogram is the recorded counts over the number of elements."""
    record = Record(mlp.folder)
    tensor = record.find("layers.2.weight", "weight")
    header, values = array(client.get(f"/api/runs/mlp/tensors/{tensor.id}/histogram"))
    summary = record.summary(tensor)
    assert header["starts"] == [0, 10, 20, 30]
    np.testing.assert_allclose(values, summary.histogram / summary.count[:, None])


def test_one_statistic_is_that_of_all(client, mlp):
    """Asked for alone, a curve is the one that comes among all; of an update also its ratio."""
    record = Record(mlp.folder)
    tensor = record.find("layers.2.weight", "update")
    path = f"/api/runs/mlp/tensors/{tensor.id}"
    together = client.get(path).json()
    for name, curve in together["curves"].items():
        alone = client.get(f"{path}?statistic={name}").json()
        assert alone == {**together, "curves": {name: curve}}


def test_a_picture_is_a_png_of_its_pixels(build, tmp_path):
    """The PNG, read by another library, has the recorded pixels, image below image."""
    from matplotlib.image import imread

    record = build("pictured").add_pictures().read()
    client = TestClient(app(record.path.parent, PAGE), base_url=HOME)
    (tmp_path / "film.png").write_bytes(client.get("/api/runs/pictured/pictures/1.png").content)
    found = np.round(imread(tmp_path / "film.png") * 255).astype(np.uint8)
    np.testing.assert_array_equal(found, record.pictures[0].pixels.reshape(-1, 5))


@pytest.mark.parametrize(
    "path",
    ["heat?kind=nothing", "heat?statistic=nothing", "tensors/999", "tensors/-1", "tensors/x",
     "pictures/99.png", "scalars?points=many", "scalars?from=-5", "tensors/9/histogram?to=1e3",
     "tensors/0?statistic=nothing"],
)  # fmt: skip
def test_what_cannot_be_meant_is_an_error_with_a_cure(client, path):
    """A wrong argument gives an answer that says what would be right."""
    response = client.get(f"/api/runs/mlp/{path}")
    assert response.status_code == 400 or "999" in path
    assert ":" in response.json()["error"]


def test_a_folder_without_runs_is_an_empty_list(tmp_path):
    """The page may be opened before anything was recorded."""
    client = TestClient(app(tmp_path / "none", PAGE), base_url=HOME)
    assert client.get("/api/runs").json()["runs"] == []


def test_a_taken_port_gives_way_only_where_none_was_asked_for():
    """Without --port another free port is taken; with it the error names the port."""
    with listen(0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} on 127.0.0.1 cannot be used"):
            listen(port)
        assert taken.getsockname()[0] == "127.0.0.1"
