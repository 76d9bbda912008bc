"""The service: what it answers, what it refuses, and that it neither falls over nor grows above its capacity."""

import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from PIL import Image

from disturbances import wait_for
from image_files import ONE_OF_EACH, RGB, deep, pillow, png
from places import ROOT
from radosgw import free_port
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ERROR_TYPES, UsageError
from sgllie.images import decode
from sgllie.images.png import chunk

pytest.importorskip("ray.serve", exc_type=ImportError)
pytestmark = [pytest.mark.jobs, pytest.mark.slow]

from sgllie.distributed.serve import CODES, PIXEL, ServiceSettings, build  # noqa: E402

CONFIG = yaml.safe_load((ROOT / "cluster/serve.yaml").read_text())
SLOW = 120


@contextmanager
def service(args):
    """The address of a service with one replica."""
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build(args), name="sgllie", route_prefix="/")
        yield f"http://127.0.0.1:{port}/"
    finally:
        serve.shutdown()


@pytest.fixture(scope="module")
def address(ray_session):
    with service({"max_megabytes": 1, "queue": 3, "max_pixels": 1_000_000}) as address:
        yield address


def ask(address, data=None, method="POST"):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(address, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SLOW) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_an_image_comes_back_as_the_job_writes_it(address, kind):
    job = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))("", ONE_OF_EACH[kind])
    status, headers, body = ask(address, ONE_OF_EACH[kind])
    assert status == 200
    assert body == job.data
    assert headers["Content-Type"] == f"image/{job.row['format']}"
    for name, value in job.row.items():
        sent = headers[f"X-Sgllie-{name.replace('_', '-')}"]
        if not name.endswith("_ms"):
            assert sent == (f"{value:.6g}" if isinstance(value, float) else value if value is None else str(value))


def test_metadata_is_kept(address):
    exif = Image.Exif()
    exif[0x010E] = "a dark room"
    _, _, body = ask(address, pillow(RGB, "JPEG", exif=exif, icc_profile=b"x" * 200))
    assert Image.open(io.BytesIO(body)).getexif()[0x010E] == "a dark room"


REFUSED = {
    "nothing": (b"", 422, "empty"),
    "text": (b"hello", 415, "not_an_image"),
    "half of it": (ONE_OF_EACH["jpeg"][:400], 422, None),
    "a video": (bytes(4) + b"ftypisom" + bytes(40), 415, "unsupported"),
    "hdr": (png(deep(RGB), 2, 16, chunk(b"cICP", bytes((9, 16, 0, 1)))), 415, "hdr"),
    "many pixels": (pillow(Image.new("L", (1100, 1000)), "PNG"), 413, "too_large"),
    "many bytes": (bytes(1_000_001), 413, "too_large"),
    "many more than a socket holds": (bytes(20_000_000), 413, "too_large"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_enhanced_is_refused_in_a_sentence(address, kind):
    data, code, error_type = REFUSED[kind]
    status, headers, body = ask(address, data)
    said = json.loads(body)
    assert status == code, said
    assert headers["Content-Type"] == "application/json"
    assert error_type in (said["error_type"], None)
    assert "\n" not in said["error"]


def test_a_request_without_a_length_is_cut_off_at_the_limit(address):
    def endless():
        for _ in range(40):
            yield bytes(100_000)

    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SLOW)
    connection.request("POST", "/", body=endless(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_refused(address, method):
    status, headers, _ = ask(address, b"x", method)
    assert (status, headers["Allow"]) == (405, "GET, POST")


def test_it_says_what_it_does(address):
    status, _, body = ask(address, method="GET")
    said = json.loads(body)
    assert (status, said["method"], said["weights"]["name"]) == (200, "sgz", "sgllie")


def test_it_says_that_it_is_well(address):
    assert ask(f"{address}-/healthz", method="GET")[0] == 200


def test_above_its_capacity_it_refuses_and_goes_on(address):
    """Twenty clients at once, three places: some are served, the others are told when to come back."""
    data = pillow(Image.fromarray(RGB).resize((1200, 800)), "JPEG")
    expected = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))("", data).data
    answers = []

    def client():
        for _ in range(3):
            answers.append(ask(address, data))

    threads = [threading.Thread(target=client) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(status for status, _, _ in answers)
    assert set(counts) == {200, 503}
    assert all(body == expected for status, _, body in answers if status == 200)
    waits = [int(headers["Retry-After"]) for status, headers, _ in answers if status == 503]
    assert 1 <= min(waits) <= max(waits) < SLOW
    assert ask(address, data)[0] == 200


def test_a_replica_that_was_killed_is_started_anew(address):
    (replica,) = [one for one in psutil.process_iter(["cmdline"]) if "ServeReplica:sgllie" in str(one.info["cmdline"])]
    replica.kill()
    wait_for(lambda: ask(address, ONE_OF_EACH["jpeg"])[0] == 200, SLOW)


@pytest.mark.parametrize("name", ["input", "output", "strenght", "num_replicas"])
def test_an_unknown_option_is_one_sentence(name):
    with pytest.raises(UsageError, match=f"args is {name}"):
        build({name: 1})


@pytest.mark.parametrize("args", [{"strength": 2}, {"weights": "absent"}, {"queue": 0}, {"max_megabytes": 0}])
def test_a_wrong_option_is_told_before_any_replica_starts(args):
    with pytest.raises(UsageError):
        build(args)


def test_the_config_is_one_that_serve_takes():
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(CONFIG)
    (application,) = CONFIG["applications"]
    module, _, name = application["import_path"].partition(":")
    assert (module, name) == (build.__module__, build.__name__)
    bound = build(application["args"])._bound_deployment
    (deployment,) = application["deployments"]
    assert deployment["name"] == bound.name
    assert deployment["max_ongoing_requests"] > application["args"]["queue"] > application["args"]["threads"]
    assert CONFIG["http_options"]["host"] == "127.0.0.1"


def replicas(process):
    """The names of the processes of replicas; one that has just ended has no name any more."""
    names = []
    for one in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names.append(" ".join(one.cmdline()[:1]))
    return [name for name in names if "ServeReplica:sgllie" in name]


def test_serve_runs_the_config_and_follows_the_load(tmp_path):
    """The file itself, but for the port, and for delays with which a test would take minutes."""
    port = free_port()
    config = CONFIG | {"http_options": CONFIG["http_options"] | {"port": port}}
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    scaling |= {"max_replicas": 2, "upscale_delay_s": 1, "downscale_delay_s": 5}
    (path := tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))
    address = f"http://127.0.0.1:{port}/"
    data = pillow(Image.fromarray(RGB).resize((1200, 800)), "JPEG")
    over = threading.Event()

    def client():
        while not over.is_set():
            ask(address, data)

    folder = tempfile.mkdtemp(prefix="ray-")  # the path of a socket has 107 bytes at most
    line = [str(Path(sys.executable).with_name("serve")), "run", str(path)]
    # Without what a cluster of this process has set for itself.
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = own | {"RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)}
    clients = [threading.Thread(target=client) for _ in range(12)]
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: is_up(address), SLOW)
            assert ask(address, data)[2] == ImageProcessor(EnhanceSettings("in", "out", device="cpu"))("", data).data
            for one in clients:
                one.start()
            wait_for(lambda: len(replicas(process)) == 2, SLOW)
            over.set()
            wait_for(lambda: len(replicas(process)) == 1, SLOW)
        finally:
            over.set()
            process.send_signal(signal.SIGINT)
    shutil.rmtree(folder, ignore_errors=True)


def is_up(address):
    try:
        return ask(address, method="GET")[0] == 200
    except OSError:
        return False


def test_every_kind_of_failure_has_a_code():
    assert CODES.keys() <= ERROR_TYPES.keys()


def test_the_pixel_of_the_health_check_is_an_image():
    assert decode(PIXEL).pixels.shape == (1, 1, 3)


def test_defaults_leave_room_to_refuse():
    assert ServiceSettings().queue < 64
