"""Time, bytes and memory: against known waits, known sizes and known allocations."""

import itertools
import statistics
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model

from lessons_lib.measure import benchmark, memory, model_size

MEGABYTE = 1_000_000
NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(NUMBERS, min_size=2, max_size=60))
def test_percentile_agrees_with_the_standard_library(samples):
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    assert [benchmark.percentile(samples, p) for p in range(1, 100)] == pytest.approx(cuts, abs=1e-6)


def test_percentile_interpolates_and_ignores_the_order():
    assert benchmark.percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert benchmark.percentile([10.0, 20.0, 30.0, 40.0, 50.0], 90) == pytest.approx(46.0)
    assert benchmark.percentile([7.0], 99) == 7.0


@pytest.mark.parametrize(
    ("samples", "p"),
    [([], 50), ([1.0], 101), ([1.0], -1), ([1.0], float("nan")), ([float("nan"), 1.0], 50), ([[1.0]], 50)],
)
def test_percentile_refuses(samples, p):
    with pytest.raises(ValueError, match=r"percentile|between"):
        benchmark.percentile(samples, p)


def test_latency_is_of_each_call_after_the_warm_up(monkeypatch):
    """Against a clock that only the calls move: 50 ms each in the warm-up, then 1, 2, ... 20 ms."""
    clock = [0]
    waits = [50, 50, *range(1, 21)]
    monkeypatch.setattr("time.perf_counter_ns", lambda: clock[0])

    def wait():
        clock[0] += 1_000_000 * waits.pop(0)

    timing = benchmark.latency(wait, repeats=20, warmup=2)
    assert waits == []
    assert timing.samples == tuple(range(1, 21))
    assert (timing.p50, timing.p95) == (10.5, pytest.approx(19.05))
    assert timing.threads == torch.get_num_threads()
    assert "p95" in repr(timing)


def test_compare_takes_turns_in_a_changing_order():
    calls = []
    benchmark.compare({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=30, warmup=2)
    rounds = ["".join(calls[start : start + 2]) for start in range(0, len(calls), 2)]
    assert len(rounds) == 32
    assert set(rounds) == {"ab", "ba"}


def test_a_real_wait_is_measured():
    timing = benchmark.latency(lambda: time.sleep(0.005), repeats=5, warmup=1)
    assert min(timing.samples) >= 5.0


def test_ratio_is_how_many_times_as_long_and_its_interval_holds_it(monkeypatch):
    clock, spent = [0], itertools.count(1_000_000, 10_000)
    monkeypatch.setattr("time.perf_counter_ns", lambda: clock[0])

    def take(times):
        clock[0] += times * next(spent)

    found = benchmark.compare({"slow": lambda: take(2), "fast": lambda: take(1)}, repeats=20)
    ratio = found.ratio("slow", "fast")
    assert ratio.low <= ratio.value <= ratio.high
    assert 1.9 < ratio.value < 2.1
    assert found.ratio("fast", "slow").value == pytest.approx(1 / ratio.value, rel=0.1)
    with pytest.raises(ValueError, match="not compared"):
        found.ratio("slow", "faster")


def test_a_machine_that_slows_down_does_not_change_the_ratio():
    slowing = [1.0 + step / 10 for step in range(40)]
    twice = benchmark.Comparison(
        {"a": benchmark.Timing(tuple(2 * s for s in slowing), 1), "b": benchmark.Timing(tuple(slowing), 1)}
    )
    ratio = twice.ratio("a", "b")
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("rounds", [3, 4, 5, 6, 7, 9, 40])
def test_the_ratio_of_equal_functions_has_an_interval_around_one(rounds):
    """In 95 % of cases, at the numbers of rounds that the lessons use; 300 trials, three standard errors below."""
    generator = torch.Generator().manual_seed(rounds)
    held = 0
    for _ in range(300):
        noise = 1 + torch.rand((2, rounds), generator=generator, dtype=torch.float64)
        same = {name: benchmark.Timing(tuple(row.tolist()), 1) for name, row in zip("ab", noise, strict=True)}
        held += 1.0 in benchmark.Comparison(same).ratio("a", "b")
    assert held >= 0.912 * 300


def test_a_ratio_needs_two_rounds():
    once = benchmark.compare({"a": lambda: time.sleep(0.001), "b": lambda: time.sleep(0.001)}, repeats=1)
    with pytest.raises(ValueError, match="at least two rounds"):
        once.ratio("a", "b")


def test_throughput_is_all_items_over_all_time():
    assert benchmark.throughput([10.0, 30.0], batch_size=8) == pytest.approx(400.0)  # 16 items in 40 ms
    assert benchmark.throughput(benchmark.Timing((10.0, 30.0), 1), 8) == pytest.approx(400.0)
    for samples, size in [([], 8), ([0.0], 8), ([1.0], 0)]:
        with pytest.raises(ValueError, match="throughput needs"):
            benchmark.throughput(samples, size)


def test_threads_are_set_and_restored():
    before = torch.get_num_threads()
    with benchmark.threads(1):
        assert torch.get_num_threads() == 1
    with benchmark.threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="at least 1"), benchmark.threads(0):
        pass


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 8)
        self.out = torch.nn.Linear(8, 50, bias=False)
        self.out.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(8)


def test_state_bytes_counts_buffers_and_shared_tensors_once():
    norm = 4 * 8 * 4 + 8  # weight, bias, mean and variance in FP32, one int64 counter
    assert model_size.state_bytes(Tied()) == 50 * 8 * 4 + norm
    assert model_size.state_bytes(Tied().half().state_dict()) == 50 * 8 * 2 + norm // 2 + 4
    assert model_size.state_bytes({"a": torch.ones(3), "b": torch.ones(3)}) == 24
    assert model_size.state_bytes({}) == 0


def test_size_on_disk_is_the_size_of_the_saved_file(tmp_path):
    save_file({"tensor": torch.ones(100)}, tmp_path / "one.safetensors")
    assert model_size.size_on_disk(torch.ones(100)) == (tmp_path / "one.safetensors").stat().st_size
    save_model(Tied(), str(tmp_path / "tied.safetensors"))
    assert model_size.size_on_disk(Tied()) == pytest.approx((tmp_path / "tied.safetensors").stat().st_size, abs=100)
    assert model_size.size_on_disk(tmp_path) == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_size_on_disk_takes_views_and_odd_types():
    fused = torch.arange(1200).reshape(300, 4)
    views = {"query": fused[:100], "key": fused[100:200], "value": fused[200:]}
    assert 9600 < model_size.size_on_disk(views) < 9600 + 400
    assert model_size.size_on_disk(torch.ones(64, 64).t()) > 64 * 64 * 4
    assert model_size.size_on_disk(torch.ones(4096, dtype=torch.bfloat16)) < 4096 * 2 + 200
    assert model_size.size_on_disk(torch.nn.Parameter(torch.ones(8))) > 32


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
def test_what_is_no_plain_tensor_is_refused_with_the_way_out(tmp_path):
    packed = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8)
    with pytest.raises(TypeError, match="file's path"):
        model_size.size_on_disk({"packed": packed})
    with pytest.raises(TypeError, match="file's path"):
        model_size.state_bytes({"scale": 0.5})
    with pytest.raises(TypeError, match="state dict"):
        model_size.state_bytes([torch.ones(3)])
    with pytest.raises(ValueError, match="no file or folder"):
        model_size.size_on_disk(tmp_path / "absent")


@pytest.mark.parametrize("meter", [memory.peak_memory, memory._sampled_peak])
def test_peak_memory_sees_a_tensor_that_is_gone_when_the_call_ends(meter):
    def work():
        block = torch.ones(25 * MEGABYTE)
        time.sleep(0.2)  # so long that the sampling thread has its turn on a busy machine
        return block.sum().item()

    def nothing():
        return None

    first, again = meter(work), meter(work)
    assert 95 * MEGABYTE < first < 130 * MEGABYTE
    assert 95 * MEGABYTE < again < 130 * MEGABYTE
    assert meter(nothing) < 5 * MEGABYTE


def test_peak_memory_calls_once_also_when_the_call_cannot_open_a_file():
    calls = []

    def absent():
        calls.append(None)
        open("/absent/file")

    with pytest.raises(FileNotFoundError):
        memory.peak_memory(absent)
    assert len(calls) == 1


def test_memory_by_step_is_of_a_fresh_process_and_never_falls():
    held = torch.ones(50 * MEGABYTE)  # must not count there
    peaks = memory.memory_by_step({"torch": "import torch", "work": "x = torch.ones(25_000_000)", "after": "del x"})
    assert list(peaks) == ["torch", "work", "after"]
    assert 90 * MEGABYTE < peaks["work"] - peaks["torch"] < 130 * MEGABYTE
    assert peaks["after"] >= peaks["work"]
    assert peaks["torch"] < 500 * MEGABYTE
    assert held.numel()


def test_a_failing_step_says_what_went_wrong():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        memory.memory_by_step({"wrong": "1 / 0"})


def test_the_machine_is_stated():
    stated = benchmark.machine()
    assert stated["cores"] >= 1
    assert stated["torch"] == torch.__version__
    assert stated["processor"]


def test_compare_refuses_nothing_to_do():
    for arguments in [({},), ({"a": print}, 0), ({"a": print}, 1, -1)]:
        with pytest.raises(ValueError, match="at least one function"):
            benchmark.compare(*arguments)
