"""Images shared by several processes: the same numbers as one process, to the last digit."""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from PIL import Image
from torch.multiprocessing import ProcessExitedException

from rwpm_fast import cli
from rwpm_fast.evaluate import ConfigError, Processes, distributed, from_environment, launch
from rwpm_fast.evaluate.distributed import device_name


@pytest.fixture
def photos(tmp_path):
    """Five photos in images/ and labels/, one of which has labels of another size."""
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for index in range(5):
        size = (40, 56)
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"images/{index}.png")
        truth = random.choice(np.array([0, 1, 255], np.uint8), size if index != 3 else (3, 3))
        Image.fromarray(truth).save(tmp_path / f"labels/{index}.png")
    return tmp_path


def arguments_of(photos, file, *more):
    data = ["--images", photos / "images", "--labels", photos / "labels"]
    walk = ["--steps", 2, "--threads", 1, "--components", "obstacle_track", "--scores", "energy", "max_logit"]
    return [*map(str, [*data, *walk, "--json", file, *more])]


def numbers(file):
    """What an evaluation wrote, without times and what the processes are."""
    record = json.loads(file.read_text())
    for line in record["lines"]:
        for name in ("network_seconds_median", "walk_seconds_median", "fps"):
            line.pop(name)
    return {name: record[name] for name in ("title", "lines", "failures", "notes")}


def test_the_same_to_the_last_digit(photos, capfd):
    assert cli.main(["evaluate", *arguments_of(photos, photos / "one.json")]) == 1
    one, _ = capfd.readouterr()
    alone = numbers(photos / "one.json")
    assert alone["lines"][1]["images"] == 4 and len(alone["failures"]) == 1

    # Three processes of our own.
    shared = arguments_of(photos, photos / "three.json", "--processes", 3, "--cache", photos / "cache")
    assert cli.main(["evaluate", *shared]) == 1
    three, err = capfd.readouterr()
    assert numbers(photos / "three.json") == alone
    assert json.loads((photos / "three.json").read_text())["settings"]["processes"] == 3
    table = [line for line in one.splitlines() if line.startswith("|")]
    assert [line for line in three.splitlines() if line.startswith("|")] == table  # printed once
    assert err.count("expected the photo's size 40x56, got 3x3") == 1
    assert len(list((photos / "cache").iterdir())) == 4 * 3  # photos and walks: none, published, anchored

    # Two of torchrun's, without the broken photo since torchrun takes any status for a crash.
    for part in ("images", "labels"):
        (photos / part / "3.png").unlink()
    assert cli.main(["evaluate", *arguments_of(photos, photos / "one.json")]) == 0
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*run, "rwpm_fast", "evaluate", *arguments_of(photos, photos / "two.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert numbers(photos / "two.json") == numbers(photos / "one.json")


def test_items_are_sharded_and_gathered():
    items = list("abcde")
    shards = [Processes(rank, 3).shard(iter(items)) for rank in range(3)]
    assert shards == [["a", "d"], ["b", "e"], ["c"]]
    alone = Processes()
    assert alone.first and alone.shard(items) == alone.all_gather(items) == items
    assert alone.reduce(7) == alone.broadcast(7) == 7


def tenfold_rank(unit):
    return unit * (10 + int(os.environ["RANK"]))


def gives_up():
    """The second process raises while the first waits for it, which raises too."""
    with from_environment() as processes:
        if not processes.first:
            raise OSError(errno.ENOSPC, "the disk is full")
        processes.all_gather([1])


def notices():
    """The first process waits for the second, which leaves without an error that others could see."""
    try:
        with from_environment() as processes:
            if not processes.first:
                raise FileNotFoundError
            processes.all_gather([1])
    except ConnectionError as error:
        return str(error)
    except FileNotFoundError:
        return None


class UnpicklableError(ValueError):
    def __init__(self, *, what):
        super().__init__(f"no {what}")


def is_killed():
    with from_environment() as processes:
        if not processes.first:
            os.kill(os.getpid(), signal.SIGKILL)
        processes.all_gather([1])


def test_launch_returns_the_value_of_the_first_process():
    assert launch(2, tenfold_rank, 3) == 30


NO_NETWORK = """
import ctypes, os, sys
sys.path[:0] = {paths!r}
from python_tests.evaluate.test_distributed import sums_up
from rwpm_fast.evaluate import launch
if __name__ == "__main__":
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000 | 0x40000000):  # users, network
        sys.exit(77)
    print(launch(3, sums_up))
"""


def sums_up():
    with from_environment() as processes:
        return processes.all_gather([processes.rank]), processes.broadcast("all" if processes.first else None)


def test_no_network_is_needed(tmp_path):
    """In a network namespace of its own no interface is up, not even the one of this machine to itself."""
    script = tmp_path / "alone.py"
    script.write_text(NO_NETWORK.format(paths=sys.path))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode == 77:
        pytest.skip("this user may not make namespaces")
    assert done.stdout == "([0, 1, 2], 'all')\n", done.stderr


def test_the_reason_why_a_process_cannot_join_is_told(monkeypatch):
    def refuse(*arguments, **settings):
        raise RuntimeError("Unable to find address for: eth7")

    monkeypatch.setattr(distributed.dist, "init_process_group", refuse)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ConnectionError, match="processes of torchrun: Unable to find address for: eth7"),
        from_environment(),
    ):
        pass


def test_cuda_is_one_gpu_for_each_process(monkeypatch):
    assert device_name("cuda") == "cuda"
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert [device_name(name) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]


def test_an_error_of_a_process_is_raised():
    """The cause, and not the lost connection that it means to the other process."""
    with pytest.raises(OSError, match="the disk is full") as caught:
        launch(2, gives_up)
    assert caught.value.errno == errno.ENOSPC and not isinstance(caught.value, ConnectionError)
    assert "in process 1 of 2" in str(caught.value.__cause__) and "in gives_up" in str(caught.value.__cause__)


def test_a_lost_connection_is_an_error_of_its_own():
    assert "another process gave up or went away" in launch(2, notices)


def test_an_error_that_cannot_be_pickled_is_raised_as_text():
    error, trace = pickle.loads(distributed._pickled(UnpicklableError(what="pickle")))
    assert type(error) is RuntimeError and str(error) == "UnpicklableError: no pickle" and "UnpicklableError" in trace
    error, _ = pickle.loads(distributed._pickled(ConfigError("{limit}: {got}", {"got": 0})))
    assert type(error) is ConfigError and error.text({"limit": "--limit"}) == "--limit: 0"


def test_a_process_that_is_killed_is_named():
    with pytest.raises(ChildProcessError, match="process 1 of 2 was killed by SIGKILL; was it out of memory"):
        launch(2, is_killed)


def test_a_process_that_exits_gives_its_status(tmp_path):
    exited = ProcessExitedException("", error_index=1, error_pid=0, exit_code=7)
    with pytest.raises(ChildProcessError, match="process 1 of 2 exited with status 7"):
        distributed._raise_cause(exited, 2, tmp_path)


@pytest.mark.parametrize("seconds", [1.0, 6.0], ids=["while starting", "while walking"])
def test_an_interruption_of_the_parent_ends_all(photos, seconds):
    """As a job manager interrupts: the signal comes to one process alone, and the others have a week's walk to go."""
    long = arguments_of(photos, photos / "one.json", "--processes", 2, "--steps", 10**12)
    process = subprocess.Popen(
        [sys.executable, "-m", "rwpm_fast", "evaluate", *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    )
    time.sleep(seconds)
    try:
        for _ in range(12):  # Python loses an interruption that comes while it cleans up some object
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=10)  # which waits for all that hold the pipes
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            pytest.fail("it runs on")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0 and not (photos / "one.json").exists()
