#!/bin/sh
# transformers 5.24.0: a number that a callback adds to the logs is printed, but no reporter and no history gets it.
#
# Expected: on_log hands each callback the dictionary that is logged; what one adds reaches the console, TensorBoard or
#   Weights & Biases, and the history of the trainer alike, or none of them.
# Seen: reporters run before the callbacks of the user and the console after them, on the same dictionary; the history
#   is a copy made before. The added number is on the console alone; TensorBoard and the history lack it. trainer.log
#   reaches all three.
# Why it matters: whoever counts detectors during training in this way sees the numbers pass by, and finds after the
#   training that nothing has kept them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'transformers==5.24.0' 'accelerate==1.15.0' 'torch==2.13.0' 'numpy==2.4.6' \
    'tensorboard==2.20.0'
cd "$folder"
env/bin/python - <<'PY'
import contextlib
import io
import sys
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import Trainer, TrainerCallback, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        return {"loss": (self.weight * x).square().mean()}


class AddDetectors(TrainerCallback):
    def on_log(self, arguments, state, control, logs, **given):
        logs.setdefault("detectors", 7)


class LogDetectors(TrainerCallback):
    def __init__(self):
        self.trainer = None

    def on_step_end(self, arguments, state, control, **given):
        self.trainer.log({"detectors": 7})


def who_gets_it(folder, callback):
    options = {"report_to": "tensorboard", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    arguments = TrainingArguments(folder, max_steps=1, logging_steps=1, **options)
    trainer = Trainer(Model(), arguments, train_dataset=[{"x": torch.ones(1)}], callbacks=[callback])
    callback.trainer = trainer
    with contextlib.redirect_stdout(io.StringIO()) as console:
        trainer.train()
    (events,) = Path(folder).rglob("events*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    return {
        "console": "detectors" in console.getvalue(),
        "TensorBoard": any("detectors" in tag for tag in accumulator.Tags()["scalars"]),
        "history": any("detectors" in entry for entry in trainer.state.log_history),
    }


seen = {"added in on_log": who_gets_it("added", AddDetectors()), "trainer.log": who_gets_it("logged", LogDetectors())}
for name, places in seen.items():
    print(f"{name}: {places}")
known = [(True, False, False), (True, True, True)]
sys.exit(0 if [tuple(places.values()) for places in seen.values()] == known else "The behavior has changed.")
PY
