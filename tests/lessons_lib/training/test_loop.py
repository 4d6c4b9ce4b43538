"""The loop learns, repeats itself from its seed, resumes without a trace, and fails with a reason."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from lessons_lib.training import checkpoints, loop
from lessons_lib.training.loop import learning_rate_factor, train, trim_padding


@pytest.fixture
def data():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 8, generator=draw)
    return {"x": x, "y": (x.sum(dim=1) > 0).long()}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 2))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


SETTINGS = {"steps": 20, "batch_size": 8, "lr": 1e-2, "seed": 3, "progress": False}


def run(model, data, loss=loss, **settings):
    return train(model, data, loss, **(SETTINGS | settings))


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_it_learns(data):
    history = run(network(), data, steps=150)
    assert len(history.losses) == 150
    assert sum(history.losses[-10:]) < 0.5 * sum(history.losses[:10])
    assert history.seconds > 0


def test_same_seed_same_run_and_another_seed_another(data):
    models = [network() for _ in range(3)]
    histories = [run(model, data, seed=seed) for model, seed in zip(models, (3, 3, 4), strict=True)]
    assert histories[0].losses == histories[1].losses
    assert same(models[0], models[1])
    assert histories[0].losses != histories[2].losses


def test_the_callers_random_state_and_gradients_are_left_alone(data):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    model = network(9)
    torch.manual_seed(9)
    run(model, data)
    assert torch.equal(torch.rand(3), expected)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


def test_frozen_parameters_stay(data):
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    run(model, data)
    assert torch.equal(model[0].weight, before)


def test_every_pass_sees_every_row_once(data):
    seen = []

    def watch(model, batch):
        seen.extend(batch["row"].tolist())
        return loss(model, batch)

    run(network(), data | {"row": torch.arange(50)}, loss=watch, steps=25, batch_size=4)
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Killed])
def test_resumed_after_a_stop_it_is_the_undisturbed_run(data, tmp_path, monkeypatch, stop):
    undisturbed = network()
    expected = run(undisturbed, data)
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    calls = []

    def stops_once(model, batch):
        calls.append(1)
        if len(calls) == 8:
            raise stop
        return loss(model, batch)

    with pytest.raises(stop):
        run(network(), data, loss=stops_once, checkpoint=tmp_path / "state")
    assert (tmp_path / "state").is_file()
    model = network()
    history = run(model, data, loss=stops_once, checkpoint=tmp_path / "state")
    assert len(calls) == 8 + 20 - 7
    assert history.losses == expected.losses
    assert same(model, undisturbed)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_for_the_step_and_keeps_it(data, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    calls = []

    def interrupted(model, batch):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        run(network(), data, loss=interrupted, checkpoint=tmp_path / "state")
    assert len(calls) == 5
    assert signal.getsignal(signal.SIGINT) is before
    history = run(network(), data, loss=interrupted, checkpoint=tmp_path / "state")
    assert len(calls) == 20
    assert history.losses == run(network(), data).losses


def test_a_killed_process_is_resumed(tmp_path):
    code = f"""
import os, sys, torch
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_loop import loss, network, run
from lessons_lib.training import checkpoints
checkpoints.SECONDS_BETWEEN = 0.0
draw = torch.Generator().manual_seed(0)
x = torch.randn(50, 8, generator=draw)
data = {{"x": x, "y": (x.sum(dim=1) > 0).long()}}
calls = []
def deadly(model, batch):
    calls.append(1)
    if len(calls) == 9 and not os.path.exists({str(tmp_path / "state")!r} + ".again"):
        open({str(tmp_path / "state")!r} + ".again", "w").close()
        os.kill(os.getpid(), 9)
    return loss(model, batch)
model = network()
history = run(model, data, loss=deadly, checkpoint={str(tmp_path / "state")!r})
print(len(calls), history.losses == run(network(), data).losses)
"""
    first, second = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(2))
    assert first.returncode == -signal.SIGKILL
    assert second.stdout.split() == ["12", "True"], second.stderr


@pytest.mark.parametrize("change", ["seed", "data", "weights", "truncated"])
def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(data, tmp_path, monkeypatch, change):
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)

    def stops(model, batch):
        if (tmp_path / "state").exists():
            raise Killed
        return loss(model, batch)

    with pytest.raises(Killed):
        run(network(), data, loss=stops, checkpoint=tmp_path / "state")
    if change == "truncated":
        content = (tmp_path / "state").read_bytes()
        (tmp_path / "state").write_bytes(content[: len(content) // 2])
    model = network(1 if change == "weights" else 0)
    data = data | {"x": -data["x"]} if change == "data" else data
    seed = 4 if change == "seed" else 3
    fresh = network(1 if change == "weights" else 0)
    assert run(model, data, checkpoint=tmp_path / "state", seed=seed).losses == run(fresh, data, seed=seed).losses


def test_it_works_outside_the_main_thread(data, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(network(), data, checkpoint=tmp_path / "state")))
    thread.start()
    thread.join()
    assert len(results[0].losses) == 20


def test_a_loss_that_is_not_finite_says_at_which_step(data):
    calls = []

    def breaks(model, batch):
        calls.append(1)
        return loss(model, batch) * (float("nan") if len(calls) == 3 else 1.0)

    model = network()
    with pytest.raises(FloatingPointError, match="nan at step 3 of 20. Lower lr"):
        run(model, data, loss=breaks)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
    ],
)
def test_bad_settings_are_refused(data, settings, words):
    with pytest.raises(ValueError, match=words):
        run(network(), data, **settings)


def test_bad_data_is_refused(data):
    with pytest.raises(ValueError, match="same, non-zero number"):
        run(network(), data | {"y": data["y"][:3]})
    with pytest.raises(ValueError, match="same, non-zero number"):
        run(network(), {"x": torch.empty(0, 8)})
    with pytest.raises(TypeError, match="dict of tensors"):
        run(network(), {})
    with pytest.raises(TypeError, match="dict of tensors"):
        run(network(), {"x": [1, 2]})
    with pytest.raises(ValueError, match="scalar"):
        run(network(), data, loss=lambda model, batch: model(batch["x"]))
    with pytest.raises(ValueError, match="nothing to train"):
        run(network().requires_grad_(False), data)


def test_learning_rate_rises_then_falls():
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[9] == max(factors) == 1.0
    assert factors[0] == pytest.approx(0.1)
    assert factors[-1] == pytest.approx(1 / 90)
    assert all(0 < learning_rate_factor(step, steps) <= 1 for steps in (1, 2, 3) for step in range(steps))


def test_padding_is_trimmed_by_the_mask():
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    batch = {
        "input_ids": torch.arange(10).view(2, 5),
        "attention_mask": mask,
        "hidden": torch.randn(2, 5, 4),
        "teacher_logits": torch.randn(2, 5),  # five topics, not five tokens
        "topic": torch.tensor([0, 1]),
    }
    trimmed = trim_padding(batch)
    shapes = {name: tuple(tensor.shape) for name, tensor in trimmed.items()}
    assert shapes == {
        "input_ids": (2, 3),
        "attention_mask": (2, 3),
        "hidden": (2, 3, 4),
        "teacher_logits": (2, 5),
        "topic": (2,),
    }
    assert trim_padding({"x": mask})["x"].shape == mask.shape


DISTIL = """
import json, os, sys
from pathlib import Path

import torch

from lessons_lib.distillation import translation_losses
from lessons_lib.tasks import phrase_pairs
from lessons_lib.training import loop
from lessons_lib.tasks.translator import Shape, new_translator

def losses(seed):
    teacher, student = (new_translator(Shape(layers, layers, width=32, heads=2, inner=64, dropout=0.0), seed=layers)
                        for layers in (2, 1))
    pairs = phrase_pairs.pairs("train").select(range(400))
    data = phrase_pairs.tensors(pairs["english"][:], pairs["french"][:])
    data = translation_losses.teacher_outputs(teacher, data)
    loss = translation_losses.word_loss
    return loop.train(student, data, loss, steps=40, batch_size=32, lr=4e-3, seed=seed, progress=False).losses

found = [losses(seed) for seed in (0, 1)]
processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
if os.environ.get("RANK", "0") == "0":
    Path(sys.argv[1], f"{processes}.json").write_text(json.dumps(found))
"""
# Two processes on processor cores too: --cpu would leave it at one without an MPI. Port 0 is any that is free.
LAUNCH = (
    "launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
)


def test_a_distillation_under_accelerate_launch_has_the_losses_of_one_process(tmp_path):
    """Each process takes half of every batch. The curve is nearer to that of one process than that of one process
    with its examples in another order."""
    script = tmp_path / "distil.py"
    script.write_text(DISTIL)
    only_cores = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    for launcher in ([], ["-m", "accelerate.commands.accelerate_cli", *LAUNCH]):
        command = [sys.executable, *launcher, str(script), str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=only_cores)
    (alone, reordered), (together, _) = (torch.tensor(json.loads((tmp_path / f"{n}.json").read_text())) for n in (1, 2))
    assert alone[-1] < 0.8 * alone[0]
    assert (together - alone).abs().mean() < (reordered - alone).abs().mean() / 5
    assert torch.allclose(together, alone, rtol=2e-2)  # BF16 rounds the two halves differently


@pytest.mark.parametrize(
    ("gpu", "launched", "device"),
    [(True, None, "cpu"), (True, "False", "cuda"), (True, "True", "cpu"), (False, "False", "cpu")],
)
def test_a_gpu_is_used_only_under_the_launcher(monkeypatch, gpu, launched, device):
    """A lesson's teachers and tables live in the processor's memory."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        monkeypatch.setenv("ACCELERATE_USE_CPU", launched)
    assert loop.device_type() == device


def test_of_bfloat16_each_device_is_asked_for_itself(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    loop.fast_bfloat16.cache_clear()
    assert (loop.fast_bfloat16(), loop.fast_bfloat16("cuda")) == (False, True)
    loop.fast_bfloat16.cache_clear()
